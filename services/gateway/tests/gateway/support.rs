//! A Kafka for all tests, topics and a gateway for each, a transactional writer, tokens, and a reader of streams.

use std::{
    collections::BTreeMap,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gateway::{
    Listeners,
    config::{Cli, DEFAULTS},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    message::{Header as KafkaHeader, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
pub(crate) use service_testing::told as reason;
use tailrace::{
    auth::v1::SigningKey,
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

/// The key pair of RFC 8032, test 1.
const SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44,
    0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
const PUBLIC_KEY: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e,
    0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

fn verifier() -> Verifier {
    Verifier::fixed([SigningKey {
        key_id: "k".to_owned(),
        algorithm: "EdDSA".to_owned(),
        public_key: PUBLIC_KEY.to_vec(),
    }])
}

/// A token that ends after `life`.
pub(crate) fn token(user: &str, life: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let roles: &[&str] = if user == OPERATOR { &["operator"] } else { &[] };
    let claims = serde_json::json!({
        "iss": "tailrace", "aud": "tailrace", "sub": user, "roles": roles,
        "iat": now.as_secs(), "exp": (now + life).as_secs(),
    });
    let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::EdDSA) };
    let key = EncodingKey::from_ed_der(&[&PKCS8_HEAD[..], &SEED[..]].concat());
    jsonwebtoken::encode(&header, &claims, &key).expect("a token")
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
            gateway::run(cli.settings, verifier(), listeners, context.clone()),
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
