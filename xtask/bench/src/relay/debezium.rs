//! Debezium, as kind as its settings allow: Kafka Connect with the Postgres connector and the outbox transform, in a
//! virtual machine of its own. It delivers at least once.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;
use xtask::native::child::{Child, Launch};
use xtask::native::{Port, PortLease, jars};
use xtask::settings::Settings;

use super::outbox::PUBLICATION;
use super::servers::Servers;
use super::source::Source;

/// As `connect-standalone.sh` sets it.
const HEAP: [&str; 2] = ["-Xms256m", "-Xmx2g"];

/// How often it looks for changes while there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Polling {
    /// Every 5 ms.
    Tuned,
    /// Every 500 ms, as it comes.
    Default,
}

/// Debezium with its files written.
pub(super) struct Debezium {
    launch: Launch,
    _rest_port: PortLease,
}

impl Debezium {
    /// For that source, whose slot and topic exist.
    pub(super) fn new(servers: &Servers, source: &Source, polling: Polling) -> Result<Self> {
        let rest_port = Port::Free.lease()?;
        let folder = servers.scratch.path().join(&source.name);
        std::fs::create_dir_all(&folder).context("cannot make a folder")?;
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).context("cannot write a configuration")?;
            anyhow::Ok(path.display().to_string())
        };
        let offsets = folder.join("offsets").display().to_string();
        let logging = write("log4j2.properties", LOGGING.to_owned())?;
        let worker = write("connect.properties", worker(servers, rest_port.port(), &offsets))?;
        let connector = write("connector.properties", connector(servers, source, polling)?)?;
        let launch = Launch::new("debezium", "java", folder.join("debezium.log"))
            .args(HEAP)
            .arg(format!("-Dlog4j2.configurationFile={logging}"))
            .args(["-cp".to_owned(), fetched()?.join("*").display().to_string()])
            .args(["org.apache.kafka.connect.cli.ConnectStandalone".to_owned(), worker, connector]);
        Ok(Self { launch, _rest_port: rest_port })
    }

    /// Starts it.
    pub(super) fn start(&self) -> Result<Child> {
        self.launch.start()
    }
}

/// Its jars, from the cache or through Maven.
fn fetched() -> Result<PathBuf> {
    let debezium = Settings::get().value("DEBEZIUM_VERSION")?;
    let kafka = Settings::get().value("KAFKA_VERSION")?;
    let properties = [("debezium.version", debezium.as_str()), ("kafka.version", kafka.as_str())];
    jars(&format!("debezium-{debezium}"), "xtask/bench/pom.xml", &properties)
}

fn worker(servers: &Servers, rest_port: u16, offsets: &str) -> String {
    format!(
        "bootstrap.servers={}\n\
         listeners=http://127.0.0.1:{rest_port}\n\
         offset.storage.file.filename={offsets}\n\
         offset.flush.interval.ms=1000\n\
         key.converter=org.apache.kafka.connect.storage.StringConverter\n\
         value.converter=org.apache.kafka.connect.storage.StringConverter\n\
         producer.linger.ms=5\n\
         producer.batch.size=262144\n\
         plugin.discovery=only_scan\n",
        servers.kafka.bootstrap()
    )
}

/// The payload passes through as the text it is. No history, no heartbeats, and large batches.
fn connector(servers: &Servers, source: &Source, polling: Polling) -> Result<String> {
    let polling = match polling {
        Polling::Tuned => "poll.interval.ms=5\n",
        Polling::Default => "",
    };
    let password = Settings::get().value("POSTGRES_PASSWORD")?;
    let (port, database) = (servers.postgres.port(), &source.database);
    let (name, slot, topic) = (&source.name, source.slot(), &source.topic);
    Ok(format!(
        "name={name}\n\
         connector.class=io.debezium.connector.postgresql.PostgresConnector\n\
         tasks.max=1\n\
         database.hostname=127.0.0.1\n\
         database.port={port}\n\
         database.user=postgres\n\
         database.password={password}\n\
         database.dbname={database}\n\
         topic.prefix={name}\n\
         plugin.name=pgoutput\n\
         slot.name={slot}\n\
         publication.name={PUBLICATION}\n\
         publication.autocreate.mode=disabled\n\
         snapshot.mode=no_data\n\
         table.include.list=public.outbox\n\
         tombstones.on.delete=false\n\
         max.batch.size=8192\n\
         max.queue.size=32768\n\
         {polling}\
         transforms=outbox\n\
         transforms.outbox.type=io.debezium.transforms.outbox.EventRouter\n\
         transforms.outbox.table.field.event.id=id\n\
         transforms.outbox.table.field.event.key=aggregate_id\n\
         transforms.outbox.table.field.event.payload=payload\n\
         transforms.outbox.route.by.field=event_type\n\
         transforms.outbox.route.topic.replacement={topic}\n"
    ))
}

const LOGGING: &str = "\
rootLogger.level=error
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1} %m%n
";
