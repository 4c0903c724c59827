//! The topics the relay writes to: whether they are there, and making them.

use std::collections::BTreeMap;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use super::SinkError;
use super::client::{self, QUERY_TIMEOUT, QuietContext};
use super::cluster::{Cluster, Partition};
use super::security::Security;
use crate::clock;
use crate::config::KafkaConfig;
use crate::router::Route;

/// The topic of a source's position records.
pub fn position_topic(source: &str) -> String {
    format!("tailrace.position.{source}")
}

/// The topic of a source's parked events.
pub fn parked_topic(source: &str) -> String {
    format!("tailrace.parked.{source}")
}

/// The topics that a source is published to.
#[derive(Clone, Debug)]
pub struct Topics {
    source: String,
    routes: Vec<Route>,
    dead_letters: String,
}

impl Topics {
    /// For a source with these routes.
    pub fn new(source: &str, routes: &[Route], dead_letters: &str) -> Self {
        Self { source: source.to_owned(), routes: routes.to_vec(), dead_letters: dead_letters.to_owned() }
    }

    /// Asks whether those are there that must be: all but the ones that events name. Blocks.
    ///
    /// # Errors
    /// If Kafka does not answer, or naming the topic that is missing.
    pub fn check(&self, config: &KafkaConfig) -> Result<(), SinkError> {
        self.missing(config)?.first().map_or(Ok(()), |name| {
            Err(SinkError::unavailable(format!(
                "topic {name} does not exist: run `cdc-relay init`, or create it"
            )))
        })
    }

    /// Makes those that are missing. Where all are there, no right to make any is needed.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses.
    pub async fn create_missing(&self, config: &KafkaConfig) -> Result<(), SinkError> {
        let (ours, kafka) = (self.clone(), config.clone());
        let missing = clock::blocking(move || ours.missing(&kafka)).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let properties = client::config(config, &self.source);
        let admin = AdminClient::from_config_and_context(&properties, QuietContext::default())
            .map_err(|error| SinkError::new("the Kafka properties are not usable", &error))?;
        let topics: Vec<_> = missing.iter().map(|name| self.new_topic(config, name)).collect();
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

    fn new_topic<'a>(&'a self, config: &KafkaConfig, name: &'a str) -> NewTopic<'a> {
        let replication = TopicReplication::Fixed(config.replication_factor);
        if let Some(properties) = self.fixed().get(name) {
            let topic = NewTopic::new(name, config.topic_partitions, replication);
            return properties.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        }
        let topic = NewTopic::new(name, 1, replication);
        if name == self.dead_letters {
            return topic;
        }
        topic.set("cleanup.policy", "compact").set("segment.bytes", "1048576")
    }

    /// Those that must be there and are not.
    fn missing(&self, config: &KafkaConfig) -> Result<Vec<String>, SinkError> {
        let metadata = self.metadata(config)?;
        let exists = |name: &String| metadata.topics().iter().any(|topic| topic.name() == name);
        Ok(self.names().filter(|name| !exists(name)).collect())
    }

    /// Asks where the partitions are that the source may have written to. Blocks.
    pub(super) fn cluster(&self, config: &KafkaConfig, security: Security) -> Result<Cluster, SinkError> {
        let metadata = self.metadata(config)?;
        let own = [position_topic(&self.source), parked_topic(&self.source)];
        let is_ours = |name: &str| {
            own.iter().any(|own| own == name)
                || name == self.dead_letters
                || self.routes.iter().any(|route| route.may_write_to(name))
        };
        let brokers = metadata.brokers().iter();
        let ours = metadata.topics().iter().filter(|topic| is_ours(topic.name()));
        let partitions = ours.flat_map(|topic| {
            topic.partitions().iter().map(|partition| Partition {
                topic: topic.name().to_owned(),
                id: partition.id(),
                leader: partition.leader(),
            })
        });
        Ok(Cluster {
            brokers: brokers
                .map(|broker| (broker.id(), format!("{}:{}", broker.host(), broker.port())))
                .collect(),
            partitions: partitions.collect(),
            security,
        })
    }

    fn metadata(&self, config: &KafkaConfig) -> Result<Metadata, SinkError> {
        let client = client::asker(config, &self.source)?;
        client.fetch_metadata(None, QUERY_TIMEOUT).map_err(|error| {
            // Serves the queue of errors, where the reason stands.
            let _ = client.poll(std::time::Duration::ZERO);
            let reason = client.context().last_error().unwrap_or_else(|| error.to_string());
            SinkError::unavailable(format!("Kafka at {} does not answer: {reason}", config.bootstrap_servers))
        })
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let own = [position_topic(&self.source), parked_topic(&self.source), self.dead_letters.clone()];
        own.into_iter().chain(self.fixed().into_keys())
    }

    /// The topics that routes name outright, with their properties; the first route that names one decides.
    fn fixed(&self) -> BTreeMap<String, &BTreeMap<String, String>> {
        let mut topics = BTreeMap::new();
        for route in &self.routes {
            if let Some(name) = route.fixed_topic() {
                topics.entry(name.to_owned()).or_insert_with(|| route.topic_properties());
            }
        }
        topics
    }
}
