//! Kafka → sink: one client reads every partition of the topics, from where the sink stands on.
//!
//! ```text
//!   ┌────────── look: is it there, which partitions, which offsets ◄──────────┐
//!   ▼                                                                         │ back-off with jitter
//!  open (each partition where the sink stands) ─► signals ─► sink             │
//!            Readable(partition) · Looked(every 2 s) · a sweep ──► reopen ────┘
//! ```
//!
//! It runs on a thread of its own: the library's calls block, and a sink may. Kafka or a topic that is away, at the start or
//! later, is waited for: said once, shown in the condition, and gone on with by itself. Whatever is strange about a partition
//! (made anew, new, overtaken by retention, stuck) and whatever the sink cannot take has one answer: look again and open
//! again where the sink stands.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use tailrace_runtime::{health::Condition, shutdown::Shutdown};
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::kafka::{self, Client, Kafka, Look, Message, Partition, Read, Reader};

/// How often the cluster is looked at while all is well.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long a partition may stand still before its end until the client is replaced.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How often shutdown is noticed, and partitions are looked at that did not call.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The most records given to the sink at once.
const BATCH_RECORDS_MAX: usize = 256;

/// What reading fails with where the place to read is not there: retention took it, or the topic is another.
const LOST_PLACE: &[RDKafkaErrorCode] = &[
    RDKafkaErrorCode::OffsetOutOfRange,
    RDKafkaErrorCode::AutoOffsetReset,
    RDKafkaErrorCode::UnknownTopicOrPartition,
    RDKafkaErrorCode::UnknownTopic,
    RDKafkaErrorCode::UnknownPartition,
];

/// Why a sink cannot go on for now.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The next offset to read, by partition.
pub type Positions = BTreeMap<Partition, i64>;

/// Where records go. It is called on the consumer's thread, and may block it. After a failure it is asked again where it
/// stands.
pub trait Sink {
    /// What it makes of a record.
    type Entry;

