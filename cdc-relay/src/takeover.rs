//! The one path to a source: for a start, for a takeover and after every unknown outcome.
//!
//! ```text
//!  topics there? ─▶ lease ─▶ own stream on the slot ─▶ both producers initialised ─▶ position and parked keys read to the log's end
//!                                                                                     │
//!                  publish ◀── position proven against the slot ◀── lease proven again ◀┘
//! ```
//!
//! The order is what makes it safe. Initialising producers stops whoever published before, so only the holder of the
//! lease may; the position is read after that, when nothing older can still reach the topics; START_REPLICATION at 0/0
//! begins at the slot's confirmed position, which is never past ours.

use std::time::Duration;

use replication_protocol::{Lsn, PgTimestamp, StandbyStatusUpdate};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::board::Board;
use crate::clock;
use crate::config::{Config, KafkaConfig, SourceConfig};
use crate::parking::Scan;
use crate::position::{self, Identity, Position, PositionRecord, StreamOptions};
use crate::sink::kafka::{self, Found, KafkaSink, Topics};
use crate::source::{Candidate, Lease, ReplicationConnection, ReplicationStream};
use crate::trouble::Trouble;

/// How often a standby asks for the lease.
pub(crate) const STANDBY_INTERVAL: Duration = Duration::from_millis(200);
/// How often the server hears from us while Kafka settles what was open.
const STATUS_INTERVAL: Duration = Duration::from_secs(3);

/// A source that is ours, ready to stream.
pub(crate) struct Holding {
    pub(crate) lease: Lease,
    pub(crate) stream: ReplicationStream,
    pub(crate) sink: KafkaSink,
    pub(crate) position: Position,
    pub(crate) parked: Scan,
    ledger: PositionRecord,
}

impl Holding {
    /// The record that says a position of ours.
    pub(crate) fn record(&self, position: Position) -> PositionRecord {
        PositionRecord { position: Some(position), ..self.ledger.clone() }
    }
}

/// The topics that must be there before a source is taken.
pub(crate) fn topics(config: &Config, source: &SourceConfig) -> Topics {
    Topics::new(&source.name, &config.routes, &config.kafka.dead_letter_topic)
}

/// Takes the source.
pub(crate) async fn take(config: &Config, source: &SourceConfig, board: &Board) -> Result<Holding, Trouble> {
    check_topics(config, source).await?;
    let lease = wait_for_lease(source, board).await?;
    let (identity, mut stream) = open_stream(&config.kafka, source, &lease).await?;
    let (sink, found) = open_sink(config, source, &mut stream).await?;
    match prove(source, &lease, &identity, found.position.as_ref()).await {
        Ok(position) => {
            let epoch = found.position.map_or(0, |record| record.epoch) + 1;
            let ledger = ledger(source, identity, epoch);
            Ok(Holding { lease, stream, sink, position, parked: found.parked, ledger })
        }
        Err(trouble) => {
            sink.close().await;
            Err(trouble)
        }
    }
}

/// The record of a source before it has a position.
pub(crate) fn ledger(source: &SourceConfig, identity: Identity, epoch: u64) -> PositionRecord {
    PositionRecord {
        source: source.name.clone(),
        system_id: identity.system_id,
        timeline: identity.timeline,
        slot: source.slot.clone(),
        position: None,
        epoch,
        options: StreamOptions::default(),
    }
}

/// Stands by, connected, for as long as another relay holds the source.
async fn wait_for_lease(source: &SourceConfig, board: &Board) -> Result<Lease, Trouble> {
    let mut candidate = Candidate::connect(&source.connection, &source.name).await?;
    loop {
        candidate = match candidate.try_take().await? {
            Ok(lease) => return Ok(lease),
            Err(again) => again,
        };
        board.trouble(&Trouble::Standby);
        sleep(STANDBY_INTERVAL).await;
    }
}

async fn check_topics(config: &Config, source: &SourceConfig) -> Result<(), Trouble> {
    let topics = topics(config, source);
    let kafka = config.kafka.clone();
    clock::blocking(move || topics.check(&kafka)).await?;
    Ok(())
}

