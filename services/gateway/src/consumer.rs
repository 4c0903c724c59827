//! Kafka → feed: one client reads every partition of the topics, from a bounded look-back on, for all subscribers.
//!
//! ```text
//!   ┌────────── look: is it there, which partitions, which offsets ◄──────────┐
//!   ▼                                                                         │ back-off with jitter
//!  open (each partition where the feed stands) ─► signals ─► feed             │
//!            Readable(partition) · Looked(every 2 s) · a sweep ──► reopen ────┘
//! ```
//!
//! It runs on a thread of its own: the library's calls block. Kafka or a topic that is away, at the start or later, is
//! waited for: said once, shown as not ready, and gone on with by itself. Whatever is strange about a partition (made
//! anew, new, overtaken by retention, stuck) has one answer: look again and open again where the feed stands.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use metrics::{counter, gauge};
use rdkafka::error::{KafkaError, KafkaResult};
use tailrace_runtime::{health::Condition, shutdown::Shutdown};
use tracing::{info, warn};

use crate::{
    cursor::cluster_mark,
    event::{Entry, Partition},
    feed::PARTITIONS_MAX,
    hub::Hub,
    kafka::{self, Client, Kafka, Look, Read, Reader},
};

/// How often the cluster is looked at while all is well.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long a partition may stand still before its end until the client is replaced.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How often shutdown is noticed, and partitions are looked at that did not call.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The most records put into the feed at once.
const BATCH_RECORDS_MAX: usize = 256;

/// The consumer of the process.
#[derive(Debug)]
pub struct Consumer {
    /// The cluster.
    pub kafka: Kafka,
    /// The topics to read.
    pub topics: BTreeSet<Arc<str>>,
    /// How many offsets before its end a partition is read from at first.
    pub look_back_offsets: i64,
    /// Where the events go.
    pub hub: Arc<Hub>,
    /// Tells whether Kafka is there and current.
    pub condition: Condition,
    /// The request to finish.
    pub shutdown: Shutdown,
}

/// What happened.
enum Signal {
    Readable(usize),
    /// What the scout saw, and what had been read when it set out.
    Looked(Next, KafkaResult<Look>),
}

/// The next offset to read, by partition.
type Next = BTreeMap<Partition, i64>;

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("Kafka at {brokers} cannot be reached")]
    Unreachable { brokers: String, source: KafkaError },
    #[error("none of the topics {0:?} exists: make them with `cdc-relay init`")]
    NoTopics(Vec<Arc<str>>),
    #[error("{0} partitions are more than the {PARTITIONS_MAX} that one gateway reads")]
    TooManyPartitions(usize),
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

impl Consumer {
    /// Runs until shutdown is requested. Blocks: give it a thread.
    pub fn run(mut self) {
        let mut told = false;
        let mut delays = backoff();
        while !self.shutdown.requested() {
            let began = Instant::now();
            let Err(trouble) = self.session(&mut told) else { return };
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
        let offsets = self.open(&look)?;
        let (sender, signals) = mpsc::channel();
        let readable = sender.clone();
        let reader = Reader::open(Arc::clone(&client), &offsets, move |index| {
            // The session is over when nobody listens.
            let _ = readable.send(Signal::Readable(index));
        })
        .map_err(Trouble::Assignment)?;
        let scout = Scout::start(client, self.topics.clone(), Arc::clone(&self.hub), sender);
        info!(kafka.partitions = offsets.len(), "reading the topics");
        *told = false;
        self.report(&look);
        let outcome =
            Session { consumer: self, reader, watch: Watchdog::default(), missing: !look.missing.is_empty() }
                .run(&signals);
        scout.stop();
        outcome
    }

    /// Tells the feed what is there; answers where to read.
    fn open(&self, look: &Look) -> Result<Vec<(Partition, i64)>, Trouble> {
        if look.partitions.is_empty() {
            return Err(Trouble::NoTopics(look.missing.clone()));
        }
        if look.partitions.len() > PARTITIONS_MAX {
            return Err(Trouble::TooManyPartitions(look.partitions.len()));
        }
        Ok(self.hub.update(|feed| {
            feed.handle_cluster(cluster_mark(&look.cluster));
            let open = |(partition, start, end): &(Partition, i64, i64)| {
                (partition.clone(), feed.handle_open(partition, *start, *end, self.look_back_offsets))
            };
            look.partitions.iter().map(open).collect()
        }))
    }

    /// Shows in the readiness what a look found.
    fn report(&self, look: &Look) {
        if !look.missing.is_empty() {
            self.condition
                .fail(format!("topics are missing: {:?}; make them with `cdc-relay init`", look.missing));
        } else if self.hub.read(|feed| feed.is_current()) {
            self.condition.ok();
        } else {
            self.condition.fail("reading up to the end of the topics");
        }
    }

    fn tell(&self, trouble: &Trouble, told: &mut bool) {
        let chain = chain(trouble);
        self.condition.fail(chain.clone());
        if !std::mem::replace(told, true) {
            warn!(error = chain, "waiting for Kafka");
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
struct Session<'a> {
    consumer: &'a Consumer,
    reader: Reader,
    watch: Watchdog,
    /// Whether topics are missing.
    missing: bool,
}

impl Session<'_> {
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
            let (entries, rest) = self.batch(index);
            let partition = self.reader.partition(index).clone();
            if !entries.is_empty() {
                self.put(&partition, entries);
            }
            match rest {
                Rest::Empty => return Ok(()),
                Rest::More => {}
                Rest::End(next) => self.reach_end(&partition, next),
                Rest::Failed(source) => return Err(Trouble::Partition { partition, source }),
            }
        }
    }

