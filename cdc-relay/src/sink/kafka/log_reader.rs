//! Reads a topic of one partition up to its end: committed records only, and none that was there is missed.
//!
//! The end is asked for with *read_uncommitted*, the records are read with *read_committed*: a reader that asks for the
//! end with read_committed is told the last stable offset, and could take a stale record for the last.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::SinkError;
use super::client::{self, QUERY_TIMEOUT, QuietContext};
use crate::config::KafkaConfig;

/// How long an open transaction may hide the end of the topic. Ours are settled before; nobody else writes here.
const SETTLE_DEADLINE: Duration = Duration::from_secs(15);
/// How soon a question to the broker is asked again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long nothing may come while the end is not reached.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A topic of one partition whose end is known.
pub(super) struct LogReader {
    reader: BaseConsumer<QuietContext>,
    topic: String,
    low: i64,
    end: i64,
}

impl LogReader {
    /// Asks for the end, and waits until every transaction before it is settled.
    pub(super) fn open(config: &KafkaConfig, source: &str, topic: String) -> Result<Self, SinkError> {
        let asker = client::asker(config, source)?;
        client::await_connections(asker.client(), &topic);
        let (low, end) = watermarks(&asker, &topic)?;
        let reader = client::reader(config, source)?;
        client::await_connections(reader.client(), &topic);
        wait_until_settled(&reader, &topic, end)?;
        Ok(Self { reader, topic, low, end })
    }

    /// The topic's name.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// The first offset that is kept.
    pub(super) fn low(&self) -> i64 {
        self.low
    }

    /// The offset after the last record.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Lets go of it, aside: closing the consumer takes 100 ms.
    pub(super) fn close(self) {
        // Without a thread to be had it is closed here.
        let _ = thread::Builder::new().name("kafka-close".into()).spawn(move || drop(self));
    }

    /// Hands on every committed record at or after `from`.
    pub(super) fn read(
        &self,
        from: i64,
        mut take: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<(), SinkError> {
        if from >= self.end {
            return Ok(());
        }
        let topic = &self.topic;
        let failed = |error: &KafkaError| SinkError::new(&format!("cannot read topic {topic}"), error);
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(topic, 0, Offset::Offset(from)).map_err(|error| failed(&error))?;
        self.reader.assign(&partitions).map_err(|error| failed(&error))?;
        let mut heard_at = Instant::now();
        while heard_at.elapsed() < SILENCE_MAX {
            match self.reader.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => {
                    heard_at = Instant::now();
                    take(&message);
                    if message.offset() + 1 >= self.end {
                        return Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => tracing::debug!(kafka.error = %error, kafka.topic = topic, "reading"),
            }
        }
        Err(SinkError::unavailable(format!("topic {topic} could not be read to its end in time")))
    }
}

/// Asks where the topic begins and ends. One that was just made, or whose leader just changed, may need a moment.
fn watermarks(consumer: &BaseConsumer<QuietContext>, topic: &str) -> Result<(i64, i64), SinkError> {
    let deadline = Instant::now() + QUERY_TIMEOUT;
    loop {
        let error = match consumer.fetch_watermarks(topic, 0, QUERY_TIMEOUT) {
            Ok(watermarks) => return Ok(watermarks),
            Err(error) => error,
        };
        if !has_no_leader_yet(&error) || Instant::now() >= deadline {
            return Err(SinkError::new(&format!("cannot ask for the end of topic {topic}"), &error));
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn has_no_leader_yet(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
        )
    )
}

fn wait_until_settled(reader: &BaseConsumer<QuietContext>, topic: &str, end: i64) -> Result<(), SinkError> {
    let deadline = Instant::now() + SETTLE_DEADLINE;
    while watermarks(reader, topic)?.1 < end {
        if Instant::now() >= deadline {
            // Ours are settled, so Kafka has forgotten to end one and `forgotten` could not ask. It must not be aborted
            // from here: it may be committed, and acknowledged to Postgres.
            let words = format!(
                "a transaction stays open on topic {topic}: the broker has not ended it (see docs/guarantees.md, do not abort it)"
            );
            return Err(SinkError::unavailable(words));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}
