//! Real servers, a source of its own for each test, the relay as a real process, and a reader of the topics.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::link::{Link, Protocol};
use crate::operator;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};
use xtask::native::{Kafka, KafkaOptions, Port, PortLease, Postgres, PostgresOptions, Scratch};

/// Nothing a test waits for takes longer than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "relay-secret";

static SERVERS: OnceCell<Servers> = OnceCell::const_new();
static SOURCES: AtomicU32 = AtomicU32::new(0);

/// A Postgres and a Kafka.
pub(crate) struct Servers {
    pub(crate) postgres: Postgres,
    pub(crate) kafka: Arc<Kafka>,
    /// Another way to Kafka, which tests can interrupt.
    pub(crate) link: Arc<Link>,
    pub(crate) scratch: Scratch,
    ports: Arc<[PortLease; 3]>,
}

impl Servers {
    /// The ones that most tests share; they end with the process.
    pub(crate) async fn shared() -> &'static Self {
        SERVERS.get_or_init(|| Self::start(&[])).await
    }

    /// Servers of its own, for a test that breaks them.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_with(settings, &[]).await
    }

    /// The same, with settings for Kafka too.
    pub(crate) async fn start_with(postgres: &[(&str, &str)], kafka: &[(&str, &str)]) -> Self {
        Self::start_over(Protocol::Kafka, postgres, kafka).await
    }

    /// The same, with a link that reads this.
    pub(crate) async fn start_over(
        protocol: Protocol,
        postgres: &[(&str, &str)],
        kafka: &[(&str, &str)],
    ) -> Self {
        let scratch = Scratch::new().expect("a folder");
        let ports = [(); 3].map(|()| Port::Free.lease().expect("a port"));
        let [plain, linked, controller] = [0, 1, 2].map(|number: usize| ports[number].port());
        let link = Link::to(([127, 0, 0, 1], linked).into(), protocol);
        let listeners = [
            (
                "listeners",
                format!(
                    "PLAINTEXT://127.0.0.1:{plain},LINK://127.0.0.1:{linked},CONTROLLER://127.0.0.1:{controller}"
                ),
            ),
            ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{plain},LINK://{}", link.address())),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,LINK:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
            ),
        ];
        let listeners = listeners.map(|(name, value)| (name.to_owned(), value));
        let options = KafkaOptions {
            port: Port::Fixed(plain),
            controller_port: Port::Fixed(controller),
            settings: [listeners.to_vec(), owned(kafka)].concat(),
            ..KafkaOptions::default()
        };
        let kafka = Kafka::start(&scratch.path().join("kafka"), options).expect("Kafka starts");
        let postgres = start_postgres(&scratch, postgres);
        let servers =
            Self { postgres, kafka: Arc::new(kafka), link: Arc::new(link), scratch, ports: Arc::new(ports) };
        servers.create_role().await;
        servers
    }

    /// A Postgres of its own, and the Kafka that most tests share.
    pub(crate) async fn with_own_postgres(settings: &[(&str, &str)]) -> Self {
        let shared = Self::shared().await;
        let scratch = Scratch::new().expect("a folder");
        let servers = Self {
            postgres: start_postgres(&scratch, settings),
            kafka: Arc::clone(&shared.kafka),
            link: Arc::clone(&shared.link),
            scratch,
            ports: Arc::clone(&shared.ports),
        };
        servers.create_role().await;
        servers
    }

    async fn create_role(&self) {
        let role = format!("create role cdc_relay login replication password '{PASSWORD}'");
        self.client("postgres").await.batch_execute(&role).await.expect("the relay's role");
    }

    /// A superuser's connection.
    pub(crate) async fn client(&self, database: &str) -> Client {
        let url = self.postgres.superuser_url(database);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("Postgres answers");
        tailrace_runtime::task::spawn("test client", connection);
        client
    }

    /// A database with an outbox, and the relay's configuration for it.
    pub(crate) async fn source(&self) -> Source<'_> {
        let name = format!("s{}", SOURCES.fetch_add(1, Ordering::Relaxed));
        self.client("postgres")
            .await
            .batch_execute(&format!("create database {name}"))
            .await
            .expect("a database");
        let client = self.client(&name).await;
        client.batch_execute(OUTBOX).await.expect("an outbox");
        let config = self.scratch.path().join(format!("{name}.toml"));
        let source = Source { servers: self, name, client, config };
        source.configure(&source.default_config());
        source
    }
}

