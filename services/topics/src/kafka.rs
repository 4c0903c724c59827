//! The way to Kafka: clients that read committed records of assigned partitions, each partition apart.
//!
//! ```text
//!            ┌ partition queue 0 ┐
//!  librdkafka┼ partition queue 1 ┼─► Reader::poll(index) ─► Read::{Record, End, Failed}
//!            └ main queue ───────┴─► Reader::serve()      (logs, errors of the connection)
//! ```
//!
//! Nothing is committed and no group is joined: where to read is the caller's affair.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, base_consumer::PartitionQueue},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers as _},
};
use tracing::debug;

/// How long one question to the cluster may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the broker holds a fetch that finds nothing. Data is answered at once; this bounds only how late the end of
/// a partition is told.
const FETCH_WAIT_MS_MAX: &str = "50";

/// How much one client may hold that nobody took yet, in KiB.
const QUEUED_KIB_MAX: &str = "8192";

/// The longest name of a topic, in bytes.
const TOPIC_BYTES_MAX: usize = 249;

/// Whether Kafka takes `name` as a topic's.
pub fn is_topic(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= TOPIC_BYTES_MAX && name.chars().all(legal)
}

/// A partition of a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic.
    pub topic: Arc<str>,
    /// The number within the topic.
    pub number: i32,
}

impl Partition {
    /// The partition `number` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, number: i32) -> Self {
        Self { topic: topic.into(), number }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Makes clients of one cluster.
#[derive(Clone, Debug)]
pub struct Kafka {
    brokers: String,
    client_id: &'static str,
}

/// A client of the cluster.
pub type Client = BaseConsumer<Context>;

impl Kafka {
    /// The cluster that `brokers` (`host:port,…`) lead to, which knows the clients by `client_id`.
    pub fn new(brokers: impl Into<String>, client_id: &'static str) -> Self {
        Self { brokers: brokers.into(), client_id }
    }

    /// The addresses to begin with.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// A client; it connects when it is first used.
    pub fn client(&self) -> KafkaResult<Arc<Client>> {
        let client = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", self.client_id)
            // The library insists on a group name before it assigns; the group is never joined.
            .set("group.id", self.client_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", FETCH_WAIT_MS_MAX)
            .set("fetch.error.backoff.ms", "100")
            .set("queued.max.messages.kbytes", QUEUED_KIB_MAX)
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .create_with_context(Context::default())?;
        Ok(Arc::new(client))
    }
}

/// What the library tells beside records.
#[derive(Debug)]
pub struct Context {
    /// The offset at which the last end of a partition was reported. The safe binding reports the partition alone, while
    /// the offset, which lies past trailing transaction markers, stands in the report's text.
    end: AtomicI64,
}

const UNKNOWN_END: i64 = -1;

impl Default for Context {
    fn default() -> Self {
        Self { end: AtomicI64::new(UNKNOWN_END) }
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(kafka.facility = facility, kafka.message = message, "librdkafka");
    }

    /// Called from within `poll`, before it returns the same error.
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            self.end.store(end_offset(reason).unwrap_or(UNKNOWN_END), Ordering::Relaxed);
        } else {
            debug!(kafka.error = %error, kafka.message = reason, "librdkafka");
        }
    }
}

impl ConsumerContext for Context {}

/// Reads `… end of partition at offset 42 (…`.
fn end_offset(reason: &str) -> Option<i64> {
    let (_, rest) = reason.split_once("at offset ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// A record where the client holds it.
#[derive(Debug)]
pub struct Message<'a>(BorrowedMessage<'a>);

impl Message<'_> {
    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.0.offset()
    }

    /// What it holds.
    pub fn record(&self) -> Record<'_> {
        let headers = self.0.headers();
        Record {
            key: self.0.key(),
            value: self.0.payload(),
            create_time_ms: self.0.timestamp().to_millis(),
            headers: headers
                .map(|headers| {
                    headers.iter().map(|header| (header.key, header.value.unwrap_or_default())).collect()
                })
                .unwrap_or_default(),
        }
    }
}

/// A record, borrowed from the client that read it.
#[derive(Debug, Default)]
pub struct Record<'a> {
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// The record's value.
    pub value: Option<&'a [u8]>,
    /// CreateTime, in milliseconds since 1970.
    pub create_time_ms: Option<i64>,
    /// The headers in their order.
    pub headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Record<'a> {
    /// The value of the header `name`, if it is text.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.headers.iter().find(|(found, _)| *found == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// What a partition gave.