/// Connects, and makes the slot ours: together with the lease it proves that nobody else works on the source.
async fn open_stream(
    kafka: &KafkaConfig,
    source: &SourceConfig,
    lease: &Lease,
) -> Result<(Identity, ReplicationStream), Trouble> {
    let Some(slot) = lease.catalog().slot(&source.slot).await? else {
        return Err(missing_slot(kafka, source).await?);
    };
    if let Some(pid) = slot.active_pid {
        // We hold the lease, so a stream of ours that still holds the slot belongs to a relay that is gone.
        if !lease.catalog().terminate_own_stream(pid).await? {
            let words =
                format!("slot {} is held by another program (server process {pid}): stop it", source.slot);
            return Err(Trouble::Passing(words));
        }
        tracing::info!(source = source.name, postgres.pid = pid, "ended the stream of a relay that is gone");
    }
    let mut connection = ReplicationConnection::connect(&source.connection).await?;
    let system = connection.identify_system().await?;
    let identity = Identity { system_id: system.system_id, timeline: system.timeline };
    let options = crate::source::StreamOptions { messages: StreamOptions::default().messages };
    let stream = connection.start_replication(&source.slot, &source.publication, Lsn::ZERO, options).await?;
    Ok((identity, stream))
}

/// A missing slot is a first start, or a loss: the position tells which.
async fn missing_slot(kafka: &KafkaConfig, source: &SourceConfig) -> Result<Trouble, Trouble> {
    let (kafka, name) = (kafka.clone(), source.name.clone());
    let record = clock::blocking(move || kafka::last_position(&kafka, &name)).await?;
    Ok(match record.and_then(|record| record.position) {
        None => Trouble::Passing(format!("slot {} does not exist yet: run `cdc-relay init`", source.slot)),
        Some(position) => Trouble::Halted(format!(
            "slot {} is gone, but Kafka holds the events up to {}: events after that must be read from the outbox table",
            source.slot, position.resume_lsn
        )),
    })
}

/// Opens the sink, answering the server meanwhile: it must not think us dead, and learns no position from us.
async fn open_sink(
    config: &Config,
    source: &SourceConfig,
    stream: &mut ReplicationStream,
) -> Result<(KafkaSink, Found), Trouble> {
    let mut ticks = interval(STATUS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let opening = KafkaSink::open(&config.kafka, &source.name, topics(config, source), source.delivery);
    tokio::pin!(opening);
    let lost = loop {
        tokio::select! {
            opened = &mut opening => return Ok(opened?),
            _ = ticks.tick() => if let Err(error) = stream.writer.send_status(silent_status()).await {
                break error;
            },
        }
    };
    // The next attempt must not meet producers that this one is still initialising.
    if let Ok((sink, _)) = opening.await {
        sink.close().await;
    }
    Err(lost.into())
}

/// A status that moves nothing.
fn silent_status() -> StandbyStatusUpdate {
    StandbyStatusUpdate {
        write: Lsn::ZERO,
        flush: Lsn::ZERO,
        apply: Lsn::ZERO,
        clock: PgTimestamp::from_unix_micros(clock::now().unix_us),
        reply: false,
    }
}

async fn prove(
    source: &SourceConfig,
    lease: &Lease,
    identity: &Identity,
    record: Option<&PositionRecord>,
) -> Result<Position, Trouble> {
    if !lease.prove().await? {
        return Err(Trouble::Standby);
    }
    let slot = lease.catalog().slot(&source.slot).await?;
    let confirmed = slot.and_then(|slot| slot.confirmed_flush_lsn);
    let confirmed =
        confirmed.ok_or_else(|| Trouble::Halted(format!("slot {} has no position", source.slot)))?;
    let options = StreamOptions::default();
    position::prove(record, identity, &source.slot, confirmed, options)
        .map_err(|mismatch| Trouble::Halted(mismatch.to_string()))
}
