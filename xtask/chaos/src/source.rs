//! What one run writes to and reads from: a database with the services' own outbox, topics, and the configuration of the
//! relays. New for each run, gone after it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use tokio_postgres::Row as SqlRow;
use xtask::artefacts;
use xtask::native::child::Launch;
use xtask::settings::Settings;
use xtask::workspace;

use crate::checker::{Delivery, Places, Row, murmur2_partition};
use crate::cluster::{Cluster, Links, RELAYS};
use crate::run::Plan;
use crate::schedule::BROKERS;

/// The two types of event, each with a topic of its own.
pub(crate) const EVENT_TYPES: [&str; 2] = ["thing.made.v1", "thing.changed.v1"];
const PARTITIONS: i32 = 4;
/// The smallest buffer there is, so that a transaction of some hundred rows is published in pieces.
const BUFFER_BYTES: u32 = 64 * 1024;
const INIT_TIMEOUT: Duration = Duration::from_secs(60);
const DELETE_TIMEOUT: Duration = Duration::from_secs(20);

/// The source of one run.
pub(crate) struct Source {
    /// Its name; also the database's.
    pub(crate) name: String,
    /// Where the logs of the relays are.
    pub(crate) logs: PathBuf,
    delivery: Delivery,
    configs: Vec<PathBuf>,
}

impl Source {
    /// Makes the database and the topics; the relays can be started then.
    pub(crate) async fn make(cluster: &Cluster, number: u32, plan: &Plan, logs: PathBuf) -> Result<Self> {
        let name = format!("chaos{number}");
        let create = format!("CREATE DATABASE {name}");
        cluster.session("postgres").await?.client.batch_execute(&create).await?;
        let session = cluster.session(&name).await?;
        session.client.batch_execute(&schema()?).await.context("cannot make the outbox")?;
        std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        let mut source = Self { name, logs, delivery: plan.delivery, configs: Vec::new() };
        for relay in 0..RELAYS {
            let path = cluster.folder().join(format!("{}-{relay}.toml", source.name));
            std::fs::write(&path, source.configuration(&cluster.links[relay])?)
                .with_context(|| format!("cannot write {}", path.display()))?;
            source.configs.push(path);
        }
        let init = source.launch(0, &source.logs.join("init.log"))?.arg("init");
        tokio::task::block_in_place(|| init.run(INIT_TIMEOUT))?;
        Ok(source)
    }

    /// How a relay is started.
    pub(crate) fn launch(&self, relay: usize, log: &Path) -> Result<Launch> {
        let program = artefacts::programs()?.join("cdc-relay");
        let config = self.configs[relay].display().to_string();
        Ok(Launch::new("cdc-relay", program, log).args(["--config".to_owned(), config]))
    }

    /// The replication slot.
    pub(crate) fn slot(&self) -> String {
        format!("tailrace_{}", self.name)
    }

    /// The topics of events.
    pub(crate) fn event_topics(&self) -> Vec<String> {
        EVENT_TYPES.iter().map(|event_type| self.topic(event_type)).collect()
    }

    fn dead_letter_topic(&self) -> String {
        format!("{}.dead-letter", self.name)
    }

    /// Every committed row.
    pub(crate) async fn rows(&self, cluster: &Cluster) -> Result<Vec<Row>> {
        let session = cluster.session(&self.name).await?;
        let sql = "SELECT id, aggregate_id, aggregate_version, event_type, payload::text, owner FROM outbox \
                   ORDER BY aggregate_id, aggregate_version";
        let rows = session.client.query(sql, &[]).await.context("cannot read the outbox")?;
        rows.iter().map(row).collect()
    }

    /// Removes everything that would slow down later runs. The relays must be gone.
    pub(crate) async fn remove(&self, cluster: &Cluster) -> Result<()> {
        let session = cluster.session("postgres").await?;
        let drop_slot = "SELECT pg_drop_replication_slot($1)";
        session.client.execute(drop_slot, &[&self.slot()]).await.context("cannot drop the slot")?;
        session.client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await?;
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", cluster.bootstrap()).create()?;
        let mut topics = self.event_topics();
        topics.push(self.dead_letter_topic());
        topics.extend(["position", "parked"].map(|what| format!("tailrace.{what}.{}", self.name)));
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let options = AdminOptions::new().request_timeout(Some(DELETE_TIMEOUT));
        admin.delete_topics(&names, &options).await.context("cannot delete the topics")?;
        Ok(())
    }

    /// As an operator would write it, but for the small buffer, and an idle position that does not keep us waiting.
    fn configuration(&self, links: &Links) -> Result<String> {
        let password = Settings::get().value("CDC_RELAY_PASSWORD")?;
        let (name, slot, dead_letters) = (&self.name, self.slot(), self.dead_letter_topic());
        let (brokers, postgres, delivery) = (links.bootstrap(), links.postgres.address(), self.delivery);
        let mut text = format!(
            "[kafka]\nbootstrap_servers = \"{brokers}\"\ndead_letter_topic = \"{dead_letters}\"\n\
             topic_partitions = {PARTITIONS}\nreplication_factor = {BROKERS}\n\
             [[source]]\nname = \"{name}\"\nurl = \"postgres://cdc_relay@{postgres}/{name}\"\n\
             password = \"{password}\"\nslot = \"{slot}\"\npublication = \"tailrace_outbox\"\n\
             delivery = \"{delivery}\"\nbuffer_bytes_max = {BUFFER_BYTES}\nidle_position_interval = \"1s\"\n"
        );
        for event_type in EVENT_TYPES {
            let topic = self.topic(event_type);
            text.push_str(&format!("[[route]]\nevent_type = \"{event_type}\"\ntopic = \"{topic}\"\n"));
        }
        Ok(text)
    }
}

impl Places for Source {
    fn topic(&self, event_type: &str) -> String {
        format!("{}.{}", self.name, event_type.trim_end_matches(".v1"))
    }

    fn partition(&self, key: &str) -> i32 {
        murmur2_partition(key.as_bytes(), PARTITIONS)
    }
}

fn row(row: &SqlRow) -> Result<Row> {
    Ok(Row {
        id: row.try_get(0)?,
        key: row.try_get(1)?,
        version: row.try_get(2)?,
        event_type: row.try_get(3)?,
        payload: row.try_get(4)?,
        owner: row.try_get(5)?,
    })
}

/// The services' own migration, so that partitions and publication are as in production.
fn schema() -> Result<String> {
    let folder = workspace::root().join("services/outbox/migrations");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    let texts: std::io::Result<Vec<_>> = files.iter().map(std::fs::read_to_string).collect();
    Ok(texts?.concat())
}
