//! Apache Kafka, a node that is broker and controller (KRaft), in a folder of its own. The jars come through Maven.
//!
//! Alone unless its options make it one of several: the same [`KafkaOptions::cluster_id`], and settings that name the
//! others.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustix::process::Signal;
use uuid::Uuid;

use super::child::{Child, Launch};
use super::port::{Port, PortLease};
use super::postgres::beside;
use super::{download, until};
use crate::settings::Settings;

const START_TIMEOUT: Duration = Duration::from_secs(90);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// How a broker is started.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// The port it listens on.
    pub port: Port,
    /// The port of its controller.
    pub controller_port: Port,
    /// The heap of its virtual machine in megabytes.
    pub heap_mb: u32,
    /// More options of its virtual machine.
    pub java_options: Vec<String>,
    /// The file it logs to; `None` is its folder with `.log` appended.
    pub log: Option<PathBuf>,
    /// The cluster its data is formatted for; `None` is a new one.
    pub cluster_id: Option<String>,
    /// More lines for `server.properties`, which win over ours.
    pub settings: Vec<(String, String)>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            port: Port::Free,
            controller_port: Port::Free,
            heap_mb: 512,
            java_options: Vec::new(),
            log: None,
            cluster_id: None,
            settings: Vec::new(),
        }
    }
}

/// A broker, stopped when this is dropped.
#[derive(Debug)]
pub struct Kafka {
    jars: PathBuf,
    dir: PathBuf,
    options: KafkaOptions,
    port: PortLease,
    controller_port: PortLease,
    child: Mutex<Option<Child>>,
}

impl Kafka {
    /// Fetches the jars unless the cache has them, formats `dir` unless it is, and starts the broker.
    ///
    /// # Errors
    ///
    /// When Java or Maven is missing, a port is taken, or the broker does not answer; with its last log line.
    pub fn start(dir: &Path, options: KafkaOptions) -> Result<Self> {
        let kafka = Self {
            jars: jars()?,
            dir: std::path::absolute(dir).context("cannot resolve the folder of Kafka")?,
            port: options.port.lease()?,
            controller_port: options.controller_port.lease()?,
            options,
            child: Mutex::new(None),
        };
        kafka.format()?;
        kafka.launch()?;
        Ok(kafka)
    }

    /// The address for clients, the same after every restart.
    pub fn bootstrap(&self) -> String {
        self.address().to_string()
    }

