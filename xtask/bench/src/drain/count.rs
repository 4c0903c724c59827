//! What a `read_committed` reader finds in a topic.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};

/// How long the broker may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long the markers of the last transaction may take to be written after its commit was answered.
const MARKERS_TIMEOUT: Duration = Duration::from_secs(10);

/// The committed records of a topic, all partitions together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) events: u64,
    /// The most headers that one of them has.
    pub(super) headers: usize,
}

/// Reads the topic from its beginning, until there is as much as expected or the last markers are overdue.
pub(super) fn read_committed(bootstrap: &str, topic: &str, expected: u64) -> Result<Found> {
    let begun = Instant::now();
    loop {
        let found = read_all(bootstrap, topic)?;
        if found.events >= expected || begun.elapsed() > MARKERS_TIMEOUT {
            return Ok(found);
        }
    }
}

fn read_all(bootstrap: &str, topic: &str) -> Result<Found> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .context("cannot make a consumer")?;
    let metadata = consumer.fetch_metadata(Some(topic), SILENCE_MAX).context("the broker does not answer")?;
    let mut assignment = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        assignment.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let (mut found, mut open) = (Found { events: 0, headers: 0 }, assignment.count());
    while open > 0 {
        match consumer.poll(SILENCE_MAX).context("the broker went silent")? {
            Ok(record) => {
                found.events += 1;
                found.headers = found.headers.max(record.headers().map_or(0, |headers| headers.count()));
            }
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => return Err(error).context("cannot read the topic"),
        }
    }
    Ok(found)
}
