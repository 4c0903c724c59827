//! First contact: `cdc-relay init` makes the topics, the birth record, the slot, and the first position, in that order.
//!
//! Interrupted anywhere, it goes on where it was: the birth record says that a slot without a position is ours. It
//! never takes over a slot or a position that do not belong together.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use replication_protocol::Lsn;
use tokio::time::sleep;

use crate::config::{Config, Delivery, SourceConfig};
use crate::position::{self, Identity, Position, PositionRecord, StreamOptions};
use crate::record::Outcome;
use crate::sink::kafka::{KafkaSink, SinkError};
use crate::source::{Candidate, Catalog, Lease, ReplicationConnection, SourceError};
use crate::takeover;

/// How long another program may hold the lease.
const LEASE_LIMIT: Duration = Duration::from_secs(10);
/// How long the making of a slot may wait for open transactions.
const SLOT_LIMIT: Duration = Duration::from_secs(90);
/// How long a slot may stay without a position after its maker was ended.
const UNFINISHED_LIMIT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Why a source could not be made ready; one line that tells the mend.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Postgres.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Kafka.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Facts that do not fit, or a database that is not prepared.
    #[error("{0}")]
    Facts(String),
}

/// Makes every source ready to be streamed. Safe to repeat.
///
/// # Errors
/// For the first source that cannot be made ready.
pub async fn run(config: &Config) -> Result<(), InitError> {
    for source in &config.sources {
        takeover::topics(config, source).create_missing(&config.kafka).await?;
        let Some(lease) = take_lease(source).await? else { continue };
        check_database(lease.catalog(), source).await?;
        make_ready(config, source, &lease).await?;
    }
    Ok(())
}

/// The lease, unless a relay streams the source. A relay that waits for `init` holds it too, for a moment at each try.
async fn take_lease(source: &SourceConfig) -> Result<Option<Lease>, InitError> {
    let deadline = Instant::now() + LEASE_LIMIT;
    let mut candidate = Candidate::connect(&source.connection, &source.name).await?;
    loop {
        candidate = match candidate.try_take().await? {
            Ok(lease) => return Ok(Some(lease)),
            Err(again) => again,
        };
        if Instant::now() >= deadline {
            break;
        }
        sleep(POLL_INTERVAL).await;
    }
    if candidate.catalog().slot(&source.slot).await?.is_some_and(|slot| slot.active) {
        tracing::info!(source = source.name, slot = source.slot, "already initialised: a relay streams it");
        return Ok(None);
    }
    let words = "another relay or `cdc-relay init` holds its lease and does not stream it: its log and its /readyz say \
                 what it waits for";
    Err(facts(source, words))
}

/// What must hold in the database, with the SQL that mends it.
async fn check_database(catalog: &Catalog, source: &SourceConfig) -> Result<(), InitError> {
    let level = catalog.wal_level().await?;
    if level != "logical" {
        let words = format!(
            "wal_level is {level}, it must be logical: ALTER SYSTEM SET wal_level = 'logical'; then restart Postgres"
        );
        return Err(facts(source, &words));
    }
    let (schema, table) = (&source.table.schema, &source.table.name);
    if catalog.table_columns(schema, table).await?.is_empty() {
        return Err(facts(
            source,
            &format!("table {schema}.{table} does not exist: run the service's migrations first"),
        ));
    }
    let publication = &source.publication;
    match catalog.publication_coverage(publication, schema, table).await? {
        Some(coverage) if coverage.table && coverage.inserts => Ok(()),
        Some(_) => Err(facts(
            source,
            &format!(
                "publication {publication} does not publish inserts into {schema}.{table}: ALTER PUBLICATION \
                      {publication} ADD TABLE {schema}.{table}"
            ),
        )),
        None => Err(facts(
            source,
            &format!(
                "publication {publication} does not exist: CREATE PUBLICATION {publication} FOR TABLE \
                      {schema}.{table} WITH (publish = 'insert', publish_via_partition_root = true)"
            ),
        )),
    }
}

