//! The two transactional producers of a source, and one transaction through them; the idempotent one for at least once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header as KafkaHeader, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext};

use super::client::{self, QuietContext};
use super::polled::PolledProducer;
use super::topics::position_topic;
use super::{Outcomes, SinkError, both};
use crate::config::KafkaConfig;
use crate::position::PositionRecord;
use crate::record::{Outcome, Record};

/// How long `init_transactions` may take: the coordinator first ends what the producer before us left open.
const INIT_DEADLINE: Duration = Duration::from_secs(15);
/// How long one step of a transaction may take; after that its outcome is unknown. librdkafka itself would retry inside
/// the call without end.
const STEP_DEADLINE: Duration = Duration::from_secs(10);
/// After this the coordinator aborts a transaction whose producer is gone.
pub(super) const TRANSACTION_TIMEOUT_MS: i32 = 10_000;
/// The index of the position record among the deliveries of a transaction.
const POSITION_INDEX: usize = usize::MAX;

type Polled = PolledProducer<Deliveries>;

/// Two producers that take turns.
pub(super) struct Producers {
    turns: [Polled; 2],
    turn: usize,
    config: KafkaConfig,
    source: String,
    position_topic: String,
    losses: Outcomes,
}

/// The transactional ids of a source's two producers.
pub(super) fn transactional_ids(source: &str) -> [String; 2] {
    [0, 1].map(|turn| format!("tailrace-{source}-{turn}"))
}

impl Producers {
    /// Makes and initialises both, even if only one were to be used: that fences every producer before us and settles
    /// the transactions they left open. From then on a lost connection is told to `losses`.
    pub(super) fn open(config: &KafkaConfig, source: &str, losses: &Outcomes) -> Result<Self, SinkError> {
        let (first, second) =
            both(|| producer(config, source, 0, losses), || producer(config, source, 1, losses));
        let turns = [first?, second?];
        Ok(Self {
            turns,
            turn: 0,
            losses: losses.clone(),
            config: config.clone(),
            source: source.to_owned(),
            position_topic: position_topic(source),
        })
    }

    /// Makes the producer whose turn it is anew: after a refused record the client counts sequence numbers that the
    /// broker never saw. That the abort before this succeeded proves that nobody has fenced us.
    fn renew(&mut self) -> Result<(), SinkError> {
        self.turns[self.turn] = producer(&self.config, &self.source, self.turn, &self.losses)?;
        Ok(())
    }

    /// Publishes records and position in one transaction.
    pub(super) fn publish(
        &mut self,
        records: &[Record],
        one_by_one: bool,
        position: &PositionRecord,
    ) -> Result<Outcome, SinkError> {
        self.turn = 1 - self.turn;
        let producer = &self.turns[self.turn];
        let _at_work = producer.at_work();
        producer.begin_transaction().map_err(|error| SinkError::new("cannot begin a transaction", &error))?;
        let sent = self.send_all(producer, records, one_by_one, position);
        // A record that was refused already makes the client refuse the ones behind it: the first cause counts.
        let flushed = flush(producer);
        match producer.context().take_verdict() {
            Verdict::Refused { indexes, message } => {
                abort(producer)?;
                self.renew()?;
                Ok(Outcome::Refused { indexes, message })
            }
            Verdict::Failed(error) => Err(producer.context().undelivered(&error)),
            Verdict::Delivered => {
                sent?;
                flushed?;
                commit(producer).map(|()| Outcome::Committed)
            }
        }
    }

    fn send_all(
        &self,
        producer: &Polled,
        records: &[Record],
        one_by_one: bool,
        position: &PositionRecord,
    ) -> Result<(), SinkError> {
        send_records(producer, records, one_by_one)?;
        self.send_position(producer, position)
    }

    fn send_position(&self, producer: &Polled, position: &PositionRecord) -> Result<(), SinkError> {
        let value = serde_json::to_vec(position).expect("a position record is representable as JSON");
        let record = BaseRecord::with_opaque_to(&self.position_topic, POSITION_INDEX)
            .key(&self.source)
            .payload(&value)
            .partition(0);
        producer.context().expect_one();
        producer.send(record).map_err(|(error, _)| {
            producer.context().settle_one();
            SinkError::new("cannot send the position", &error)
        })
    }
}

/// The producer of a source whose events are delivered at least once.
pub(super) struct IdempotentProducer {
    producer: Polled,
    config: KafkaConfig,
    source: String,
    losses: Outcomes,
}

impl IdempotentProducer {
    /// Makes it. A lost connection is told to `losses`.
    pub(super) fn open(config: &KafkaConfig, source: &str, losses: &Outcomes) -> Result<Self, SinkError> {
        let producer = create(&idempotent(config, source), losses)?;
        Ok(Self { producer, config: config.clone(), source: source.to_owned(), losses: losses.clone() })
    }

