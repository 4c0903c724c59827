//! What is broken: one Postgres, three brokers, and the links of both relays to them. It serves all runs of a series.
//!
//! ```text
//!   relay a ──┬─ link ──▶ Postgres ◀───── writers
//!             └─ link ──▶ listener A ┐
//!   relay b ──┬─ link ──▶ Postgres   ├─ each of three brokers ◀── checker (listener PLAINTEXT)
//!             └─ link ──▶ listener B ┘
//! ```
//!
//! A broker tells its clients where it is, so each relay has a listener of its own in every broker, advertised as the
//! address of the link that leads to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use xtask::native::{
    Kafka, KafkaOptions, Port, PortLease, Postgres, PostgresOptions, Scratch, dev_database, kafka,
};

use crate::disk::Disk;
use crate::proxy::Link;
use crate::schedule::{BROKERS, SmallDisk};

/// How many relays there are.
pub(crate) const RELAYS: usize = 2;

/// Two at least must have a record before it counts, so that any one may be lost.
const REPLICATION: [(&str, &str); 7] = [
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("offsets.topic.replication.factor", "3"),
    ("transaction.state.log.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
    ("share.coordinator.state.topic.replication.factor", "3"),
    ("share.coordinator.state.topic.min.isr", "2"),
];
/// A third of the usual patience, so that a short fault shows what a long one would.
const PATIENCE: [(&str, &str); 3] = [
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("replica.lag.time.max.ms", "5000"),
];

/// Brokers live for seconds here: what a virtual machine does for the long run only delays their start.
const QUICK_START: [&str; 2] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

/// The servers and the links.
pub(crate) struct Cluster {
    pub(crate) postgres: Postgres,
    pub(crate) brokers: Vec<Kafka>,
    pub(crate) links: Vec<Links>,
    /// `None` where none may be mounted.
    pub(crate) disks: Option<Disks>,
    scratch: Scratch,
    _ports: Vec<BrokerPorts>,
    _postgres_port: PortLease,
}

/// The links of one relay.
pub(crate) struct Links {
    pub(crate) postgres: Link,
    pub(crate) brokers: Vec<Link>,
}

/// Disks that can be full.
pub(crate) struct Disks {
    pub(crate) postgres: Disk,
    pub(crate) broker: Disk,
}

/// What a broker listens on.
struct BrokerPorts {
    plain: PortLease,
    controller: PortLease,
    relays: Vec<PortLease>,
}

impl Cluster {
    /// Starts everything; the servers log into the folder.
    pub(crate) async fn start(logs: &Path, has_disks: bool) -> Result<Self> {
        let scratch = Scratch::new()?;
        let disks = if has_disks { Some(Disks::mount(scratch.path())?) } else { None };
        let postgres_port = Port::Free.lease()?;
        let ports = (0..BROKERS).map(|_| BrokerPorts::lease()).collect::<Result<Vec<_>>>()?;
        let mut links = Vec::new();
        for relay in 0..RELAYS {
            links.push(Links::open(relay, postgres_port.port(), &ports).await?);
        }
        let (postgres, brokers) = {
            let (folder, port) = (scratch.path(), postgres_port.port());
            let (ports, links) = (&ports, &links);
            tokio::task::block_in_place(|| start_servers(folder, logs, port, ports, links))?
        };
        Ok(Self { postgres, brokers, links, disks, scratch, _ports: ports, _postgres_port: postgres_port })
    }

    /// A folder for the files of the runs.
    pub(crate) fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// The brokers, past the links.
    pub(crate) fn bootstrap(&self) -> String {
        self.brokers.iter().map(Kafka::bootstrap).collect::<Vec<_>>().join(",")
    }

    /// A superuser's session, past the links.
    pub(crate) async fn session(&self, database: &str) -> Result<Session> {
        Session::open(&self.postgres.superuser_url(database)).await
    }
}

impl Drop for Cluster {
    /// Nothing of it is kept, and brokers that stop in order wait for each other.
    fn drop(&mut self) {
        self.brokers.iter().for_each(Kafka::kill);
    }
}

/// A session of Postgres, with the task that carries it.
pub(crate) struct Session {
    pub(crate) client: Client,
    _connection: JoinSet<()>,
}

impl Session {
    pub(crate) async fn open(url: &str) -> Result<Self> {
        let (client, connection) =
            tokio_postgres::connect(url, NoTls).await.context("cannot connect to Postgres")?;
        let mut task = JoinSet::new();
        task.spawn(async { drop(connection.await) });
        Ok(Self { client, _connection: task })
    }
}

impl Links {
    async fn open(relay: usize, postgres_port: u16, ports: &[BrokerPorts]) -> Result<Self> {
        let mut brokers = Vec::new();
        for ports in ports {
            brokers.push(Link::to(local(ports.relays[relay].port())).await?);
        }
        Ok(Self { postgres: Link::to(local(postgres_port)).await?, brokers })
    }

    /// The brokers, through the links.
    pub(crate) fn bootstrap(&self) -> String {
        self.brokers.iter().map(|link| link.address().to_string()).collect::<Vec<_>>().join(",")
    }
}

impl Disks {
    fn mount(folder: &Path) -> Result<Self> {
        let broker = broker_folder(folder, SmallDisk::BROKER);
        Ok(Self { postgres: Disk::mount(&postgres_folder(folder))?, broker: Disk::mount(&broker)? })
    }
}

impl BrokerPorts {
    fn lease() -> Result<Self> {
        let relays = (0..RELAYS).map(|_| Port::Free.lease()).collect::<Result<_>>()?;
        Ok(Self { plain: Port::Free.lease()?, controller: Port::Free.lease()?, relays })
    }
}

fn postgres_folder(folder: &Path) -> PathBuf {
    folder.join("postgres")
}

fn broker_folder(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("kafka-{}", number + 1))
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// All at once: a broker answers only when a majority of them runs.
fn start_servers(
    folder: &Path,
    logs: &Path,
    postgres_port: u16,
    ports: &[BrokerPorts],
    links: &[Links],
) -> Result<(Postgres, Vec<Kafka>)> {
    let cluster_id = kafka::new_cluster_id();
    // Fetched once, before three ask for them.
    kafka::jars()?;
    std::thread::scope(|scope| {
        let brokers: Vec<_> = (0..ports.len())
            .map(|number| {
                let options = broker_options(number, &cluster_id, ports, links, logs);
                let data = broker_folder(folder, number);
                scope.spawn(move || Kafka::start(&data, options))
            })
            .collect();
        let postgres = start_postgres(&postgres_folder(folder), postgres_port, logs.join("postgres.log"));
        let brokers = brokers.into_iter().map(|starting| starting.join().expect("starting does not panic"));
        Ok((postgres?, brokers.collect::<Result<_>>()?))
    })
}

fn start_postgres(data: &Path, port: u16, log: PathBuf) -> Result<Postgres> {
    let options = PostgresOptions {
        port: Port::Fixed(port),
        // What is killed is the process, not the machine: the kernel keeps what was written.
        without_fsync: true,
        log: Some(log),
        // The disk is small.
        settings: vec![("max_wal_size".into(), "256MB".into())],
    };
    let postgres = Postgres::start(data, options)?;
    dev_database(&postgres).context("cannot make the relay's role")?;
    Ok(postgres)
}

fn broker_options(
    number: usize,
    cluster_id: &str,
    ports: &[BrokerPorts],
    links: &[Links],
    logs: &Path,
) -> KafkaOptions {
    let own = &ports[number];
    let voters = ports
        .iter()
        .enumerate()
        .map(|(node, ports)| format!("{}@127.0.0.1:{}", node + 1, ports.controller.port()));
    let plain = local(own.plain.port());
    let mut listeners = vec![format!("PLAINTEXT://{plain}")];
    let mut told = listeners.clone();
    let mut protocols = vec!["PLAINTEXT:PLAINTEXT".to_owned(), "CONTROLLER:PLAINTEXT".to_owned()];
    for (relay, (port, links)) in own.relays.iter().zip(links).enumerate() {
        listeners.push(format!("RELAY{relay}://{}", local(port.port())));
        told.push(format!("RELAY{relay}://{}", links.brokers[number].address()));
        protocols.push(format!("RELAY{relay}:PLAINTEXT"));
    }
    listeners.push(format!("CONTROLLER://{}", local(own.controller.port())));
    let own_settings = [
        ("node.id", (number + 1).to_string()),
        ("controller.quorum.voters", voters.collect::<Vec<_>>().join(",")),
        ("listeners", listeners.join(",")),
        ("advertised.listeners", told.join(",")),
        ("listener.security.protocol.map", protocols.join(",")),
    ];
    let shared = REPLICATION.iter().chain(&PATIENCE).map(|(name, value)| (*name, (*value).to_owned()));
    let settings = own_settings.into_iter().chain(shared);
    KafkaOptions {
        port: Port::Fixed(own.plain.port()),
        controller_port: Port::Fixed(own.controller.port()),
        heap_mb: 384,
        java_options: QUICK_START.map(str::to_owned).into(),
        log: Some(logs.join(format!("kafka-{}.log", number + 1))),
        cluster_id: Some(cluster_id.to_owned()),
        settings: settings.map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}
