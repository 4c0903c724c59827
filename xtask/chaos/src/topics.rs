//! What a `read_committed` reader finds in the topics of a run, once nothing is open in them any more.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::{Instant, interval};

use crate::checker::{Header, Record};

/// How long the brokers may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// What is open this long after the last event is in Kafka stays open: transactions time out after 10 s.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Waits until every record of the topics is visible to a `read_committed` reader.
pub(crate) async fn settle(bootstrap: &str, topics: &[String]) -> Result<()> {
    let (all, committed) = (consumer(bootstrap, "read_uncommitted")?, consumer(bootstrap, "read_committed")?);
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let mut looks = interval(LOOK_INTERVAL);
    for (topic, partition) in partitions(&all, topics)? {
        let end = |consumer: &BaseConsumer| {
            tokio::task::block_in_place(|| consumer.fetch_watermarks(&topic, partition, SILENCE_MAX))
        };
        while end(&committed)? != end(&all)? {
            if Instant::now() > deadline {
                bail!("a transaction stays open in {topic}/{partition}, from offset {}", end(&committed)?.1);
            }
            looks.tick().await;
        }
    }
    Ok(())
}

/// Everything that a `read_committed` reader sees in the topics, in the order of each partition.
pub(crate) fn read(bootstrap: &str, topics: &[String]) -> Result<Vec<Record>> {
    let consumer = consumer(bootstrap, "read_committed")?;
    let mut assignment = TopicPartitionList::new();
    for (topic, partition) in partitions(&consumer, topics)? {
        assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let (mut records, mut open) = (Vec::new(), assignment.count());
    while open > 0 {
        match consumer.poll(SILENCE_MAX).context("the brokers went silent")? {
            Ok(message) => records.push(record(&message)),
            Err(KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => return Err(error).context("cannot read the topics"),
        }
    }
    records
        .sort_by(|a: &Record, b| (&a.topic, a.partition, a.offset).cmp(&(&b.topic, b.partition, b.offset)));
    Ok(records)
}

fn consumer(bootstrap: &str, isolation_level: &str) -> Result<BaseConsumer> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "chaos")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", isolation_level)
        .create()
        .context("cannot make a consumer")
}

fn partitions(consumer: &BaseConsumer, topics: &[String]) -> Result<Vec<(String, i32)>> {
    let mut partitions = Vec::new();
    for topic in topics {
        let metadata =
            consumer.fetch_metadata(Some(topic), SILENCE_MAX).context("the brokers do not answer")?;
        let of_topic = metadata.topics().iter().flat_map(|topic| topic.partitions());
        partitions.extend(of_topic.map(|partition| (topic.clone(), partition.id())));
    }
    Ok(partitions)
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().unwrap_or_default().to_vec(),
        payload: message.payload().unwrap_or_default().to_vec(),
        header: header(message),
    }
}

fn header(message: &BorrowedMessage<'_>) -> Option<Header> {
    let headers = message.headers()?;
    let text = |name: &str| {
        let header = headers.iter().find(|header| header.key == name)?;
        str::from_utf8(header.value?).ok()
    };
    Some(Header {
        id: text("ce_id")?.parse().ok()?,
        version: text("tailrace_aggregate_version")?.parse().ok()?,
        event_type: text("ce_type")?.to_owned(),
        owner: text("tailrace_owner").map(str::to_owned),
        position: position(text("tailrace_position")?)?,
    })
}

/// `final_lsn/ordinal`, where an LSN is two hexadecimal halves.
fn position(text: &str) -> Option<(u64, u64)> {
    let (lsn, ordinal) = text.rsplit_once('/')?;
    let (high, low) = lsn.split_once('/')?;
    let half = |digits| u64::from_str_radix(digits, 16).ok();
    Some((half(high)? << 32 | half(low)?, ordinal.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_the_relay_writes_it() {
        assert_eq!(position("1/16B3748/12"), Some((0x1_016B_3748, 12)));
        assert_eq!(position("16B3748/12"), None);
        assert_eq!(position("1/x/12"), None);
    }
}