    /// Sends records and waits until Kafka has them all; the client keeps their order within each partition.
    pub(super) fn deliver(&mut self, records: &[Record], one_by_one: bool) -> Result<Outcome, SinkError> {
        let _at_work = self.producer.at_work();
        let sent = send_records(&self.producer, records, one_by_one);
        let flushed = flush(&self.producer);
        match self.producer.context().take_verdict() {
            Verdict::Refused { indexes, message } => {
                // The client counts sequence numbers that the broker never saw.
                self.producer = create(&idempotent(&self.config, &self.source), &self.losses)?;
                Ok(Outcome::Refused { indexes, message })
            }
            Verdict::Failed(error) => Err(SinkError::new("a record was not delivered", &error)),
            Verdict::Delivered => {
                sent?;
                flushed?;
                Ok(Outcome::Delivered)
            }
        }
    }
}

/// A producer that repeats and reorders nothing by itself.
fn idempotent(kafka: &KafkaConfig, source: &str) -> ClientConfig {
    let mut config = client::config(kafka, source);
    config
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("acks", "all")
        .set("linger.ms", "0")
        .set("message.max.bytes", kafka.request_bytes_max().to_string())
        .set("batch.size", kafka.request_bytes_max().to_string())
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", "2097151");
    // Headers repeat in every record: compressed, a drain costs relay and broker less processor time, not more.
    if !kafka.properties.keys().any(|name| name == "compression.type" || name == "compression.codec") {
        config.set("compression.type", "lz4");
    }
    config
}

fn create(config: &ClientConfig, losses: &Outcomes) -> Result<Polled, SinkError> {
    Polled::open(config, Deliveries::new(losses.clone()))
}

/// An initialised transactional producer.
fn producer(kafka: &KafkaConfig, source: &str, turn: usize, losses: &Outcomes) -> Result<Polled, SinkError> {
    let mut config = idempotent(kafka, source);
    config
        .set("transactional.id", &transactional_ids(source)[turn])
        .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string());
    let producer = create(&config, losses)?;
    client::await_connections(producer.client(), &position_topic(source));
    producer.init_transactions(INIT_DEADLINE).map_err(|error| {
        let cause = producer.context().connection.last_error();
        cause.map_or_else(
            || SinkError::new("cannot initialise transactions", &error),
            |cause| SinkError::unavailable(format!("cannot initialise transactions: {cause}")),
        )
    })?;
    Ok(producer)
}

fn send_records(producer: &Polled, records: &[Record], one_by_one: bool) -> Result<(), SinkError> {
    for (index, record) in records.iter().enumerate() {
        send(producer, index, record)?;
        if one_by_one {
            flush(producer)?;
        }
    }
    Ok(())
}

fn send(producer: &Polled, index: usize, record: &Record) -> Result<(), SinkError> {
    let mut headers = OwnedHeaders::new_with_capacity(record.sent_headers().count());
    for (name, value) in record.sent_headers() {
        headers = headers.insert(KafkaHeader { key: name, value: Some(value) });
    }
    let message = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&record.topic, index)
        .key(&record.key)
        .timestamp(record.decoded_at_ms)
        .headers(headers);
    let message = match &record.value {
        Some(value) => message.payload(value),
        None => message,
    };
    producer.context().expect_one();
    let Err((error, _)) = producer.send(message) else { return Ok(()) };
    producer.context().settle_one();
    if is_refusal(&error) {
        // The client itself refuses it; the broker never sees it.
        producer.context().note_failure(index, error);
        return Ok(());
    }
    Err(SinkError::new("cannot send a record", &error))
}

/// Waits until every record is acknowledged or has failed. Not `Producer::flush`: that one polls in steps of 100 ms that
/// last to their end, whatever happens meanwhile, and an event would wait as long.
fn flush(producer: &Polled) -> Result<(), SinkError> {
    let deadline = Instant::now() + STEP_DEADLINE;
    let mut is_done = producer.context().wait(STEP_DEADLINE);
    // The last delivery is counted a moment before the library lets go of it.
    while is_done && producer.in_flight_count() > 0 {
        thread::yield_now();
        is_done = Instant::now() < deadline;
    }
    if is_done {
        return Ok(());
    }
    // The client tries again without a word while a broker has fewer replicas in sync than the topic asks for.
    let silent = || "no answer, or fewer replicas are in sync than min.insync.replicas".to_owned();
    let cause = producer.context().connection.last_error().unwrap_or_else(silent);
    let limit_s = STEP_DEADLINE.as_secs();
    Err(SinkError::unavailable(format!("Kafka did not take the records within {limit_s} s: {cause}")))
}

/// Commits. The outcome counts as known only if no connection was lost while the request was out: a delayed EndTxn might
/// otherwise end a later transaction of the same id.
fn commit(producer: &Polled) -> Result<(), SinkError> {
    producer.context().connection.take_disconnects();
    let begun = Instant::now();
    let result = producer.commit_transaction(STEP_DEADLINE);
    producer.poll(Duration::ZERO);
    metrics::histogram!("tailrace_relay_kafka_txn_seconds").record(begun.elapsed());
    result.map_err(|error| SinkError::new("cannot commit the transaction", &error))?;
    match producer.context().connection.take_disconnects() {
        0 => Ok(()),
        _ => Err(SinkError::unavailable(
            "a connection to Kafka was lost while a transaction was being committed",
        )),
    }
}