async fn make_ready(config: &Config, source: &SourceConfig, lease: &Lease) -> Result<(), InitError> {
    let mut connection = ReplicationConnection::connect(&source.connection).await?;
    let system = connection.identify_system().await?;
    let identity = Identity { system_id: system.system_id, timeline: system.timeline };
    let confirmed = finished_slot(lease.catalog(), source).await?;
    let topics = takeover::topics(config, source);
    let (mut sink, found) =
        KafkaSink::open(&config.kafka, &source.name, topics, Delivery::ExactlyOnce).await?;
    let birth = takeover::ledger(source, identity.clone(), 0);
    let resume_lsn = match (found.position, confirmed) {
        (Some(record), Some(confirmed)) if record.position.is_some() => {
            position::prove(Some(&record), &identity, &source.slot, confirmed, StreamOptions::default())
                .map_err(|mismatch| facts(source, &mismatch.to_string()))?;
            tracing::info!(source = source.name, slot = source.slot, "already initialised");
            sink.close().await;
            return Ok(());
        }
        (Some(PositionRecord { position: Some(position), .. }), None) => {
            let words = format!(
                "slot {} is gone, but Kafka holds the events up to {}: events after that would be lost by a new slot",
                source.slot, position.resume_lsn
            );
            return Err(facts(source, &words));
        }
        (None, Some(confirmed)) => {
            let words = format!(
                "slot {} exists (confirmed {confirmed}) but Kafka holds no position of it: drop the slot if it is not in \
                 use, SELECT pg_drop_replication_slot('{}')",
                source.slot, source.slot
            );
            return Err(facts(source, &words));
        }
        // An earlier init was interrupted after it made the slot.
        (Some(_), Some(confirmed)) => confirmed,
        (_, None) => {
            write(&mut sink, birth.clone()).await?;
            count_earlier_rows(lease.catalog(), source).await;
            connection.create_slot(&source.slot, SLOT_LIMIT).await?.consistent_point
        }
    };
    write(&mut sink, PositionRecord { position: Some(Position::at(resume_lsn)), ..birth }).await?;
    sink.close().await;
    tracing::info!(source = source.name, slot = source.slot, position.lsn = %resume_lsn, "initialised");
    Ok(())
}

/// What the slot has confirmed, if there is one. A slot that an earlier `init` was killed over is still being made by its
/// server process, which waits for open transactions and does not notice: it is ended, and the slot goes with it.
async fn finished_slot(catalog: &Catalog, source: &SourceConfig) -> Result<Option<Lsn>, InitError> {
    let deadline = Instant::now() + UNFINISHED_LIMIT;
    loop {
        let Some(slot) = catalog.slot(&source.slot).await? else { return Ok(None) };
        if let Some(confirmed) = slot.confirmed_flush_lsn {
            return Ok(Some(confirmed));
        }
        if Instant::now() >= deadline {
            let words = format!(
                "slot {} has no position: it is being made by another program, or it is no logical one",
                source.slot
            );
            return Err(facts(source, &words));
        }
        if let Some(pid) = slot.active_pid {
            catalog.terminate_own_stream(pid).await?;
        }
        sleep(POLL_INTERVAL).await;
    }
}

async fn write(sink: &mut KafkaSink, record: PositionRecord) -> Result<(), InitError> {
    sink.record(record);
    match sink.outcome().await? {
        Outcome::Refused { message, .. } => Err(InitError::Facts(message)),
        Outcome::Committed | Outcome::Delivered | Outcome::Recorded => Ok(()),
    }
}

/// Rows from before the slot will not be streamed: said once, here. Not an error, and not known for foreign tables.
async fn count_earlier_rows(catalog: &Catalog, source: &SourceConfig) {
    let (schema, table) = (&source.table.schema, &source.table.name);
    if let Ok(rows) = catalog.rows_before(schema, table, "created_at", Timestamp::now()).await
        && rows.count > 0
    {
        tracing::warn!(
            source = source.name,
            outbox.earlier_rows = rows.count,
            "the outbox holds rows from before the slot: they are not streamed"
        );
    }
}

fn facts(source: &SourceConfig, words: &str) -> InitError {
    InitError::Facts(format!("source {}: {words}", source.name))
}
