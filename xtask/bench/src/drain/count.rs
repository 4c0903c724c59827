//! Counts what a `read_committed` reader finds in a topic.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

/// How long the broker may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The number of committed records in the topic, all partitions together.
pub(super) fn read_committed(bootstrap: &str, topic: &str) -> Result<u64> {
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
    let (mut found, mut open) = (0, assignment.count());
    while open > 0 {
        match consumer.poll(SILENCE_MAX).context("the broker went silent")? {
            Ok(_) => found += 1,
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => return Err(error).context("cannot read the topic"),
        }
    }
    Ok(found)
}
