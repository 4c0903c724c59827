//! A Kafka for all tests, topics and a gateway for each, a transactional writer, tokens, and a reader of streams.

use std::{
    collections::BTreeMap,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use gateway::{
    Listeners,
    config::{Cli, DEFAULTS},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    message::{Header as KafkaHeader, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use service_testing::Authority;
pub(crate) use service_testing::told as reason;
use tailrace::{
    event::v1::Event,
    stream::v1::{
        WatchRequest, WatchResponse,
        event_stream_service_client::EventStreamServiceClient,
        watch_request::{Earliest, Live, Start},
        watch_response::Message,
    },
};
use tailrace_runtime::{auth::Verifier, process::Context, settings};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tonic::{Request, Status, Streaming, transport::Channel};
use xtask::native::{Kafka, KafkaOptions, Scratch};

/// What no step of a test takes longer than.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The Kafka of this test binary.
pub(crate) static KAFKA: LazyLock<Broker> = LazyLock::new(Broker::start);

/// A Kafka with its folder.
pub(crate) struct Broker {
    pub(crate) kafka: Kafka,
    _folder: Scratch,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let folder = Scratch::new().expect("a folder");
        let kafka =
            Kafka::start(&folder.path().join("kafka"), KafkaOptions::default()).expect("Kafka starts");
        Self { kafka, _folder: folder }
    }

    pub(crate) fn address(&self) -> String {
        self.kafka.bootstrap()
    }
}

/// The topics of one test.
#[derive(Clone)]
pub(crate) struct Topics {
    pub(crate) brokers: String,
    pub(crate) users: String,
    pub(crate) orders: String,
    pub(crate) dead_letter: String,
}

impl Topics {
    /// Names that no other test has.
    pub(crate) fn unmade() -> Self {
        Self::unmade_on(&KAFKA.address())
    }

    pub(crate) fn unmade_on(brokers: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |topic: &str| format!("t{number}.{topic}");
        Self {
            brokers: brokers.to_owned(),
            users: name("users.created"),
            orders: name("orders.created"),
            dead_letter: name("dead-letter"),
        }
    }

    /// Topics with nothing in them.
    pub(crate) async fn make() -> Self {
        let topics = Self::unmade();
        topics.create().await;
        topics
    }

    pub(crate) async fn create(&self) {
        let topic = |name, partitions| NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let topics = [topic(&self.users, 4), topic(&self.orders, 2), topic(&self.dead_letter, 1)];
        let results = self.admin().create_topics(&topics, &AdminOptions::new()).await.expect("an answer");
        for result in results {
            result.expect("a new topic");
        }
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.brokers).create().expect("a client")
    }
}

/// Writes events in transactions, as the relay does.
pub(crate) struct Writer {
    producer: BaseProducer,
}

impl Writer {
    pub(crate) fn new(topics: &Topics) -> Self {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &topics.brokers)
            .set("transactional.id", format!("writer-{}", topics.users))
            .set("linger.ms", "0")
            .create()
            .expect("a producer");
        producer.init_transactions(DEADLINE).expect("transactions");
        Self { producer }
    }

    /// One committed transaction of events (key, payload, owner).
    pub(crate) fn commit(&self, topic: &str, events: &[(String, String, &str)]) {
        self.send(topic, events);
        self.producer.commit_transaction(DEADLINE).expect("committed");
    }

    /// One that nobody may ever see.
    pub(crate) fn abort(&self, topic: &str, events: &[(String, String, &str)]) {
        self.send(topic, events);
        self.producer.flush(DEADLINE).expect("sent");
        self.producer.abort_transaction(DEADLINE).expect("aborted");
    }

    /// Commits payloads, a transaction each, all of one key and owner.
    pub(crate) fn commit_each(&self, topic: &str, payloads: impl IntoIterator<Item = String>) {
        for payload in payloads {
            self.commit(topic, &[("key".to_owned(), payload, ALICE)]);
        }
    }

    fn send(&self, topic: &str, events: &[(String, String, &str)]) {
        self.producer.begin_transaction().expect("begun");
        for (key, payload, owner) in events {
            let header = |key, value| KafkaHeader { key, value: Some(value) };
            let time = format!("{:.6}", jiff::Timestamp::now());
            let mut headers = OwnedHeaders::new()
                .insert(header("ce_id", payload.as_str()))
                .insert(header("ce_type", "users.created.v1"))
                .insert(header("ce_time", &time));
            if !owner.is_empty() {
                headers = headers.insert(header("tailrace_owner", owner));
            }
            let record = BaseRecord::to(topic).key(key).payload(payload).headers(headers);
            self.producer.send(record).map_err(|(error, _)| error).expect("enqueued");
        }
    }
}

/// Users of the tests.
pub(crate) const OPERATOR: &str = "users/operator";
pub(crate) const ALICE: &str = "users/alice";
pub(crate) const BOB: &str = "users/bob";

pub(crate) static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::generate);

/// A token that ends after `life`.
pub(crate) fn token(user: &str, life: Duration) -> String {
    let roles: &[&str] = if user == OPERATOR { &["operator"] } else { &[] };
    AUTHORITY.token_for(user, roles, life)
}

