//! Reads the last committed position record of a source.
//!
//! The end of the topic is asked for with *read_uncommitted*, the records are read with *read_committed*: a reader that
//! asks for the end with read_committed is told the last stable offset, and could take a stale position for the last.
//! Reading starts at the tail and goes back only if it must, so that it stays fast after millions of records.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, QUERY_TIMEOUT, QuietContext};
use super::{SinkError, position_topic};
use crate::config::KafkaConfig;
use crate::position::PositionRecord;

/// How many offsets the first look covers; each further look covers sixteen times as many.
const FIRST_LOOK_OFFSETS: i64 = 64;
/// How long an open transaction may hide the end of the topic. Ours are settled before; nobody else writes here.
const SETTLE_DEADLINE: Duration = Duration::from_secs(15);
/// How long the reading of one stretch may take.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// The last committed record, or `None` if there never was one.
///
/// # Errors
/// If the topic is missing, cannot be read to its end, or holds something else.
pub(super) fn last(config: &KafkaConfig, source: &str) -> Result<Option<PositionRecord>, SinkError> {
    let topic = position_topic(source);
    let (low, end) = watermarks(&client::consumer(config, source, "read_uncommitted")?, &topic)?;
    let reader = client::consumer(config, source, "read_committed")?;
    wait_until_settled(&reader, &topic, end)?;
    let mut look = FIRST_LOOK_OFFSETS;
    loop {
        let from = low.max(end.saturating_sub(look));
        let found = if from < end { last_between(&reader, &topic, from, end)? } else { None };
        match found {
            Some(value) => return parse(&topic, &value).map(Some),
            None if from <= low => return Ok(None),
            None => look = look.saturating_mul(16),
        }
    }
}

fn watermarks(consumer: &BaseConsumer<QuietContext>, topic: &str) -> Result<(i64, i64), SinkError> {
    consumer
        .fetch_watermarks(topic, 0, QUERY_TIMEOUT)
        .map_err(|error| SinkError::new(&format!("cannot ask for the end of topic {topic}"), &error))
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
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The value of the last committed record at or after `from`.
fn last_between(
    reader: &BaseConsumer<QuietContext>,
    topic: &str,
    from: i64,
    end: i64,
) -> Result<Option<Vec<u8>>, SinkError> {
    let failed = |error: &KafkaError| SinkError::new(&format!("cannot read topic {topic}"), error);
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Offset(from)).map_err(|error| failed(&error))?;
    reader.assign(&partitions).map_err(|error| failed(&error))?;
    let deadline = Instant::now() + READ_DEADLINE;
    let mut last = None;
    while Instant::now() < deadline {
        match reader.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => {
                last = message.payload().map(<[u8]>::to_vec);
                if message.offset() + 1 >= end {
                    return Ok(last);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(last),
            Some(Err(error)) => tracing::debug!(kafka.error = %error, "reading the position"),
        }
    }
    Err(SinkError::unavailable(format!("topic {topic} could not be read to its end in time")))
}

fn parse(topic: &str, value: &[u8]) -> Result<PositionRecord, SinkError> {
    serde_json::from_slice(value).map_err(|error| {
        SinkError::unavailable(format!("the last record of topic {topic} is no position: {error}"))
    })
}