    /// The process id of the broker, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running().as_ref().map(Child::pid)
    }

    /// The file it logs to.
    pub fn log(&self) -> PathBuf {
        self.options.log.clone().unwrap_or_else(|| beside(&self.dir, ".log"))
    }

    /// If it has ended by itself: one line about that.
    pub fn death(&self) -> Option<String> {
        let running = self.running();
        let child = running.as_ref()?;
        Some(format!("Kafka ended ({}): {}", child.ended()?, child.last_line()))
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running().as_ref().is_some_and(|child| child.ended().is_none())
    }

    /// Stops it as an operator would. Does nothing when it does not run.
    pub fn stop(&self) {
        if let Some(child) = self.running().take() {
            child.stop(STOP_TIMEOUT);
        }
    }

    /// Kills it (`kill -9`).
    pub fn kill(&self) {
        if let Some(child) = self.running().take() {
            child.kill();
        }
    }

    /// Sends it a signal, unless it does not run.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = self.running().as_ref() {
            child.signal(signal);
        }
    }

    /// Starts it again, on the same port and data.
    ///
    /// # Errors
    ///
    /// When it does not answer; with its last log line.
    pub fn start_again(&self) -> Result<()> {
        self.stop();
        self.launch()
    }

    /// Runs one of the tools that come with Kafka, for example `org.apache.kafka.tools.TopicCommand`.
    ///
    /// # Errors
    ///
    /// When it fails; with the last line it wrote to the broker's log.
    pub fn run_tool(&self, class: &str, arguments: &[&str]) -> Result<()> {
        self.java().arg("-Xmx256m").arg(class).args(arguments.iter().copied()).run(START_TIMEOUT)
    }

    fn running(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.port()).into()
    }

    fn format(&self) -> Result<()> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        self.write_file("server.properties", &self.properties())?;
        self.write_file("log4j2.properties", LOGGING)?;
        if self.data().join("meta.properties").exists() {
            return Ok(());
        }
        let id = self.options.cluster_id.clone().unwrap_or_else(new_cluster_id);
        let tool = self.java().args(["kafka.tools.StorageTool", "format", "-t", &id, "-c"]);
        tool.arg(self.file("server.properties")).run(START_TIMEOUT).context("cannot format the data of Kafka")
    }

    fn launch(&self) -> Result<()> {
        let heap = format!("-Xmx{}m", self.options.heap_mb);
        let java = self.java().arg(heap).args(self.options.java_options.iter());
        let child = java.arg("kafka.Kafka").arg(self.file("server.properties")).start()?;
        let ready = until(START_TIMEOUT, || match child.ended() {
            Some(_) => Some(false),
            None => answers(self.address()).then_some(true),
        });
        match ready {
            Some(true) => {
                *self.running() = Some(child);
                Ok(())
            }
            Some(false) => bail!("Kafka ended while it started: {}", child.last_line()),
            None => bail!("Kafka did not answer in {} s: {}", START_TIMEOUT.as_secs(), child.last_line()),
        }
    }

    fn java(&self) -> Launch {
        let mut launch = Launch::new("kafka", "java", self.log())
            .arg(format!("-Dlog4j2.configurationFile={}", self.file("log4j2.properties")))
            .args(["-cp".to_owned(), self.jars.join("*").display().to_string()]);
        launch.folder = Some(self.dir.clone());
        launch
    }

    fn properties(&self) -> String {
        let (port, controller) = (self.port.port(), self.controller_port.port());
        let mut text = format!(
            "# Written by xtask at every start.\n\
             process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             log.dirs={}\n\
             {ONE_NODE}",
            self.data().display()
        );
        for (name, value) in &self.options.settings {
            text.push_str(&format!("{name}={value}\n"));
        }
        text
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn write_file(&self, name: &str, text: &str) -> Result<()> {
        let path = self.dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A new cluster is another cluster: whoever remembers offsets of the one before must be able to tell.
pub fn new_cluster_id() -> String {
    loop {
        let id = URL_SAFE_NO_PAD.encode(Uuid::new_v4());
        // A dash in front would be taken for an option.
        if !id.starts_with('-') {
            return id;
        }
    }
}

/// What one node needs; topics are made by those who own them, never by a client's misspelling.
const ONE_NODE: &str = "\
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
";

const LOGGING: &str = "\
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1} %m%n
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
";

/// The folder of the broker's jars, fetched unless the cache has them.
///
/// # Errors
///
/// When they cannot be fetched.
pub fn jars() -> Result<PathBuf> {
    let version = Settings::get().value("KAFKA_VERSION")?;
    download::jars(&format!("kafka-{version}"), "xtask/pom.xml", &[("kafka.version", &version)])
}

/// Whether a broker answers `ApiVersions` without an error. It takes clients only when it can serve them.
fn answers(address: SocketAddr) -> bool {
    ask_versions(address).is_ok_and(|error_code| error_code == 0)
}

/// One `ApiVersions` request, version 0, by hand, because a client library would be much heavier.
fn ask_versions(address: SocketAddr) -> std::io::Result<i16> {
    let mut stream = TcpStream::connect_timeout(&address, REPLY_TIMEOUT)?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    // Length 10: API key 18, version 0, correlation id 7, client id null.
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])?;
    // Length, correlation id, error code; the rest is of no interest.
    let mut head = [0; 10];
    stream.read_exact(&mut head)?;
    let [.., high, low] = head;
    Ok(i16::from_be_bytes([high, low]))
}
