//! The days of the outbox: made ahead, taken off when they are old, dropped when nobody needs them.
//!
//! ```text
//!  made ─────────► attached ──────────────► off ─────────────────────────────────► dropped
//!  a week ahead    until it is older than   its end of the log is noted; until every
//!                  the retention            slot has confirmed what lies before
//! ```
//!
//! A day is taken off without stopping a writer, which cannot be done within a transaction. So every step may be the last
//! one before a crash, and each begins by finishing what the one before left. Without a logical slot nothing is dropped: the
//! outbox is what a lost slot is repaired from.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::{
    Client, Error,
    types::{ToSql, Type},
};

/// How many days of partitions [`upkeep`](crate::upkeep) keeps ahead of today.
pub const PARTITION_DAYS_AHEAD: i32 = 7;

/// "retire" in ASCII: one lock per database for everyone who retires partitions.
const RETIRE_LOCK: i64 = i64::from_be_bytes(*b"\0\0retire");

/// The name of a day of the outbox, as a regular expression.
const DAY: &str = "^outbox_[0-9]{4}_[0-9]{2}_[0-9]{2}$";

/// What became of old partitions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Retired {
    /// Taken off the outbox; their events are not in it any more.
    pub taken_off: Vec<String>,
    /// Dropped.
    pub dropped: Vec<String>,
    /// Off, and kept until every slot has confirmed what was written before; or until there is a slot.
    pub kept: Vec<String>,
}

/// Makes the partitions of the day of `now` and of a week after it.
pub(crate) async fn make(client: &Client, now: Timestamp) -> Result<(), Error> {
    let statement = "SELECT outbox_make_partitions(($1 AT TIME ZONE 'UTC')::date, $2)";
    client
        .execute_typed(statement, &[(&now, Type::TIMESTAMPTZ), (&PARTITION_DAYS_AHEAD, Type::INT4)])
        .await
        .map(drop)
}

/// Takes days off the outbox that are older than `retention` at `now`, and drops those that are off and that no slot needs.
/// Call it hourly as the owner; of several replicas that do, one works. A failure leaves nothing that the next call does
/// not finish.
pub async fn retire(client: &Client, now: Timestamp, retention: Duration) -> Result<Retired, Error> {
    let lock: [(&(dyn ToSql + Sync), Type); 1] = [(&RETIRE_LOCK, Type::INT8)];
    let free = client.query_typed_one("SELECT pg_try_advisory_lock($1)", &lock).await?;
    if !free.try_get::<_, bool>(0)? {
        return Ok(Retired::default());
    }
    let retired = retire_alone(client, now, retention).await;
    let unlocked = client.execute_typed("SELECT pg_advisory_unlock($1)", &lock).await;
    let retired = retired?;
    unlocked.map(|_| retired)
}

async fn retire_alone(client: &Client, now: Timestamp, retention: Duration) -> Result<Retired, Error> {
    let taken_off = take_off(client, now, retention).await?;
    note(client, now).await?;
    let dropped = drop_confirmed(client).await?;
    let kept = names(client, "SELECT partition FROM outbox_retired ORDER BY partition", &[]).await?;
    Ok(Retired { taken_off, dropped, kept })
}

/// Takes old days off, and finishes what was interrupted.
async fn take_off(client: &Client, now: Timestamp, retention: Duration) -> Result<Vec<String>, Error> {
    let seconds = retention.as_secs_f64();
    let statement = "
        SELECT relname::text, inhdetachpending FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'outbox'::regclass AND relname ~ $1 AND (inhdetachpending OR
            (to_date(right(relname, 10), 'YYYY_MM_DD') + 1)::timestamp AT TIME ZONE 'UTC'
                <= $2 - make_interval(secs => $3))
        ORDER BY inhdetachpending DESC, relname";
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&DAY, Type::TEXT), (&now, Type::TIMESTAMPTZ), (&seconds, Type::FLOAT8)];
    let mut taken_off = Vec::new();
    for row in client.query_typed(statement, &parameters).await? {
        let (name, pending): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
        let how = if pending { "FINALIZE" } else { "CONCURRENTLY" };
        client.batch_execute(&format!("ALTER TABLE outbox DETACH PARTITION \"{name}\" {how}")).await?;
        taken_off.push(name);
    }
    Ok(taken_off)
}

/// Notes where the log stands for every day that is off; later than when it came off is as good.
async fn note(client: &Client, now: Timestamp) -> Result<(), Error> {
    let statement = "
        INSERT INTO outbox_retired (partition, retired_at, retired_lsn)
        SELECT relname, $2, pg_current_wal_insert_lsn() FROM pg_class
        WHERE relname ~ $1 AND relkind = 'r' AND NOT relispartition
            AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'outbox'::regclass)
        ON CONFLICT (partition) DO NOTHING";
    client.execute_typed(statement, &[(&DAY, Type::TEXT), (&now, Type::TIMESTAMPTZ)]).await.map(drop)
}

/// Drops what every slot of this database has passed.
async fn drop_confirmed(client: &Client) -> Result<Vec<String>, Error> {
    let statement = "
        SELECT partition FROM outbox_retired
        WHERE (SELECT count(*) > 0 AND bool_and(confirmed_flush_lsn >= retired_lsn) FROM pg_replication_slots
               WHERE slot_type = 'logical' AND database = current_database() AND NOT temporary)
        ORDER BY partition";
    let dropped = names(client, statement, &[]).await?;
    for name in &dropped {
        // One message is one transaction.
        let both =
            format!("DROP TABLE IF EXISTS \"{name}\"; DELETE FROM outbox_retired WHERE partition = '{name}'");
        client.batch_execute(&both).await?;
    }
    Ok(dropped)
}

async fn names(
    client: &Client,
    statement: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<String>, Error> {
    client.query_typed(statement, parameters).await?.iter().map(|row| row.try_get(0)).collect()
}