fn start_postgres(scratch: &Scratch, settings: &[(&str, &str)]) -> Postgres {
    // Each test has a slot of its own on the shared server.
    let many = [("max_replication_slots", "128"), ("max_wal_senders", "128")];
    let settings = owned(&[&many, settings].concat());
    let options = PostgresOptions { without_fsync: true, settings, ..PostgresOptions::default() };
    Postgres::start(&scratch.path().join("postgres"), options).expect("Postgres starts")
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const OUTBOX: &str = "
    create table outbox (id uuid primary key default gen_random_uuid(), aggregate_type text not null,
        aggregate_id text not null, aggregate_version bigint, event_type text not null, payload json,
        headers json, owner text, created_at timestamptz not null default clock_timestamp());
    grant select on outbox to cdc_relay;
    create publication tailrace_outbox for table outbox with (publish = 'insert')";

/// One database with an outbox.
pub(crate) struct Source<'a> {
    pub(crate) servers: &'a Servers,
    pub(crate) name: String,
    pub(crate) client: Client,
    config: PathBuf,
}

impl Source<'_> {
    pub(crate) fn default_config(&self) -> String {
        let (name, bootstrap) = (&self.name, self.servers.kafka.bootstrap());
        let url = self.servers.postgres.url("cdc_relay", PASSWORD, name);
        format!(
            "[kafka]\nbootstrap_servers = \"{bootstrap}\"\ndead_letter_topic = \"{name}.dead-letter\"\n\
             [[source]]\nname = \"{name}\"\nurl = \"{url}\"\nslot = \"tailrace_{name}\"\n\
             publication = \"tailrace_outbox\"\nidle_position_interval = \"1s\"\n\
             [[route]]\nevent_type = \"thing.*\"\ntopic = \"{topic}\"\n",
            topic = self.topic()
        )
    }

    /// The same by way of the link to Kafka.
    pub(crate) fn linked_config(&self) -> String {
        let link = self.servers.link.address().to_string();
        self.default_config().replace(&self.servers.kafka.bootstrap(), &link)
    }

    pub(crate) fn configure(&self, text: &str) {
        fs::write(&self.config, text).expect("a configuration file");
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    pub(crate) fn topic(&self) -> String {
        format!("{}.created", self.name)
    }

    pub(crate) fn dead_letter_topic(&self) -> String {
        format!("{}.dead-letter", self.name)
    }

    pub(crate) fn slot(&self) -> String {
        format!("tailrace_{}", self.name)
    }

    /// Runs `cdc-relay init` to its end.
    pub(crate) fn init(&self) -> Output {
        let output = relay_command(&self.config).arg("init").output().expect("the relay's binary");
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
        output
    }

    /// Starts the relay as a process of its own.
    pub(crate) fn relay(&self) -> Relay {
        self.relay_with(&[])
    }

    /// The same with these variables in its environment.
    pub(crate) fn relay_with(&self, variables: &[(&str, &Path)]) -> Relay {
        Relay::start(&self.config, variables)
    }

    /// Initialises, and starts the relay.
    pub(crate) async fn running(&self) -> Relay {
        assert!(self.init().status.success());
        let relay = self.relay();
        relay.ready().await;
        relay
    }

    /// Commits a transaction of one event per (key, version).
    pub(crate) async fn write(&self, events: impl IntoIterator<Item = (&str, i64)>) {
        let rows: Vec<String> = events
            .into_iter()
            .map(|(key, version)| {
                format!("('things', '{key}', {version}, 'thing.made.v1', '{{\"n\":  {version}}}')")
            })
            .collect();
        let sql = format!(
            "insert into outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload) values {}",
            rows.join(",")
        );
        self.client.batch_execute(&sql).await.expect("the rows are written");
    }

    /// Everything a `read_committed` reader sees in the topic, once there is as much as expected.
    pub(crate) async fn published(&self, topic: &str, expected: usize) -> Vec<Published> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (bootstrap, name) = (self.servers.kafka.bootstrap(), topic.to_owned());
            let events = tokio::task::spawn_blocking(move || read_all(&bootstrap, &name)).await;
            let events = events.expect("the topic can be read");
            if events.len() >= expected || Instant::now() > deadline {
                return events;
            }
        }
    }

    /// The value of the last committed position record.
    pub(crate) fn last_position(&self) -> String {
        let topic = format!("tailrace.position.{}", self.name);
        let records = read_all(&self.servers.kafka.bootstrap(), &topic);
        String::from_utf8(records.last().expect("a position").value.clone()).expect("JSON")
    }

    /// The slot's confirmed position.
    pub(crate) async fn confirmed(&self) -> String {
        let sql = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1";
        self.client.query_one(sql, &[&self.slot()]).await.expect("the slot").get(0)
    }

    /// Waits until the server has sent the log up to here.
    pub(crate) async fn sent(&self, lsn: &str) {
        let sql = "select count(*) > 0 from pg_stat_replication where sent_lsn >= $1::text::pg_lsn
            and application_name = $2";
        let name = format!("tailrace-relay/{}", self.name);
        let deadline = Instant::now() + DEADLINE;
        while !self.client.query_one(sql, &[&lsn, &name]).await.expect("the streams").get::<_, bool>(0) {
            assert!(Instant::now() < deadline, "the log is not sent up to {lsn}");
        }
    }

    pub(crate) async fn wal_end(&self) -> String {
        self.client.query_one("select pg_current_wal_lsn()::text", &[]).await.expect("an LSN").get(0)
    }
}

