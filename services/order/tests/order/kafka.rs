//! One Kafka for this test binary, topics of users for each test, and the relay's part: events, in transactions.

use std::sync::{
    LazyLock,
    atomic::{AtomicU32, Ordering},
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use tokio::task::spawn_blocking;
use xtask::native::{Kafka, KafkaOptions, Scratch};

use crate::support::DEADLINE;

static KAFKA: LazyLock<Broker> = LazyLock::new(Broker::start);

/// A Kafka with its folder.
pub(crate) struct Broker {
    pub(crate) kafka: Kafka,
    _folder: Scratch,
}

impl Broker {
    fn start() -> Self {
        let folder = Scratch::new().expect("a folder");
        let kafka =
            Kafka::start(&folder.path().join("kafka"), KafkaOptions::default()).expect("Kafka starts");
        Self { kafka, _folder: folder }
    }

    /// One of its own, for a test that stops it.
    pub(crate) async fn own() -> Self {
        spawn_blocking(Self::start).await.expect("started")
    }
}

/// The topics of the users of one test.
pub(crate) struct Topics {
    pub(crate) brokers: String,
    created: String,
    updated: String,
    deleted: String,
}

/// What an event is like.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) topic: String,
    pub(crate) event_type: &'static str,
    pub(crate) version: String,
    pub(crate) payload: String,
}

impl Topics {
    /// With nothing in them.
    pub(crate) async fn make() -> Self {
        let brokers = spawn_blocking(|| KAFKA.kafka.bootstrap()).await.expect("Kafka");
        Self::make_on(brokers).await
    }

    pub(crate) async fn make_on(brokers: String) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |topic: &str| format!("t{number}.users.{topic}");
        let topics =
            Self { brokers, created: name("created"), updated: name("updated"), deleted: name("deleted") };
        for topic in topics.names() {
            topics.create(topic).await;
        }
        topics
    }

    pub(crate) fn names(&self) -> [&str; 3] {
        [&self.created, &self.updated, &self.deleted]
    }

    pub(crate) async fn create(&self, topic: &str) {
        let new = NewTopic::new(topic, 2, TopicReplication::Fixed(1));
        let made = self.admin().create_topics([&new], &AdminOptions::new()).await.expect("an answer");
        made.into_iter().for_each(|topic| drop(topic.expect("a new topic")));
    }

    pub(crate) async fn delete(&self, topic: &str) {
        let gone = self.admin().delete_topics(&[topic], &AdminOptions::new()).await.expect("an answer");
        gone.into_iter().for_each(|topic| drop(topic.expect("deleted")));
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("a client")
    }

    /// The settings that name them.
    pub(crate) fn arguments(&self) -> [String; 4] {
        [
            "--kafka-brokers".to_owned(),
            self.brokers.clone(),
            "--user-topics".to_owned(),
            self.names().join(","),
        ]
    }

    pub(crate) fn created(&self, user: &str) -> Event {
        self.event(&self.created, "users.created.v1", user, 1)
    }

    pub(crate) fn updated(&self, user: &str, version: i64) -> Event {
        self.event(&self.updated, "users.updated.v1", user, version)
    }

    pub(crate) fn deleted(&self, user: &str, version: i64) -> Event {
        self.event(&self.deleted, "users.deleted.v1", user, version)
    }

    fn event(&self, topic: &str, event_type: &'static str, user: &str, version: i64) -> Event {
        let payload = format!(r#"{{"user":"{user}","email":"secret@example.org"}}"#);
        Event { topic: topic.to_owned(), event_type, version: version.to_string(), payload }
    }

    /// Writes the events in one transaction.
    pub(crate) async fn commit(&self, events: impl IntoIterator<Item = Event>) {
        self.write(events, true).await;
    }

    /// Writes events that nobody may ever see.
    pub(crate) async fn abort(&self, events: impl IntoIterator<Item = Event>) {
        self.write(events, false).await;
    }

    async fn write(&self, events: impl IntoIterator<Item = Event>, commit: bool) {
        let (brokers, id) = (self.brokers.clone(), format!("relay-{}", self.created));
        let events: Vec<Event> = events.into_iter().collect();
        spawn_blocking(move || {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("transactional.id", id)
                .create()
                .expect("a producer");
            producer.init_transactions(DEADLINE).expect("transactions");
            producer.begin_transaction().expect("begun");
            events.iter().for_each(|event| send(&producer, event));
            if commit {
                producer.commit_transaction(DEADLINE).expect("committed");
            } else {
                producer.flush(DEADLINE).expect("sent");
                producer.abort_transaction(DEADLINE).expect("aborted");
            }
        })
        .await
        .expect("written");
    }
}

fn send(producer: &BaseProducer, event: &Event) {
    let header = |key, value| Header { key, value: Some(value) };
    let headers = OwnedHeaders::new()
        .insert(header("ce_id", "an-id"))
        .insert(header("ce_type", event.event_type))
        .insert(header("tailrace_aggregate_version", &event.version));
    // One key: what one test writes to a topic has an order.
    let record = BaseRecord::to(&event.topic).key("key").payload(&event.payload).headers(headers);
    producer.send(record).map_err(|(error, _)| error).expect("enqueued");
}