/// A gateway in this process.
pub(crate) struct Gateway {
    pub(crate) context: Context,
    url: String,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Gateway {
    /// A gateway that is ready.
    pub(crate) async fn ready(topics: &Topics, arguments: &[&str]) -> Self {
        let gateway = Self::start(topics, arguments).await;
        gateway.until_ready().await;
        gateway
    }

    pub(crate) async fn start(topics: &Topics, arguments: &[&str]) -> Self {
        let served = format!("{},{}", topics.users, topics.orders);
        let mut line = vec!["gateway", "--kafka-brokers", &topics.brokers, "--topics", &served];
        line.extend(["--dead-letter-topic", &topics.dead_letter, "--heartbeat-interval", "200ms"]);
        line.extend(arguments);
        let cli: Cli = settings::parse_from(line, &DEFAULTS).expect("settings");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let context = Context::detached();
        let listeners = Listeners { grpc: listener, web: None };
        let running = tailrace_runtime::task::spawn(
            "gateway",
            gateway::run(cli.settings, Verifier::fixed([AUTHORITY.key()]), listeners, context.clone()),
        );
        Self { context, url, running }
    }

    pub(crate) async fn until_ready(&self) {
        let ready = async {
            // Before the gateway has named its conditions none fails.
            while !self.context.readiness.to_string().contains("kafka: ok") {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, ready).await.unwrap_or_else(|_| panic!("not ready: {}", self.context.readiness));
    }

    pub(crate) async fn until_not_ready(&self) {
        timeout(DEADLINE, self.context.readiness.changed_from(true)).await.expect("not ready any more");
    }

    pub(crate) async fn stop(self) {
        self.context.shutdown.request();
        timeout(DEADLINE, self.running).await.expect("stops").expect("no panic").expect("no failure");
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(self.url.clone()).expect("a URL").connect_lazy()
    }

    pub(crate) async fn client(&self) -> EventStreamServiceClient<Channel> {
        EventStreamServiceClient::connect(self.url.clone()).await.expect("connected")
    }

    /// A stream of `user`'s.
    pub(crate) async fn watch(
        &self,
        user: &str,
        topics: &[&str],
        start: Start,
    ) -> Result<Subscriber, Status> {
        self.watch_with(&token(user, Duration::from_secs(600)), topics, start).await
    }

    pub(crate) async fn watch_with(
        &self,
        token: &str,
        topics: &[&str],
        start: Start,
    ) -> Result<Subscriber, Status> {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let mut request = Request::new(WatchRequest { topics, start: Some(start) });
        let bearer = format!("Bearer {token}").parse().expect("ASCII");
        request.metadata_mut().insert("authorization", bearer);
        let streaming = self.client().await.watch(request).await?.into_inner();
        Ok(Subscriber { streaming, cursor: String::new() })
    }
}

/// Where to start.
pub(crate) fn live() -> Start {
    Start::Live(Live {})
}

pub(crate) fn earliest() -> Start {
    Start::Earliest(Earliest {})
}

pub(crate) fn after(cursor: &str) -> Start {
    Start::Cursor(cursor.to_owned())
}

/// Reads a stream.
pub(crate) struct Subscriber {
    pub(crate) streaming: Streaming<WatchResponse>,
    /// Of the last response.
    pub(crate) cursor: String,
}

impl Subscriber {
    /// The next response, or the status the stream ends with.
    pub(crate) async fn next(&mut self) -> Result<Message, Status> {
        let response = timeout(DEADLINE, self.streaming.message()).await.expect("a response in time")?;
        let response = response.expect("a stream ends with a status");
        assert!(!response.cursor.is_empty(), "every response has a cursor");
        self.cursor = response.cursor;
        Ok(response.message.expect("every response says something"))
    }

    /// The next response that is not a heartbeat.
    pub(crate) async fn next_message(&mut self) -> Result<Message, Status> {
        loop {
            match self.next().await? {
                Message::Heartbeat(_) => {}
                message @ (Message::Event(_) | Message::CaughtUp(_) | Message::Gap(_)) => return Ok(message),
            }
        }
    }

    /// The payloads up to `caught_up`.
    pub(crate) async fn until_caught_up(&mut self) -> Vec<String> {
        let mut payloads = Vec::new();
        loop {
            match self.next_message().await.expect("the stream goes on") {
                Message::Event(event) => payloads.push(payload(&event)),
                Message::CaughtUp(_) => return payloads,
                other @ (Message::Gap(_) | Message::Heartbeat(_)) => panic!("not expected: {other:?}"),
            }
        }
    }

    /// The next `count` events; nothing but heartbeats may come between.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            match self.next_message().await.expect("the stream goes on") {
                Message::Event(event) => events.push(event),
                other @ (Message::CaughtUp(_) | Message::Gap(_) | Message::Heartbeat(_)) => {
                    panic!("not expected: {other:?}")
                }
            }
        }
        events
    }

    pub(crate) async fn payloads(&mut self, count: usize) -> Vec<String> {
        self.events(count).await.iter().map(payload).collect()
    }

    /// The status the stream ends with, whatever comes before.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

pub(crate) fn payload(event: &Event) -> String {
    String::from_utf8(event.payload.to_vec()).expect("text")
}

/// That offsets grow in every partition.
pub(crate) fn assert_ordered<'a>(events: impl IntoIterator<Item = &'a Event>) {
    let mut last: BTreeMap<(&str, i32), i64> = BTreeMap::new();
    for event in events {
        let before = last.insert((&event.topic, event.partition), event.offset);
        assert!(before.is_none_or(|before| before < event.offset), "{event:?} after {before:?}");
    }
}

/// `prefix-0`, `prefix-1`, …
pub(crate) fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}