fn abort(producer: &Polled) -> Result<(), SinkError> {
    producer
        .abort_transaction(STEP_DEADLINE)
        .map_err(|error| SinkError::new("cannot abort the transaction", &error))
}

fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize)
    )
}

/// What became of the records of the transaction under way, and of the connections.
#[derive(Debug)]
struct Deliveries {
    connection: QuietContext,
    losses: Outcomes,
    failures: Mutex<Vec<(usize, KafkaError)>>,
    /// Why the transaction under way cannot be committed.
    refusal: Mutex<Option<String>>,
    /// Records that were handed to the client and are not settled.
    pending: AtomicUsize,
    settling: Mutex<()>,
    all_settled: Condvar,
}

enum Verdict {
    Delivered,
    Refused { indexes: Vec<usize>, message: String },
    Failed(KafkaError),
}

impl Deliveries {
    fn new(losses: Outcomes) -> Self {
        Self {
            connection: QuietContext::default(),
            losses,
            failures: Mutex::default(),
            refusal: Mutex::default(),
            pending: AtomicUsize::default(),
            settling: Mutex::default(),
            all_settled: Condvar::default(),
        }
    }

    fn expect_one(&self) {
        self.pending.fetch_add(1, Ordering::AcqRel);
    }

    fn settle_one(&self) {
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Taken so that a waiter cannot look and go to sleep in between.
            let _waiter = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
            self.all_settled.notify_all();
        }
    }

    /// Waits until nothing is pending; false when that takes too long.
    fn wait(&self, limit: Duration) -> bool {
        let settling = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let is_pending = |(): &mut ()| self.pending.load(Ordering::Acquire) > 0;
        let waited = self.all_settled.wait_timeout_while(settling, limit, is_pending);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn note_loss(&self, reason: &str) {
        if client::is_loss(reason) {
            let words = format!("a connection to Kafka was lost: {reason}");
            // Without a receiver the sink is closed already.
            let _ = self.losses.send(Err(SinkError::unavailable(words)));
        }
    }

    /// Why a record was not delivered.
    fn undelivered(&self, error: &KafkaError) -> SinkError {
        let is_purged = error.rdkafka_error_code() == Some(RDKafkaErrorCode::PurgeQueue);
        let refusal = self.refusal.lock().ok().and_then(|mut refusal| refusal.take());
        match refusal.filter(|_| is_purged) {
            Some(refusal) => SinkError::unavailable(format!("Kafka refuses the transaction: {refusal}")),
            None => SinkError::new("a record was not delivered", error),
        }
    }

    fn note_failure(&self, index: usize, error: KafkaError) {
        if let Ok(mut failures) = self.failures.lock() {
            failures.push((index, error));
        }
    }

    /// Refused only if nothing but refusals went wrong; records behind a refused one are purged with the transaction.
    fn take_verdict(&self) -> Verdict {
        let failures =
            self.failures.lock().map(|mut failures| std::mem::take(&mut *failures)).unwrap_or_default();
        let refused: Vec<usize> =
            failures.iter().filter(|(_, error)| is_refusal(error)).map(|(index, _)| *index).collect();
        match failures.into_iter().next() {
            None => Verdict::Delivered,
            Some((_, error)) if refused.is_empty() || refused.contains(&POSITION_INDEX) => {
                Verdict::Failed(error)
            }
            Some((_, error)) => Verdict::Refused { indexes: refused, message: error.to_string() },
        }
    }
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        self.connection.note(&error, reason);
        self.note_loss(reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.connection.log(level, facility, message);
        // The loss of the coordinator's connection is an error to nobody: the client just sends EndTxn again on the next.
        if client::is_loss(message) {
            self.connection.count_disconnect();
            self.note_loss(message);
        }
        // The records themselves only say that they were thrown away.
        if facility == "TXNERR"
            && let Ok(mut refusal) = self.refusal.lock()
        {
            *refusal = Some(client::without_duration(message).to_owned());
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        if let Err((error, message)) = result {
            tracing::debug!(kafka.topic = message.topic(), kafka.error = %error, "a record was not delivered");
            self.note_failure(index, error.clone());
        }
        self.settle_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_compression(properties: &str, expected: Option<&str>) {
        let text = format!("bootstrap_servers = \"kafka:9092\"\n[properties]\n{properties}");
        let kafka: KafkaConfig = toml::from_str(&text).expect("a configuration");
        assert_eq!(idempotent(&kafka, "users").get("compression.type"), expected, "{properties}");
    }

    #[test]
    fn records_are_compressed_unless_the_operator_says_otherwise() {
        check_compression("", Some("lz4"));
        check_compression("\"compression.type\" = \"none\"", Some("none"));
        // The client's other name for it.
        check_compression("\"compression.codec\" = \"zstd\"", None);
    }
}