    /// Makes an entry of a record.
    fn entry(&self, partition: &Partition, message: &Message<'_>) -> Self::Entry;

    /// Learns what is there; answers where it stands in each partition.
    fn open(&mut self, look: &Look) -> Result<Positions, Failure>;

    /// Takes what was read of a partition, in order, up to before the offset `next`.
    fn put(&mut self, partition: &Partition, entries: Vec<Self::Entry>, next: i64) -> Result<(), Failure>;

    /// Learns that the end of a partition was reached; and the next offset, when it is known: markers of transactions lie
    /// between the last record and it.
    fn reach_end(&mut self, partition: &Partition, next: Option<i64>) -> Result<(), Failure>;

    /// Learns, now and then, what a partition holds (its first offset and its end) and up to where it was read.
    fn watch(&mut self, partition: &Partition, start: i64, end: i64, next: i64) -> Result<(), Failure>;

    /// Learns that a topic is gone or was made anew, or may have been: where it stood there means nothing any more.
    fn begin_anew(&mut self, topic: &Arc<str>);

    /// Whether it has everything there is.
    fn is_current(&self) -> bool;
}

/// Reads topics into a sink.
#[derive(Debug)]
pub struct Consumer<S> {
    /// The cluster.
    pub kafka: Kafka,
    /// The topics to read.
    pub topics: BTreeSet<Arc<str>>,
    /// Where the records go.
    pub sink: S,
    /// Tells whether Kafka is there and the sink current.
    pub condition: Condition,
    /// The request to finish.
    pub shutdown: Shutdown,
}

/// What happened.
enum Signal {
    Readable(usize),
    /// What the scout saw, and what had been read when it set out.
    Looked(Positions, KafkaResult<Look>),
}

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("Kafka at {brokers} cannot be reached")]
    Unreachable { brokers: String, source: KafkaError },
    #[error("none of the topics {0:?} exists: make them with `cdc-relay init`")]
    NoTopics(Vec<Arc<str>>),
    #[error("what was read cannot be kept")]
    Sink(#[source] Failure),
    #[error("Kafka refused the assignment")]
    Assignment(#[source] KafkaError),
    #[error("{partition} cannot be read on")]
    Partition { partition: Partition, source: KafkaError },
    #[error("the client failed")]
    Client(#[source] KafkaError),
    #[error("the partitions have changed")]
    Changed,
    #[error("{0} ends before what was read of it: its topic was made anew")]
    Recreated(Partition),
    #[error("{0} stands still before its end")]
    Stuck(Partition),
}

impl Trouble {
    /// The partition that does not have the place any more where it was read.
    fn lost_place(&self) -> Option<&Partition> {
        match self {
            Self::Recreated(partition) => Some(partition),
            Self::Partition { partition, source } => {
                let code = source.rdkafka_error_code()?;
                LOST_PLACE.contains(&code).then_some(partition)
            }
            Self::Unreachable { .. }
            | Self::NoTopics(_)
            | Self::Sink(_)
            | Self::Assignment(_)
            | Self::Client(_)
            | Self::Changed
            | Self::Stuck(_) => None,
        }
    }
}

/// The consumer's thread is gone.
#[derive(Debug, thiserror::Error)]
#[error("the consumer broke down")]
pub struct Broken(#[source] Failure);

impl<S: Sink> Consumer<S> {
    /// Runs on a thread of its own until shutdown is requested.
    pub async fn run(self) -> Result<(), Broken>
    where
        S: Send + 'static,
    {
        let (done, ended) = oneshot::channel();
        let work = move || {
            self.work();
            // Whoever waited may be gone.
            let _ = done.send(());
        };
        let named = thread::Builder::new().name("consumer".to_owned());
        named.spawn(work).map_err(|error| Broken(error.into()))?;
        ended.await.map_err(|error| Broken(error.into()))
    }

    fn work(mut self) {
        let mut told = false;
        let mut delays = backoff();
        while !self.shutdown.requested() {
            let began = Instant::now();
            let Err(trouble) = self.session(&mut told) else { return };
            if let Some(partition) = trouble.lost_place() {
                self.sink.begin_anew(&partition.topic);
            }
            if began.elapsed() > STUCK_AFTER {
                delays = backoff();
            }
            self.tell(&trouble, &mut told);
            self.pause(delays.next().unwrap_or(BACKOFF_MAX));
        }
    }

    /// One client, as long as it is good. `Ok` when shutdown was requested.
    fn session(&mut self, told: &mut bool) -> Result<(), Trouble> {
        let client = self.kafka.client().map_err(Trouble::Client)?;
        let look =
            kafka::look(&client, self.topics.iter().cloned()).map_err(|source| self.unreachable(source))?;
        look.missing.iter().for_each(|topic| self.sink.begin_anew(topic));
        if look.partitions.is_empty() {
            return Err(Trouble::NoTopics(look.missing));
        }
        let positions = self.sink.open(&look).map_err(Trouble::Sink)?;
        let offsets: Vec<_> =
            positions.iter().map(|(partition, offset)| (partition.clone(), *offset)).collect();
        let (sender, signals) = mpsc::channel();
        let readable = sender.clone();
        let reader = Reader::open(Arc::clone(&client), &offsets, move |index| {
            // The session is over when nobody listens.
            let _ = readable.send(Signal::Readable(index));
        })
        .map_err(Trouble::Assignment)?;
        let read = Arc::new(Mutex::new(positions));
        let scout = Scout::start(client, self.topics.clone(), Arc::clone(&read), sender);
        info!(kafka.partitions = offsets.len(), "reading the topics");
        *told = false;
        self.report(&look);
        let missing = !look.missing.is_empty();
        let outcome =
            Session { consumer: self, reader, read, watch: Watchdog::default(), missing }.run(&signals);
        scout.stop();
        outcome
    }

    /// Shows in the condition what a look found.
    fn report(&self, look: &Look) {
        if !look.missing.is_empty() {
            self.condition
                .fail(format!("topics are missing: {:?}; make them with `cdc-relay init`", look.missing));
        } else if self.sink.is_current() {
            self.condition.ok();
        } else {
            self.condition.fail("reading up to the end of the topics");
        }
    }

    fn tell(&self, trouble: &Trouble, told: &mut bool) {
        let chain = chain(trouble);
        self.condition.fail(chain.clone());
        if !std::mem::replace(told, true) {
            warn!(error = chain, "the topics cannot be read, trying again");
        }
    }

    fn unreachable(&self, source: KafkaError) -> Trouble {
        Trouble::Unreachable { brokers: self.kafka.brokers().to_owned(), source }
    }

    fn pause(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while !self.shutdown.requested() && Instant::now() < until {
            thread::sleep(SWEEP_INTERVAL.min(until - Instant::now()));
        }
    }
}

/// One reader over its signals.
struct Session<'a, S> {
    consumer: &'a mut Consumer<S>,
    reader: Reader,
    /// Up to where each partition was read.
    read: Arc<Mutex<Positions>>,
    watch: Watchdog,
    /// Whether topics are missing.
    missing: bool,
}

impl<S: Sink> Session<'_, S> {
    fn run(mut self, signals: &mpsc::Receiver<Signal>) -> Result<(), Trouble> {
        while !self.consumer.shutdown.requested() {
            match signals.recv_timeout(SWEEP_INTERVAL) {
                Ok(Signal::Readable(index)) => self.drain(index)?,
                Ok(Signal::Looked(before, look)) => self.handle_look(&before, look)?,
                // The callback tells of the change from empty to not empty only, so a missed one would stay missed.
                Err(_) => (0..self.reader.partitions()).try_for_each(|index| self.drain(index))?,
            }
            if let Some(error) = self.reader.serve() {
                return Err(Trouble::Client(error));
            }
        }
        Ok(())
    }

    /// Takes everything the partition has, in batches.
    fn drain(&mut self, index: usize) -> Result<(), Trouble> {
        loop {
            let partition = self.reader.partition(index).clone();
            let batch = self.batch(index, &partition);
            if let Some(next) = batch.next {
                self.consumer.sink.put(&partition, batch.entries, next).map_err(Trouble::Sink)?;
                positions(&self.read).insert(partition.clone(), next);
            }
            match batch.rest {
                Rest::Empty => return Ok(()),
                Rest::More => {}
                Rest::End(next) => self.reach_end(&partition, next)?,
                Rest::Failed(source) => return Err(Trouble::Partition { partition, source }),
            }
        }
    }

    fn batch(&self, index: usize, partition: &Partition) -> Batch<S::Entry> {
        let mut batch = Batch { entries: Vec::new(), next: None, rest: Rest::More };
        while batch.entries.len() < BATCH_RECORDS_MAX {
            batch.rest = match self.reader.poll(index, Duration::ZERO) {
                Some(Read::Record(message)) => {
                    batch.entries.push(self.consumer.sink.entry(partition, &message));
                    batch.next = Some(message.offset() + 1);
                    continue;
                }
                Some(Read::End(next)) => Rest::End(next),
                Some(Read::Failed(error)) => Rest::Failed(error),
                None => Rest::Empty,
            };
            break;
        }
        batch
    }

    fn reach_end(&mut self, partition: &Partition, next: Option<i64>) -> Result<(), Trouble> {
        let was_current = self.consumer.sink.is_current();
        self.consumer.sink.reach_end(partition, next).map_err(Trouble::Sink)?;
        if let Some(next) = next {
            positions(&self.read).insert(partition.clone(), next);
        }
        if !was_current && self.consumer.sink.is_current() && !self.missing {
            self.consumer.condition.ok();
        }
        Ok(())
    }

    fn handle_look(&mut self, before: &Positions, look: KafkaResult<Look>) -> Result<(), Trouble> {
        let look = match look {
            Ok(look) => look,
            Err(source) => {
                // The client reconnects by itself: readers go on.
                let trouble = self.consumer.unreachable(source);
                self.consumer.tell(&trouble, &mut self.watch.told);
                return Ok(());
            }
        };
        if std::mem::take(&mut self.watch.told) {
            info!("Kafka is back");
        }
        let same = look.partitions.len() == self.reader.partitions()
            && look
                .partitions
                .iter()
                .enumerate()
                .all(|(index, (partition, ..))| partition == self.reader.partition(index));
        if !same {
            return Err(Trouble::Changed);
        }
        for (partition, start, end) in &look.partitions {
            let next = positions(&self.read).get(partition).copied().unwrap_or_default();
            self.consumer.sink.watch(partition, *start, *end, next).map_err(Trouble::Sink)?;
            // What was read while the scout was on its way lies past the end that it saw, and is no sign of anything.
            let whole = before.get(partition).is_none_or(|read| read <= end);
            self.watch.check(partition, whole, next, *end)?;
        }
        self.consumer.report(&look);
        Ok(())
    }
}

/// What a partition gave.
struct Batch<E> {
    entries: Vec<E>,
    /// Up to where; none: nothing.
    next: Option<i64>,
    rest: Rest,
}

/// What a partition has after a batch.
enum Rest {
    Empty,
    More,
    End(Option<i64>),
    Failed(KafkaError),
}

/// Notices what a client does not.
#[derive(Default)]
struct Watchdog {
    /// Whether trouble was told that is not over.
    told: bool,
    /// Partitions whose log ended before what was read of it, at the last look.
    shrunk: BTreeSet<Partition>,
    /// Where a partition stood before its end, and since when.
    standing: BTreeMap<Partition, (i64, Instant)>,
}

impl Watchdog {
    fn check(&mut self, partition: &Partition, whole: bool, next: i64, end: i64) -> Result<(), Trouble> {
        // Twice: right after a broker's restart it may answer before it has recovered its end.
        if whole {
            self.shrunk.remove(partition);
        } else if !self.shrunk.insert(partition.clone()) {
            return Err(Trouble::Recreated(partition.clone()));
        }
        match self.standing.get(partition) {
            Some((at, since)) if *at == next && next < end => {
                if since.elapsed() > STUCK_AFTER {
                    return Err(Trouble::Stuck(partition.clone()));
                }
            }
            Some(_) | None => {
                self.standing.insert(partition.clone(), (next, Instant::now()));
            }
        }
        Ok(())
    }
}

/// Looks at the cluster beside the reader, whose way it must not block.
struct Scout {
    stop: mpsc::Sender<()>,
}

impl Scout {
    fn start(
        client: Arc<Client>,
        topics: BTreeSet<Arc<str>>,
        read: Arc<Mutex<Positions>>,
        signals: mpsc::Sender<Signal>,
    ) -> Self {
        let (stop, stopped) = mpsc::channel();
        thread::spawn(move || {
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                let before = positions(&read).clone();
                let look = kafka::look(&client, topics.iter().cloned());
                if signals.send(Signal::Looked(before, look)).is_err() {
                    return;
                }
            }
        });
        Self { stop }
    }

    fn stop(self) {
        drop(self.stop);
    }
}

fn positions(read: &Mutex<Positions>) -> MutexGuard<'_, Positions> {
    // Each change is one insert, which a panic cannot leave half done.
    read.lock().unwrap_or_else(PoisonError::into_inner)
}

fn backoff() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(BACKOFF_MIN)
        .with_max_delay(BACKOFF_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
