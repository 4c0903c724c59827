//! The servers of a workload: one Postgres, one broker, a folder for files.

use anyhow::{Context as _, Result};
use xtask::native::{Kafka, KafkaOptions, Postgres, PostgresOptions, Scratch, dev_database};

use crate::usage::Usage;

/// Enough slots for every run of a workload, and a walsender for every source of one.
const SLOTS: &str = "80";
/// More than the broker writes in any workload.
const BROKER_BYTES: u64 = 4 << 30;

/// Servers, gone with everything in them when this is dropped.
pub(super) struct Servers {
    pub(super) postgres: Postgres,
    pub(super) kafka: Kafka,
    pub(super) scratch: Scratch,
    /// Where the broker keeps its log, unless it is on the disk.
    memory: Option<Scratch>,
}

impl Servers {
    /// For a log that is read and not written while it counts: nothing is flushed to the disk.
    pub(super) fn for_drain() -> Result<Self> {
        Self::start(
            true,
            None,
            &[
                ("synchronous_commit", "off"),
                ("full_page_writes", "off"),
                ("autovacuum", "off"),
                ("checkpoint_timeout", "1h"),
                ("max_wal_size", "16GB"),
            ],
        )
    }

    /// For a load: a commit that is answered is on the disk. The broker, which flushes nothing, has no part in that disk: its
    /// writes would wait for Postgres' flushes, as they do on no machine of its own.
    pub(super) fn for_load() -> Result<Self> {
        let memory = Scratch::in_memory(BROKER_BYTES)?;
        Self::start(false, memory, &[("max_wal_size", "4GB")])
    }

    /// Where the broker's log is.
    pub(super) fn broker_log(&self) -> &'static str {
        if self.memory.is_some() { "the broker's log in memory" } else { "the broker's log on the same disk" }
    }

    fn start(without_fsync: bool, memory: Option<Scratch>, settings: &[(&str, &str)]) -> Result<Self> {
        let scratch = Scratch::new()?;
        let slots = [("max_replication_slots", SLOTS), ("max_wal_senders", SLOTS)];
        let settings = slots.iter().chain(settings);
        let options = PostgresOptions {
            without_fsync,
            settings: settings.map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..PostgresOptions::default()
        };
        let postgres = Postgres::start(&scratch.path().join("postgres"), options)?;
        dev_database(&postgres).context("cannot make the relay's role")?;
        let kafka_home = memory.as_ref().unwrap_or(&scratch).path().join("kafka");
        let kafka = Kafka::start(&kafka_home, KafkaOptions::default())?;
        Ok(Self { postgres, kafka, scratch, memory })
    }

    /// What the broker has used so far.
    pub(super) fn broker_usage(&self) -> Result<Usage> {
        Usage::of(self.kafka.pid().context("the broker does not run")?)
    }
}
