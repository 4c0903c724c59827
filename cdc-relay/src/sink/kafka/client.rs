//! What every client of Kafka is configured with, and how librdkafka's own words reach the log.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::SinkError;
use crate::config::KafkaConfig;

/// How long a question to the cluster may take.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// After how many answers a client is taken to have a connection that stays: it had one in every start measured. Each takes less
/// than a millisecond.
const ANSWERS_MIN: u32 = 4;

/// The settings all clients share: the cluster, the operator's own properties, who we are.
pub(super) fn config(kafka: &KafkaConfig, source: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap_servers);
    config.set("client.id", format!("tailrace-relay/{source}"));
    config.set("socket.nagle.disable", "true");
    config.set("reconnect.backoff.ms", "50");
    config.set("reconnect.backoff.max.ms", "2000");
    for (name, value) in &kafka.properties {
        config.set(name, value);
    }
    config
}

/// Waits until a new client has connections that stay: the first answer makes it give up the one that it came over for those to
/// the brokers it learned of. What it is asked while it has none, it tries again 500 ms later and more. If there is
/// no answer, the next call says why.
pub(super) fn await_connections<C: ClientContext>(client: &Client<C>, topic: &str) {
    let answers = || client.fetch_metadata(Some(topic), QUERY_TIMEOUT).is_ok();
    let _ = (0..ANSWERS_MIN).all(|_| answers());
}

/// A client for questions to the cluster. In no group, for closing a consumer of one takes 100 ms.
pub(super) fn asker(kafka: &KafkaConfig, source: &str) -> Result<BaseConsumer<QuietContext>, SinkError> {
    consumer(&without_group(kafka, source, "read_uncommitted"))
}

/// A consumer of committed records; it never joins the group it names, and commits nothing.
pub(super) fn reader(kafka: &KafkaConfig, source: &str) -> Result<BaseConsumer<QuietContext>, SinkError> {
    let mut config = without_group(kafka, source, "read_committed");
    config
        .set("group.id", format!("tailrace-relay-{source}"))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10");
    consumer(&config)
}

fn without_group(kafka: &KafkaConfig, source: &str, isolation_level: &str) -> ClientConfig {
    let mut config = config(kafka, source);
    config.set("isolation.level", isolation_level).set("allow.auto.create.topics", "false");
    config
}

fn consumer(config: &ClientConfig) -> Result<BaseConsumer<QuietContext>, SinkError> {
    BaseConsumer::from_config_and_context(config, QuietContext::default())
        .map_err(|error| SinkError::new("the Kafka properties are not usable", &error))
}

/// Whether a connection that had been established was lost. librdkafka tells its state only in words; it keeps to itself
/// that an idle connection was closed.
pub(super) fn is_loss(reason: &str) -> bool {
    reason.contains("in state UP")
}

/// The words without how long it took: the same trouble is said in the same words.
pub(super) fn without_duration(reason: &str) -> &str {
    let reason = reason.split_once("]: ").map_or(reason, |(_, reason)| reason);
    reason.split_once(" (after ").map_or(reason, |(reason, _)| reason)
}

/// Keeps what librdkafka says of its connections: counted, remembered for error messages, logged at debug level (the
/// relay itself says once what it waits for).
#[derive(Debug, Default)]
pub(super) struct QuietContext {
    disconnects: AtomicU32,
    last_error: Mutex<Option<String>>,
}

impl QuietContext {
    /// How many connections were lost or refused since the last call.
    pub(super) fn take_disconnects(&self) -> u32 {
        self.disconnects.swap(0, Ordering::Relaxed)
    }

    /// The last thing that went wrong with a connection.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.lock().ok().and_then(|last| last.clone())
    }

    pub(super) fn note(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(kafka.error = %error, kafka.reason = reason, "kafka client error");
        let is_disconnect = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::Resolve
            )
        );
        if is_disconnect {
            self.count_disconnect();
        }
        // That all brokers are down says less than why the last one is.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.remember(reason);
        }
    }

    pub(super) fn count_disconnect(&self) {
        self.disconnects.fetch_add(1, Ordering::Relaxed);
    }

    fn remember(&self, reason: &str) {
        if let Ok(mut last) = self.last_error.lock() {
            *last = Some(without_duration(reason).to_owned());
        }
    }
}

impl ClientContext for QuietContext {
    fn error(&self, error: KafkaError, reason: &str) {
        self.note(&error, reason);
    }

    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(kafka.facility = facility, "{message}");
        // Of a connection that never came about, a consumer says why here alone.
        if facility == "FAIL" {
            self.remember(message);
        }
    }
}

impl ConsumerContext for QuietContext {}
