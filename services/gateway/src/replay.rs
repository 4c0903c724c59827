//! Events that only Kafka still holds: short-lived clients, a bounded number at a time, that read exact ranges of offsets.
//!
//! The ranges end where memory begins, so a replay joins the live feed without hole or repeat. Among the partitions of
//! one replay the oldest commit comes first.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use metrics::counter;
use tailrace_topics::{Client, Kafka, KafkaError, Partition, Read, Reader, watermarks};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tracing::warn;

use crate::{event::Entry, subscription::Range};

/// How long a replay waits for the next record before it gives up.
const STALLED_AFTER: Duration = Duration::from_secs(15);

/// How often a waiting replay sees that nobody wants it any more.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The most events read ahead of the subscriber.
const AHEAD_EVENTS_MAX: usize = 16;

/// Reads ranges, a bounded number at a time.
#[derive(Clone, Debug)]
pub struct Replays {
    kafka: Kafka,
    permits: Arc<Semaphore>,
}

/// What a replay says.
#[derive(Debug)]
pub enum Replayed {
    /// An event of the range with this index.
    Event(usize, Entry),
    /// The range with this index was read to its end.
    Passed(usize),
    /// Every range was.
    Done,
    /// It could not go on; the ranges may have shrunk.
    Failed,
}

#[derive(Debug, Error)]
enum ReplayError {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("no record came for {} s", STALLED_AFTER.as_secs())]
    Stalled,
    #[error("nobody wants it any more")]
    Abandoned,
}

impl Replays {
    /// At most `replays_max` at a time; others wait.
    pub fn new(kafka: Kafka, replays_max: usize) -> Self {
        Self { kafka, permits: Arc::new(Semaphore::new(replays_max)) }
    }

    /// Reads `ranges`; dropping the receiver ends it.
    pub async fn start(&self, ranges: Vec<Range>) -> mpsc::Receiver<Replayed> {
        let (sender, receiver) = mpsc::channel(AHEAD_EVENTS_MAX);
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return receiver };
        let kafka = self.kafka.clone();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            counter!("tailrace_gateway_replays_total").increment(1);
            let outcome = match read(&kafka, &ranges, &sender) {
                Ok(()) => Replayed::Done,
                Err(ReplayError::Abandoned) => return,
                Err(error) => {
                    warn!(error = %error, kafka.partitions = ranges.len(), "a replay failed");
                    Replayed::Failed
                }
            };
            // The subscriber may have left meanwhile.
            let _ = sender.blocking_send(outcome);
        });
        receiver
    }

    /// Looks up the first offset and the end of a partition.
    pub async fn look_up(&self, partition: Partition) -> Option<(i64, i64)> {
        let _permit = self.permits.acquire().await.ok()?;
        let kafka = self.kafka.clone();
        let look = tokio::task::spawn_blocking(move || {
            let client = kafka.client()?;
            watermarks(&client, &partition.topic, partition.number)
        });
        match look.await.ok()? {
            Ok(bounds) => Some(bounds),
            Err(error) => {
                warn!(error = %error, "the end of a partition could not be looked up");
                None
            }
        }
    }
}

fn read(kafka: &Kafka, ranges: &[Range], sender: &mpsc::Sender<Replayed>) -> Result<(), ReplayError> {
    let client = kafka.client()?;
    let offsets: Vec<_> = ranges.iter().map(|range| (range.partition.clone(), range.from)).collect();
    let reader = Reader::open(Arc::<Client>::clone(&client), &offsets, |_| ())?;
    let mut heads: Vec<Head> = ranges.iter().map(|_| Head::Unknown).collect();
    loop {
        for (index, range) in ranges.iter().enumerate() {
            if matches!(heads[index], Head::Unknown) {
                heads[index] = next(&reader, index, range, sender)?;
                if matches!(heads[index], Head::Done) {
                    send(sender, Replayed::Passed(index))?;
                }
            }
        }
        let oldest = heads
            .iter_mut()
            .enumerate()
            .filter(|(_, head)| head.time().is_some())
            .min_by_key(|(_, head)| head.time());
        let Some((index, head)) = oldest else { return Ok(()) };
        if let Head::Entry(entry) = std::mem::replace(head, Head::Unknown) {
            send(sender, Replayed::Event(index, entry))?;
        }
    }
}

fn send(sender: &mpsc::Sender<Replayed>, replayed: Replayed) -> Result<(), ReplayError> {
    sender.blocking_send(replayed).map_err(|_| ReplayError::Abandoned)
}

/// The next event of a range. The end of the partition ends the range too: a range ends within what was committed when it
/// was asked for, so whatever lies between is markers and aborted records.
fn next(
    reader: &Reader,
    index: usize,
    range: &Range,
    sender: &mpsc::Sender<Replayed>,
) -> Result<Head, ReplayError> {
    let began = Instant::now();
    while began.elapsed() < STALLED_AFTER {
        match reader.poll(index, POLL_INTERVAL) {
            Some(Read::Record(message)) if message.offset() < range.to => {
                let (offset, record) = (message.offset(), message.record());
                let entry = Entry::encode(&range.partition, offset, &record, SystemTime::now());
                return Ok(Head::Entry(entry));
            }
            Some(Read::Record(_) | Read::End(_)) => return Ok(Head::Done),
            Some(Read::Failed(error)) => return Err(error.into()),
            None => {}
        }
        if let Some(error) = reader.serve() {
            return Err(error.into());
        }
        if sender.is_closed() {
            return Err(ReplayError::Abandoned);
        }
    }
    Err(ReplayError::Stalled)
}

/// What comes next in a range.
enum Head {
    Unknown,
    Entry(Entry),
    Done,
}

impl Head {
    fn time(&self) -> Option<i64> {
        match self {
            Self::Entry(entry) => Some(entry.commit_time_us),
            Self::Unknown | Self::Done => None,
        }
    }
}
