//! The servers of a workload: one Postgres, one broker, a folder for files.

use anyhow::{Context as _, Result};
use xtask::native::{Kafka, KafkaOptions, Postgres, PostgresOptions, Scratch, dev_database};

use crate::usage::Usage;

/// Enough slots for every run of a workload, and a walsender for every source of one.
const SLOTS: &str = "80";

/// Servers, gone with everything in them when this is dropped.
pub(super) struct Servers {
    pub(super) postgres: Postgres,
    pub(super) kafka: Kafka,
    pub(super) scratch: Scratch,
}

impl Servers {
    /// For a log that is read and not written while it counts: nothing is flushed to the disk.
    pub(super) fn for_drain() -> Result<Self> {
        Self::start(
            true,
            &[
                ("synchronous_commit", "off"),
                ("full_page_writes", "off"),
                ("autovacuum", "off"),
                ("checkpoint_timeout", "1h"),
                ("max_wal_size", "16GB"),
            ],
        )
    }

    /// For a load: a commit that is answered is on the disk.
    pub(super) fn for_load() -> Result<Self> {
        Self::start(false, &[("max_wal_size", "4GB")])
    }

    fn start(without_fsync: bool, settings: &[(&str, &str)]) -> Result<Self> {
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
        let kafka = Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default())?;
        Ok(Self { postgres, kafka, scratch })
    }

    /// What the broker has used so far.
    pub(super) fn broker_usage(&self) -> Result<Usage> {
        Usage::of(self.kafka.pid().context("the broker does not run")?)
    }
}