#[derive(Debug)]
pub enum Read<'a> {
    /// A record.
    Record(Message<'a>),
    /// The end of the partition as it is now; the next offset, when it is known.
    End(Option<i64>),
    /// The partition cannot be read on.
    Failed(KafkaError),
}

/// Reads assigned partitions.
pub struct Reader {
    client: Arc<Client>,
    queues: Vec<(Partition, PartitionQueue<Context>)>,
}

impl Reader {
    /// Reads each partition from its offset on. `readable` is called with a partition's index when it may have something.
    pub fn open(
        client: Arc<Client>,
        offsets: &[(Partition, i64)],
        readable: impl Fn(usize) + Clone + Send + Sync + 'static,
    ) -> KafkaResult<Self> {
        let mut assignment = TopicPartitionList::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            assignment.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*offset))?;
        }
        // The queues are split within the instant, before the first answer to a fetch; `serve` notices the exception.
        client.assign(&assignment)?;
        let mut queues = Vec::with_capacity(offsets.len());
        for (index, (partition, _)) in offsets.iter().enumerate() {
            let mut queue = client
                .split_partition_queue(&partition.topic, partition.number)
                .ok_or(KafkaError::Subscription(partition.to_string()))?;
            let readable = readable.clone();
            queue.set_nonempty_callback(move || readable(index));
            queues.push((partition.clone(), queue));
        }
        Ok(Self { client, queues })
    }

    /// The partition of that index.
    pub fn partition(&self, index: usize) -> &Partition {
        &self.queues[index].0
    }

    /// How many partitions are read.
    pub fn partitions(&self) -> usize {
        self.queues.len()
    }

    /// Takes what the partition gives next, waiting for it at most that long.
    pub fn poll(&self, index: usize, timeout: Duration) -> Option<Read<'_>> {
        let (_, queue) = &self.queues[index];
        Some(match queue.poll(timeout)? {
            Ok(message) => Read::Record(Message(message)),
            Err(KafkaError::PartitionEOF(_)) => {
                let end = self.client.context().end.load(Ordering::Relaxed);
                Read::End((end != UNKNOWN_END).then_some(end))
            }
            Err(error) => Read::Failed(error),
        })
    }

    /// Lets the library do its own work; answers an error after which this client is of no use.
    pub fn serve(&self) -> Option<KafkaError> {
        match self.client.poll(Duration::ZERO)? {
            // A record that was fetched in the instant before its queue was split: the partition is read again.
            Ok(message) => Some(KafkaError::Subscription(format!("{} came astray", message.topic()))),
            Err(error @ KafkaError::MessageConsumptionFatal(_)) => Some(error),
            // The connection: the library goes on trying, and the look at the cluster tells whether it is there.
            Err(_) => None,
        }
    }
}

/// What the cluster holds of some topics.
#[derive(Debug, Default)]
pub struct Look {
    /// The cluster's id.
    pub cluster: String,
    /// Every partition with its first offset and its end (of what is committed).
    pub partitions: Vec<(Partition, i64, i64)>,
    /// Topics that are not there.
    pub missing: Vec<Arc<str>>,
}

/// Looks up the partitions of `topics` and their offsets. Blocks.
pub fn look(client: &Client, topics: impl IntoIterator<Item = Arc<str>>) -> KafkaResult<Look> {
    let mut look = Look::default();
    for topic in topics {
        let partitions = partitions(client, &topic)?;
        if partitions.is_empty() {
            look.missing.push(topic);
            continue;
        }
        for number in partitions {
            let (start, end) = watermarks(client, &topic, number)?;
            look.partitions.push((Partition { topic: Arc::clone(&topic), number }, start, end));
        }
    }
    look.partitions.sort();
    look.cluster = client.client().fetch_cluster_id(REQUEST_TIMEOUT).unwrap_or_default();
    Ok(look)
}

/// The first offset of a partition and the end of what is committed. Blocks.
pub fn watermarks(client: &Client, topic: &str, number: i32) -> KafkaResult<(i64, i64)> {
    client.fetch_watermarks(topic, number, REQUEST_TIMEOUT)
}

fn partitions(client: &Client, topic: &str) -> KafkaResult<Vec<i32>> {
    let metadata = client.fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(Vec::new());
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(found.partitions().iter().map(|partition| partition.id()).collect()),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(Vec::new()),
        Some(code) => Err(KafkaError::MetadataFetch(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_from_the_librarys_report() {
        let report = "Fetch from broker 1 reached end of partition at offset 42 (HighwaterMark 43)";
        assert_eq!(end_offset(report), Some(42));
        for other in ["", "at offset ", "at offset x", "Broker: No more messages"] {
            assert_eq!(end_offset(other), None, "{other}");
        }
    }
}
