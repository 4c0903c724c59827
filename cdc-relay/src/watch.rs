//! The watch over a source's slot and publication: asked on a connection of its own, shown on the board and as metrics.

use std::time::Duration;

use replication_protocol::Lsn;
use tailrace_runtime::shutdown::Shutdown;
use tokio::time::{MissedTickBehavior, interval};

use crate::board::{Board, Slot};
use crate::clock;
use crate::config::SourceConfig;
use crate::source::{Catalog, SourceError};

const INTERVAL: Duration = Duration::from_secs(2);

/// Watches until shutdown. While Postgres is away the board shows no slot.
pub(crate) async fn run(source: SourceConfig, board: Board, shutdown: Shutdown) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut catalog = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.wait() => return,
        }
        match look(&mut catalog, &source).await {
            Ok(slot) => board.slot(slot),
            Err(error) => {
                tracing::debug!(source = source.name, error = %error, "cannot look at the slot");
                catalog = None;
                board.slot(None);
            }
        }
        publish(&board);
    }
}

async fn look(catalog: &mut Option<Catalog>, source: &SourceConfig) -> Result<Option<Slot>, SourceError> {
    let catalog = match catalog {
        Some(catalog) => catalog,
        None => catalog.insert(Catalog::connect(&source.connection).await?),
    };
    let Some(row) = catalog.slot(&source.slot).await? else { return Ok(None) };
    let table = &source.table;
    let coverage = catalog.publication_coverage(&source.publication, &table.schema, &table.name).await?;
    let wal_end = catalog.current_wal_lsn().await?;
    Ok(Some(Slot { name: source.slot.clone(), row, coverage, wal_end }))
}

/// The metrics of the board: cheap enough to be set each time, exact enough to be scraped.
fn publish(board: &Board) {
    let status = board.status();
    let source = board.source().to_owned();
    let gauge = |name: &'static str, value: f64| metrics::gauge!(name, "source" => source.clone()).set(value);
    if let Some(progress) = status.progress {
        gauge("tailrace_relay_delivered_lsn", lsn(progress.durable));
        gauge("tailrace_relay_received_lsn", lsn(progress.received));
        gauge("tailrace_relay_inflight_events", progress.in_flight_events as f64);
        gauge("tailrace_relay_parked_keys", progress.parked_keys as f64);
    }
    gauge("tailrace_relay_oldest_undelivered_seconds", status.lag(clock::now().unix_us).as_secs_f64());
    gauge("tailrace_relay_slot_lag_bytes", status.lag_bytes() as f64);
    let labels = [("source", source.clone())];
    metrics::counter!("tailrace_relay_events_produced_total", &labels).absolute(status.published_events());
    metrics::counter!("tailrace_relay_dead_letters_total", &labels).absolute(status.dead_letters());
    metrics::counter!("tailrace_relay_reconnects_total", &labels).absolute(status.retries);
    if let Some(slot) = &status.slot {
        let confirmed = slot.row.confirmed_flush_lsn.unwrap_or(Lsn::ZERO);
        gauge("tailrace_relay_confirmed_flush_lsn", lsn(confirmed));
        gauge("tailrace_relay_publication_ok", f64::from(u8::from(slot.publication_covers_outbox())));
        if let Some(bytes) = slot.row.safe_wal_size_bytes {
            gauge("tailrace_relay_slot_safe_wal_bytes", bytes as f64);
        }
        let violations = metrics::counter!("tailrace_relay_ack_invariant_violations_total", &labels);
        violations.increment(u64::from(board.is_overtaken_by(&slot.row)));
    }
}

fn lsn(lsn: Lsn) -> f64 {
    lsn.as_u64() as f64
}
