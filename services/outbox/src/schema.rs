//! The outbox' own tables, and the runner for its and its service's migrations.

use jiff::Timestamp;
use refinery::{Migration, Runner};
use tokio_postgres::{Client, Error, types::Type};

use crate::{
    partitions,
    rights::{self, Right},
};

/// How long the id of a carried out request is remembered, in hours.
pub const REQUEST_RETENTION_HOURS: i32 = 24;

/// Two histories, so that the outbox and a service can both grow without agreeing on numbers.
const OUTBOX_HISTORY: &str = "outbox_migration";
const SERVICE_HISTORY: &str = "migration";
const OUTBOX_MIGRATIONS: &[(&str, &str)] = &[
    ("V1__outbox", include_str!("../migrations/V1__outbox.sql")),
    ("V2__answers", include_str!("../migrations/V2__answers.sql")),
    ("V3__retention", include_str!("../migrations/V3__retention.sql")),
    ("V4__secrets_of_requests", include_str!("../migrations/V4__secrets_of_requests.sql")),
];
/// "tailrace" in ASCII: one lock per database for everyone who migrates it.
const MIGRATION_LOCK: i64 = i64::from_be_bytes(*b"tailrace");

/// The schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database refused, or is gone.
    #[error("the migrations could not be started")]
    Database(#[from] Error),
    /// A migration is malformed, changed after it was applied, or failed.
    #[error("a migration failed")]
    Migration(#[from] refinery::Error),
}

/// The role that a service works as, and what it needs beside the outbox.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// The role, which may be the owner itself.
    pub role: &'a str,
    /// The tables of the service, and what it does with their rows.
    pub rights: &'a [Right<'a>],
}

/// Brings the outbox and then the service's own `migrations` (name `V{number}__{what}`, SQL) up to date. Several replicas may
/// do so at once: one works, the others wait and find nothing to do. Then gives the role of the `service` what it needs. The
/// role of `client` owns everything. Drop the connection afterwards when this fails: it may still hold the lock.
pub async fn migrate(
    client: &mut Client,
    migrations: &[(&str, &str)],
    service: Option<&Service<'_>>,
) -> Result<(), MigrateError> {
    // Waiting for another replica may take longer than a statement should.
    client.batch_execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0").await?;
    client.execute_typed("SELECT pg_advisory_lock($1)", &[(&MIGRATION_LOCK, Type::INT8)]).await?;
    run(client, OUTBOX_HISTORY, OUTBOX_MIGRATIONS).await?;
    run(client, SERVICE_HISTORY, migrations).await?;
    if let Some(service) = service {
        rights::grant(client, service.role, service.rights).await?;
    }
    client.execute_typed("SELECT pg_advisory_unlock($1)", &[(&MIGRATION_LOCK, Type::INT8)]).await?;
    client.batch_execute("RESET statement_timeout; RESET idle_in_transaction_session_timeout").await?;
    Ok(())
}

/// Whether a database has everything that [`migrate`] would make; for services that may not migrate by themselves.
pub async fn migrated(client: &mut Client, migrations: &[(&str, &str)]) -> Result<bool, MigrateError> {
    for (history, wanted) in [(OUTBOX_HISTORY, OUTBOX_MIGRATIONS), (SERVICE_HISTORY, migrations)] {
        let there =
            client.query_typed_one("SELECT to_regclass($1) IS NOT NULL", &[(&history, Type::TEXT)]).await?;
        if !there.try_get::<_, bool>(0)? {
            return Ok(false);
        }
        let mut runner = Runner::new(&[]);
        runner.set_migration_table_name(history);
        let applied = runner.get_applied_migrations_async(client).await?;
        if applied.len() < wanted.len() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the partitions that will be needed and forgets requests that are too old to be retried, as of `now`. Call it as the
/// owner, at start and hourly; several replicas may.
pub async fn upkeep(client: &Client, now: Timestamp) -> Result<(), Error> {
    partitions::make(client, now).await?;
    let statement = "DELETE FROM carried_out_request WHERE created_at < $1 - make_interval(hours => $2)";
    client
        .execute_typed(statement, &[(&now, Type::TIMESTAMPTZ), (&REQUEST_RETENTION_HOURS, Type::INT4)])
        .await
        .map(drop)
}

async fn run(client: &mut Client, history: &str, migrations: &[(&str, &str)]) -> Result<(), MigrateError> {
    let migrations = migrations
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql))
        .collect::<Result<Vec<_>, _>>()?;
    let mut runner = Runner::new(&migrations)
        // An older replica may start beside a newer schema during a roll-out.
        .set_abort_missing(false);
    runner.set_migration_table_name(history);
    runner.run_async(client).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PARTITION_DAYS_AHEAD;

    #[test]
    fn the_migration_makes_as_many_partitions_as_upkeep_keeps() {
        let call = format!("SELECT outbox_make_partitions({PARTITION_DAYS_AHEAD});");
        assert!(OUTBOX_MIGRATIONS.iter().any(|(_, sql)| sql.contains(&call)));
    }
}
