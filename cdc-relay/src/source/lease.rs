//! The right to work on a source: one relay at a time holds it.
//!
//! A session lock in the source's own database, so it ends with the connection and needs no clock. It is one half of
//! the proof: the other is our own stream on the slot, since a server that ended this session may not have told us yet.

use std::time::Duration;

use super::catalog::Catalog;
use super::error::{Attempt, SourceError};
use super::options::ReplicationOptions;
use super::wire::within;

/// The held lease of a source. Dropping it gives it up.
pub struct Lease {
    catalog: Catalog,
    key: i64,
}

impl Lease {
    /// Asks for the lease on a connection of its own. `None`: another relay holds it.
    ///
    /// # Errors
    /// If Postgres cannot be reached or asked.
    pub async fn try_take(options: &ReplicationOptions, source: &str) -> Result<Option<Self>, SourceError> {
        let catalog = Catalog::connect(options).await?;
        let key = key(&catalog, source).await?;
        let taken: bool = catalog.one("select pg_try_advisory_lock($1)", &[&key]).await?.get(0);
        Ok(taken.then_some(Self { catalog, key }))
    }

    /// Waits until the lease is lost, which is when its connection ends.
    pub async fn lost(&self) {
        self.catalog.ended().await;
    }

    /// Asks the server whether we still hold it. A connection may be dead before either side notices, so this is
    /// asked before anything that only the holder may do.
    ///
    /// # Errors
    /// If there is no answer, which is as bad as a no.
    pub async fn prove(&self) -> Result<bool, SourceError> {
        let sql = "select exists (select from pg_locks where locktype = 'advisory' and granted \
                   and pid = pg_backend_pid() and objsubid = 1 \
                   and (classid::bigint << 32 | objid::bigint) = $1)";
        Ok(self.catalog.one(sql, &[&self.key]).await?.get(0))
    }

    /// The catalog connection that holds the lease, for queries.
    pub const fn catalog(&self) -> &Catalog {
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

/// A lock is a number: the hash of the source's name, in a space of ours.
async fn key(catalog: &Catalog, source: &str) -> Result<i64, SourceError> {
    let name = format!("tailrace source {source}");
    Ok(catalog.one("select hashtextextended($1, 0)", &[&name]).await?.get(0))
}