/// An event as a consumer reads it.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) partition: i32,
}

impl Published {
    pub(crate) fn version(&self) -> i64 {
        self.headers.get("tailrace_aggregate_version").expect("a version").parse().expect("a number")
    }
}

/// Asserts that exactly these versions of every key were published, each once, in order.
#[track_caller]
pub(crate) fn check_exactly_once(events: &[Published], expected: &BTreeMap<String, i64>) {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for event in events {
        let before = last.insert(&event.key, event.version()).unwrap_or(0);
        assert_eq!(
            event.version(),
            before + 1,
            "after version {before} of {} came {}",
            event.key,
            event.version()
        );
    }
    let last: BTreeMap<String, i64> =
        last.into_iter().map(|(key, version)| (key.to_owned(), version)).collect();
    assert_eq!(&last, expected, "the last versions");
}

fn read_all(bootstrap: &str, topic: &str) -> Vec<Published> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "20")
        .set("fetch.message.max.bytes", "20000000")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).expect("metadata");
    let partitions: Vec<i32> =
        metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
    let mut assignment = TopicPartitionList::new();
    for partition in &partitions {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&assignment).expect("an assignment");
    let mut events = Vec::new();
    let mut ended = 0;
    while ended < partitions.len() {
        match consumer.poll(DEADLINE).expect("the topic can be read in time") {
            Ok(message) => events.push(published(&message)),
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    events
}

fn published(message: &rdkafka::message::BorrowedMessage<'_>) -> Published {
    let headers = message.headers().map_or_else(BTreeMap::new, |headers| {
        headers
            .iter()
            .map(|header| {
                (header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into())
            })
            .collect()
    });
    Published {
        key: String::from_utf8_lossy(message.key().unwrap_or_default()).into(),
        value: message.payload().unwrap_or_default().to_vec(),
        headers,
        partition: message.partition(),
    }
}

/// A running relay; killed when dropped.
pub(crate) struct Relay {
    child: Child,
    admin: SocketAddr,
    ops: SocketAddr,
    log: PathBuf,
}

impl Relay {
    fn start(config: &Path, variables: &[(&str, &Path)]) -> Self {
        let (admin, ops) = (free_address(), free_address());
        let log = config.with_extension(format!("{}.log", ops.port()));
        let out = fs::File::create(&log).expect("a log file");
        let child = relay_command(config)
            .env("TAILRACE_LISTEN", admin.to_string())
            .env("TAILRACE_OPS_LISTEN", ops.to_string())
            .env("TAILRACE_LOG", "info,cdc_relay=debug")
            .envs(variables.iter().copied())
            .stdout(out.try_clone().expect("the same file"))
            .stderr(out)
            .spawn()
            .expect("the relay's binary");
        Self { child, admin, ops, log }
    }

    /// Where it answers `/readyz`.
    pub(crate) fn ops(&self) -> SocketAddr {
        self.ops
    }

    /// Where it answers operators.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        tokio::task::block_in_place(|| self.child.wait()).expect("our child").code()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([format!("-{signal}"), self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }

    /// Waits until `/readyz` says so.
    pub(crate) async fn ready(&self) {
        self.wait_for("ready", |status, _| status == 200).await;
    }

    /// Waits until the relay is not ready and its `/readyz` says these words.
    pub(crate) async fn not_ready_because(&self, words: &str) {
        self.wait_for(words, |status, body| status == 503 && body.contains(words)).await;
    }

    /// Waits until `/metrics` holds a sample of this name.
    pub(crate) async fn measures(&self, name: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.metrics().await.contains(name) {
            assert!(Instant::now() < deadline, "no {name} in {}", self.metrics().await);
        }
    }

    pub(crate) async fn metrics(&self) -> String {
        self.get("/metrics").await.map_or_else(String::new, |(_, body)| body)
    }

    async fn wait_for(&self, what: &str, is_it: impl Fn(u16, &str) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = self.get("/readyz").await;
            if answer.as_ref().is_some_and(|(status, body)| is_it(*status, body)) {
                return;
            }
            assert!(Instant::now() < deadline, "waited for {what:?}, it says {answer:?}:\n{}", self.log());
        }
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(self.ops).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The real binary with a configuration.
pub(crate) fn relay_command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cdc-relay"));
    command.arg("--config").arg(config).stdin(Stdio::null());
    command.env("TAILRACE_AUTH_KEYS_URL", operator::keys_url());
    command
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}
