//! The SQL of the projection, and nothing else.

use tailrace_topics::{Partition, Positions};
use tokio_postgres::{
    Client, Error,
    types::{ToSql, Type},
};

use super::change::{Entry, Read};

/// What was read of a partition from the offset `from` up to before `next`.
pub(super) struct Batch<'a> {
    pub(super) partition: &'a Partition,
    pub(super) from: i64,
    pub(super) next: i64,
    pub(super) entries: &'a [Entry],
}

/// A batch and where it ends, in one statement. What another replica has taken already is left out. Of the events of one
/// user the highest version counts; users are written in the order of their names, so that replicas do not lock each other
/// out.
const PUT: &str = "
    WITH here AS (
        SELECT next_offset FROM inbox WHERE topic = $1 AND partition = $2 AND next_offset >= $3 FOR UPDATE
    ), change AS (
        SELECT DISTINCT ON (name) name, version, deleted
        FROM here, unnest($5, $6, $7, $8) AS read (record_offset, name, version, deleted)
        WHERE record_offset >= next_offset
        ORDER BY name, version DESC
    ), known AS (
        INSERT INTO known_user AS known (name, version, deleted)
        SELECT name, version, deleted FROM change ORDER BY name
        ON CONFLICT (name) DO UPDATE SET version = excluded.version, deleted = excluded.deleted
        WHERE known.version < excluded.version
    ), aside AS (
        INSERT INTO inbox_set_aside (topic, partition, record_offset, event_id, event_type, reason)
        SELECT $1, $2, read.record_offset, read.event_id, read.event_type, read.reason
        FROM here, unnest($9, $10, $11, $12) AS read (record_offset, event_id, event_type, reason)
        WHERE read.record_offset >= next_offset
        ON CONFLICT DO NOTHING
    ), moved AS (
        UPDATE inbox SET next_offset = greatest(inbox.next_offset, $4) FROM here
        WHERE topic = $1 AND partition = $2
    )
    SELECT count(*) FROM here";

/// How a user stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    Unknown,
    There,
    Deleted,
}

/// Up to where each partition was read, as far as it was of that cluster.
pub(super) async fn positions(client: &Client, cluster: &str) -> Result<Positions, Error> {
    let statement = "SELECT topic, partition, next_offset FROM inbox WHERE cluster = $1";
    let rows = client.query_typed(statement, &[(&cluster, Type::TEXT)]).await?;
    rows.iter()
        .map(|row| Ok((Partition::new(row.try_get::<_, &str>(0)?, row.try_get(1)?), row.try_get(2)?)))
        .collect()
}

/// Sets where a partition is read on, unless another replica has moved on since `before` was read.
pub(super) async fn set_position(
    client: &Client,
    cluster: &str,
    partition: &Partition,
    before: Option<i64>,
    next: i64,
) -> Result<(), Error> {
    let statement = "
        INSERT INTO inbox (topic, partition, next_offset, cluster) VALUES ($1, $2, $3, $4)
        ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset, cluster = excluded.cluster
        WHERE inbox.cluster <> excluded.cluster OR inbox.next_offset = $5";
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&&*partition.topic, Type::TEXT),
        (&partition.number, Type::INT4),
        (&next, Type::INT8),
        (&cluster, Type::TEXT),
        (&before, Type::INT8),
    ];
    client.execute_typed(statement, &parameters).await.map(drop)
}

/// Writes a batch and where it ends; false when the table has gone back before it, and nothing was written.
pub(super) async fn put(client: &Client, batch: &Batch<'_>) -> Result<bool, Error> {
    let mut changes = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut aside = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for entry in batch.entries {
        match &entry.read {
            Read::Change { user, version, deleted } => {
                changes.0.push(entry.offset);
                changes.1.push(user.as_str());
                changes.2.push(*version);
                changes.3.push(*deleted);
            }
            Read::Not { event_id, event_type, reason } => {
                aside.0.push(entry.offset);
                aside.1.push(event_id.as_str());
                aside.2.push(event_type.as_str());
                aside.3.push(reason.to_string());
            }
        }
    }
    let topic = &*batch.partition.topic;
    let parameters: [(&(dyn ToSql + Sync), Type); 12] = [
        (&topic, Type::TEXT),
        (&batch.partition.number, Type::INT4),
        (&batch.from, Type::INT8),
        (&batch.next, Type::INT8),
        (&changes.0, Type::INT8_ARRAY),
        (&changes.1, Type::TEXT_ARRAY),
        (&changes.2, Type::INT8_ARRAY),
        (&changes.3, Type::BOOL_ARRAY),
        (&aside.0, Type::INT8_ARRAY),
        (&aside.1, Type::TEXT_ARRAY),
        (&aside.2, Type::TEXT_ARRAY),
        (&aside.3, Type::TEXT_ARRAY),
    ];
    let row = client.query_typed_one(PUT, &parameters).await?;
    Ok(row.try_get::<_, i64>(0)? == 1)
}

/// How the user of that name stands.
pub(super) async fn standing(client: &Client, user: &str) -> Result<Standing, Error> {
    let statement = "SELECT deleted FROM known_user WHERE name = $1";
    match client.query_typed_opt(statement, &[(&user, Type::TEXT)]).await? {
        None => Ok(Standing::Unknown),
        Some(row) if row.try_get(0)? => Ok(Standing::Deleted),
        Some(_) => Ok(Standing::There),
    }
}

/// Begins to make everything anew. Who asks sees what was there until [`end_rebuild`]; who writes waits until then.
pub(super) async fn begin_rebuild(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(
            "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
             LOCK TABLE inbox IN EXCLUSIVE MODE; \
             DELETE FROM known_user; DELETE FROM inbox_set_aside; DELETE FROM inbox",
        )
        .await
}

/// Puts what was made in the place of what was there; tells how many users are known and how many events are set aside.
pub(super) async fn end_rebuild(client: &Client) -> Result<(i64, i64), Error> {
    let counts = "SELECT (SELECT count(*) FROM known_user), (SELECT count(*) FROM inbox_set_aside)";
    let row = client.query_typed_one(counts, &[]).await?;
    let counts = (row.try_get(0)?, row.try_get(1)?);
    client.batch_execute("COMMIT").await?;
    Ok(counts)
}
