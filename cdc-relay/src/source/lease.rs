//! The right to work on a source: one relay at a time holds it.
//!
//! ```text
//!  Candidate ── try_take, again and again ──▶ Lease ── a sign of life each second ──▶ lost
//!      └── ends the session of a holder that has given none for five
//! ```
//!
//! A session lock in the source's own database, so it ends with the connection and needs no clock. It is one half of
//! the proof: the other is our own stream on the slot, since a server that ended this session may not have told us yet.
//!
//! The kernel of a frozen holder keeps its connections alive, so the lock alone would be held for ever.

use std::sync::Arc;
use std::time::Duration;

use tailrace_runtime::task;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::catalog::Catalog;
use super::error::{Attempt, SourceError};
use super::options::ReplicationOptions;
use super::wire::within;

/// How often the holder gives a sign of life.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A holder that has been silent for so long, by the server's clock, is taken for frozen.
const SILENCE_MAX_S: f64 = 5.0;

/// One who would work on a source: a connection that asks for the lease.
pub struct Candidate {
    catalog: Catalog,
    key: i64,
}

impl Candidate {
    /// Connects.
    ///
    /// # Errors
    /// If Postgres cannot be reached or asked.
    pub async fn connect(options: &ReplicationOptions, source: &str) -> Result<Self, SourceError> {
        let catalog = Catalog::connect(options).await?;
        let key = key(&catalog, source).await?;
        Ok(Self { catalog, key })
    }

    /// Asks for the lease; an `Err` in the answer is the candidate again, because another relay holds it. One that is
    /// frozen loses it for the next time.
    ///
    /// # Errors
    /// If Postgres cannot be asked.
    pub async fn try_take(self) -> Result<Result<Lease, Self>, SourceError> {
        let sql = "select pg_try_advisory_lock($1)";
        if self.catalog.one(sql, &[&self.key]).await?.get(0) {
            return Ok(Ok(Lease::new(self.catalog, self.key)));
        }
        // Of our own role alone; `state_change` is when the holder's last question ended.
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity join pg_locks using (pid) \
                   where locktype = 'advisory' and granted and objsubid = 1 and usename = current_user \
                   and database = (select oid from pg_database where datname = current_database()) \
                   and (classid::bigint << 32 | objid::bigint) = $1 \
                   and extract(epoch from clock_timestamp() - state_change)::float8 > $2";
        if !self.catalog.all(sql, &[&self.key, &SILENCE_MAX_S]).await?.is_empty() {
            tracing::warn!("ended the session of a relay that gives no sign of life");
        }
        Ok(Err(self))
    }

    /// The catalog connection that asks, for queries.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }
}

/// The held lease of a source. Dropping it gives it up.
pub struct Lease {
    catalog: Arc<Catalog>,
    key: i64,
    lost: CancellationToken,
    _beat: DropGuard,
}

impl Lease {
    fn new(catalog: Catalog, key: i64) -> Self {
        let (catalog, lost, stop) = (Arc::new(catalog), CancellationToken::new(), CancellationToken::new());
        let beat = beat(Arc::clone(&catalog), key, lost.clone());
        let stopped = stop.clone();
        task::spawn("lease", async move { stopped.run_until_cancelled(beat).await });
        Self { catalog, key, lost, _beat: stop.drop_guard() }
    }

    /// Waits until the lease is lost: its connection ended, or the server does not confirm it.
    pub async fn lost(&self) {
        tokio::select! {
            () = self.catalog.ended() => {}
            () = self.lost.cancelled() => {}
        }
    }

    /// Asks the server whether we still hold it. A connection may be dead before either side notices, so this is
    /// asked before anything that only the holder may do.
    ///
    /// # Errors
    /// If there is no answer, which is as bad as a no.
    pub async fn prove(&self) -> Result<bool, SourceError> {
        is_held(&self.catalog, self.key).await
    }

    /// The catalog connection that holds the lease, for queries.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Gives the lease up and says so when it is done.
    ///
    /// # Errors
    /// If the connection is gone already, and the lease with it.
    pub async fn release(self, limit: Duration) -> Result<(), SourceError> {
        let unlock = async { self.catalog.one("select pg_advisory_unlock($1)", &[&self.key]).await };
        within(limit, Attempt::Lease, unlock).await.map(|_| ())
    }
}

/// Gives signs of life until one is not answered, or answered with no.
async fn beat(catalog: Arc<Catalog>, key: i64, lost: CancellationToken) {
    while matches!(is_held(&catalog, key).await, Ok(true)) {
        sleep(BEAT_INTERVAL).await;
    }
    lost.cancel();
}

async fn is_held(catalog: &Catalog, key: i64) -> Result<bool, SourceError> {
    let sql = "select exists (select from pg_locks where locktype = 'advisory' and granted \
               and pid = pg_backend_pid() and objsubid = 1 \
               and (classid::bigint << 32 | objid::bigint) = $1)";
    Ok(catalog.one(sql, &[&key]).await?.get(0))
}

/// A lock is a number: the hash of the source's name, in a space of ours.
async fn key(catalog: &Catalog, source: &str) -> Result<i64, SourceError> {
    let name = format!("tailrace source {source}");
    Ok(catalog.one("select hashtextextended($1, 0)", &[&name]).await?.get(0))
}