    fn batch(&self, index: usize) -> (Vec<Entry>, Rest) {
        let mut entries = Vec::new();
        while entries.len() < BATCH_RECORDS_MAX {
            match self.reader.poll(index, Duration::ZERO) {
                Some(Read::Record(entry)) => entries.push(entry),
                Some(Read::End(next)) => return (entries, Rest::End(next)),
                Some(Read::Failed(error)) => return (entries, Rest::Failed(error)),
                None => return (entries, Rest::Empty),
            }
        }
        (entries, Rest::More)
    }

    fn reach_end(&self, partition: &Partition, next: Option<i64>) {
        let became_current = self.consumer.hub.update(|feed| {
            let before = feed.is_current();
            feed.handle_end(partition, next.unwrap_or_default());
            !before && feed.is_current()
        });
        if became_current && !self.missing {
            self.consumer.condition.ok();
        }
    }

    fn put(&self, partition: &Partition, entries: Vec<Entry>) {
        counter!("tailrace_gateway_events_total", "topic" => partition.topic.to_string())
            .increment(entries.len() as u64);
        let bytes = self.consumer.hub.update(|feed| {
            for entry in entries {
                feed.handle_entry(partition, entry);
            }
            feed.bytes()
        });
        gauge!("tailrace_gateway_memory_bytes").set(bytes as f64);
    }

    fn handle_look(&mut self, before: &Next, look: KafkaResult<Look>) -> Result<(), Trouble> {
        let look = match look {
            Ok(look) => look,
            Err(source) => {
                // The client reconnects by itself: streams stay open and go on.
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
            let next = self.consumer.hub.update(|feed| {
                feed.handle_watermarks(partition, *start, *end);
                feed.log(partition).map_or(0, |log| log.next)
            });
            // What was read while the scout was on its way lies past the end that it saw, and is no sign of anything.
            let whole = before.get(partition).is_none_or(|read| read <= end);
            self.watch.check(partition, whole, next, *end)?;
        }
        self.consumer.report(&look);
        Ok(())
    }
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
        gauge!("tailrace_gateway_consumer_lag_offsets", "topic" => partition.topic.to_string(), "partition" => partition.number.to_string())
            .set((end - next).max(0) as f64);
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
        hub: Arc<Hub>,
        signals: mpsc::Sender<Signal>,
    ) -> Self {
        let (stop, stopped) = mpsc::channel();
        thread::spawn(move || {
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                let before = hub
                    .read(|feed| feed.logs().map(|(partition, log)| (partition.clone(), log.next)).collect());
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

fn backoff() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(BACKOFF_MIN)
        .with_max_delay(BACKOFF_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
