//! The topics the relay writes to: whether they are there, and making them.

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::SinkError;
use super::client::{self, QUERY_TIMEOUT, QuietContext};
use crate::config::KafkaConfig;

/// The topic of a source's position records.
pub fn position_topic(source: &str) -> String {
    format!("tailrace.position.{source}")
}

/// The topics that must exist before a source can be published.
#[derive(Clone, Debug)]
pub struct Topics {
    source: String,
    events: Vec<String>,
    dead_letters: String,
}

impl Topics {
    /// For a source, with the topics that its routes name outright.
    pub fn new(source: &str, events: Vec<String>, dead_letters: &str) -> Self {
        Self { source: source.to_owned(), events, dead_letters: dead_letters.to_owned() }
    }

    /// Asks whether all are there. Blocks.
    ///
    /// # Errors
    /// If Kafka does not answer, or naming the topic that is missing.
    pub fn check(&self, config: &KafkaConfig) -> Result<(), SinkError> {
        let client = client::consumer(config, &self.source, "read_uncommitted")?;
        let metadata = client.fetch_metadata(None, QUERY_TIMEOUT).map_err(|error| {
            // Serves the queue of errors, where the reason stands.
            let _ = client.poll(std::time::Duration::ZERO);
            let reason = client.context().last_error().unwrap_or_else(|| error.to_string());
            SinkError::unavailable(format!("Kafka at {} does not answer: {reason}", config.bootstrap_servers))
        })?;
        let exists = |name: &str| metadata.topics().iter().any(|topic| topic.name() == name);
        match self.names().find(|name| !exists(name)) {
            None => Ok(()),
            Some(name) => Err(SinkError::unavailable(format!(
                "topic {name} does not exist: run `cdc-relay init`, or create it"
            ))),
        }
    }

    /// Makes those that are missing.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses.
    pub async fn create_missing(&self, config: &KafkaConfig) -> Result<(), SinkError> {
        let properties = client::config(config, &self.source);
        let admin = AdminClient::from_config_and_context(&properties, QuietContext::default())
            .map_err(|error| SinkError::new("the Kafka properties are not usable", &error))?;
        let replication = || TopicReplication::Fixed(config.replication_factor);
        let position = position_topic(&self.source);
        let mut topics = vec![
            NewTopic::new(&position, 1, replication())
                .set("cleanup.policy", "compact")
                .set("segment.bytes", "1048576"),
            NewTopic::new(&self.dead_letters, 1, replication()),
        ];
        topics.extend(
            self.events.iter().map(|name| NewTopic::new(name, config.topic_partitions, replication())),
        );
        let options = AdminOptions::new().request_timeout(Some(QUERY_TIMEOUT));
        let results = admin
            .create_topics(&topics, &options)
            .await
            .map_err(|error| SinkError::new("cannot create topics", &error))?;
        for result in results {
            match result {
                Ok(name) => tracing::info!(kafka.topic = name, "topic created"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(SinkError::unavailable(format!("cannot create topic {name}: {code}")));
                }
            }
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let position = position_topic(&self.source);
        [position, self.dead_letters.clone()].into_iter().chain(self.events.clone())
    }
}
