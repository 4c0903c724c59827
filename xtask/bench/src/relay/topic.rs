//! Topics: made, looked at from outside, and read as a `read_committed` reader does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};

/// As many as `cdc-relay init` makes.
pub(super) const PARTITIONS: i32 = 4;
/// How long the broker may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long the markers of the last transaction may take to be written after its commit was answered.
const MARKERS_TIMEOUT: Duration = Duration::from_secs(10);

/// The committed records of a topic, all partitions together.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) events: u64,
    /// The names of the headers of the record that has most.
    pub(super) headers: Vec<String>,
}

/// Makes a topic as `cdc-relay init` does.
pub(super) async fn make(bootstrap: &str, topic: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let topic = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(SILENCE_MAX));
    for made in admin.create_topics([&topic], &options).await? {
        made.map_err(|(name, code)| anyhow::anyhow!("cannot make topic {name}: {code}"))?;
    }
    Ok(())
}

/// Checks that a `read_committed` reader finds every event, no more and no less; or no less, if more is allowed.
pub(super) fn check(bootstrap: &str, topic: &str, expected: u64, may_repeat: bool) -> Result<Found> {
    let begun = Instant::now();
    let mut found = read_all(bootstrap, topic)?;
    while found.events < expected && begun.elapsed() < MARKERS_TIMEOUT {
        found = read_all(bootstrap, topic)?;
    }
    let is_right = found.events == expected || may_repeat && found.events > expected;
    ensure!(is_right, "{topic} holds {} events and not {expected}: this run does not count", found.events);
    Ok(found)
}

/// The ends of a topic's partitions, for a reader who sees what is committed, or everything.
pub(super) struct Ends {
    consumer: BaseConsumer,
    topic: String,
}

impl Ends {
    pub(super) fn of(bootstrap: &str, topic: &str) -> Result<Self> {
        let consumer = client(bootstrap).set("isolation.level", "read_committed").create()?;
        Ok(Self { consumer, topic: topic.to_owned() })
    }

    /// The records that can be read, all partitions together; the markers of transactions count as records.
    pub(super) fn sum(&self) -> Result<u64> {
        let mut sum = 0;
        for partition in 0..PARTITIONS {
            let (_, end) = self.consumer.fetch_watermarks(&self.topic, partition, SILENCE_MAX)?;
            sum += u64::try_from(end).unwrap_or_default();
        }
        Ok(sum)
    }
}

fn read_all(bootstrap: &str, topic: &str) -> Result<Found> {
    let consumer = reader(bootstrap, topic)?;
    let (mut found, mut open) = (Found::default(), PARTITIONS);
    while open > 0 {
        match consumer.poll(SILENCE_MAX).context("the broker went silent")? {
            Ok(record) => {
                found.events += 1;
                if let Some(headers) = record.headers()
                    && headers.count() > found.headers.len()
                {
                    found.headers = headers.iter().map(|header| header.key.to_owned()).collect();
                }
            }
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => return Err(error).context("cannot read the topic"),
        }
    }
    Ok(found)
}

/// A `read_committed` reader of the whole topic, from its beginning.
pub(super) fn reader(bootstrap: &str, topic: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = client(bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .context("cannot make a consumer")?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("socket.nagle.disable", "true");
    config
}
