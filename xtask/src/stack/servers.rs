//! The two servers of a stack, started beside each other and beside the build.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::StackOptions;
use super::addresses::Addresses;
use crate::artefacts;
use crate::native::account::Account;
use crate::native::{Kafka, KafkaOptions, Postgres, PostgresOptions, dev_database, dev_database_script};
use crate::progress::Progress;

/// Postgres and Kafka.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) postgres: Postgres,
    pub(super) kafka: Kafka,
}

impl Servers {
    /// Starts both, and builds beside them what the options ask for.
    pub(super) fn start(dir: &Path, addresses: &Addresses, options: &StackOptions) -> Result<Self> {
        let progress = options.progress;
        std::thread::scope(|scope| {
            let postgres =
                scope.spawn(|| progress.step("Postgres", || start_postgres(dir, addresses, options)));
            let kafka = scope.spawn(|| progress.step("Kafka", || start_kafka(dir, addresses)));
            let page = scope.spawn(|| build(options, artefacts::build_page));
            build(options, artefacts::build_programs)?;
            page.join().expect("building the page does not panic")?;
            Ok(Self {
                postgres: postgres.join().expect("starting Postgres does not panic")?,
                kafka: kafka.join().expect("starting Kafka does not panic")?,
            })
        })
    }

    /// What has ended by itself.
    pub(super) fn deaths(&self) -> Vec<String> {
        let postgres = self.postgres.death();
        let kafka = self.kafka.death();
        postgres.into_iter().chain(kafka).collect()
    }
}

/// Removes the data of an earlier run; downloads stay.
pub(super) fn wipe(dir: &Path) -> Result<()> {
    let places = [postgres_folder(dir)?, dir.join("kafka"), mark(dir), dir.join("signing-key.pem")];
    for place in places {
        let removed =
            if place.is_dir() { std::fs::remove_dir_all(&place) } else { std::fs::remove_file(&place) };
        if place.exists() {
            removed.with_context(|| format!("cannot remove {}", place.display()))?;
        }
    }
    Ok(())
}

fn build(options: &StackOptions, work: impl FnOnce(Progress) -> Result<()>) -> Result<()> {
    if options.build { work(options.progress) } else { Ok(()) }
}

fn start_postgres(dir: &Path, addresses: &Addresses, options: &StackOptions) -> Result<Postgres> {
    let folder = postgres_folder(dir)?;
    // A cluster without its databases was interrupted while it was made: it holds nothing yet.
    if !mark(dir).exists() && folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let made_by = std::fs::read_to_string(mark(dir)).ok();
    if made_by.is_some_and(|script| dev_database_script().is_ok_and(|now| now != script)) {
        bail!("the roles of the databases have changed since the data was made: start once with --fresh");
    }
    let postgres_options = PostgresOptions {
        port: addresses.postgres,
        without_fsync: options.without_fsync,
        log: Some(dir.join("logs/postgres.log")),
        ..PostgresOptions::default()
    };
    let postgres = Postgres::start(&folder, postgres_options)?;
    if !mark(dir).exists() {
        dev_database(&postgres)?;
        std::fs::write(mark(dir), dev_database_script()?).context("cannot write into the data folder")?;
    }
    Ok(postgres)
}

fn start_kafka(dir: &Path, addresses: &Addresses) -> Result<Kafka> {
    let options = KafkaOptions {
        port: addresses.kafka,
        controller_port: addresses.kafka_controller,
        log: Some(dir.join("logs/kafka.log")),
        ..KafkaOptions::default()
    };
    Kafka::start(&dir.join("kafka"), options)
}

fn postgres_folder(dir: &Path) -> Result<PathBuf> {
    let folder = dir.join("postgres");
    Account::for_postgres()?.map_or(Ok(folder.clone()), |account| account.within_reach(&folder))
}

fn mark(dir: &Path) -> PathBuf {
    dir.join("postgres.made")
}
