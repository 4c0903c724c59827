//! The outbox: the services' own table, filled by transactions that the server makes by itself.

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use xtask::workspace;

use super::servers::Servers;

/// What the services' migration calls it.
pub(super) const PUBLICATION: &str = "tailrace_outbox";
/// The type of every event.
pub(super) const EVENT_TYPE: &str = "things.made.v1";
/// The payload of every workload that does not name another.
pub(super) const PAYLOAD_BYTES: u32 = 300;

/// How many sessions write at once.
const WRITERS: u32 = 4;
/// What of a payload is neither its text nor its number.
const PAYLOAD_FRAME_BYTES: u32 = 23;
const NUMBER_BYTES: u32 = 10;
/// What stands before the number.
const NUMBER_PLACE: usize = 11;

/// What is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) transactions: u32,
    pub(super) rows: u32,
    pub(super) payload_bytes: u32,
}

impl Shape {
    pub(super) fn events(self) -> u64 {
        u64::from(self.transactions) * u64::from(self.rows)
    }
}

/// A superuser's session, with the task that carries it.
pub(super) struct Session {
    pub(super) client: Client,
    _connection: JoinSet<Result<(), tokio_postgres::Error>>,
}

impl Session {
    pub(super) async fn open(servers: &Servers, database: &str) -> Result<Self> {
        Self::connect(&servers.postgres.superuser_url(database)).await
    }

    pub(super) async fn connect(url: &str) -> Result<Self> {
        let (client, connection) =
            tokio_postgres::connect(url, NoTls).await.context("cannot connect to Postgres")?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        Ok(Self { client, _connection: tasks })
    }

    /// Makes a slot that begins here.
    pub(super) async fn make_slot(&self, slot: &str) -> Result<()> {
        let sql = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')::text";
        self.client.execute(sql, &[&slot]).await.context("cannot make a slot")?;
        Ok(())
    }

    /// Drops a slot whose reader is gone, so that it keeps no log.
    pub(super) async fn drop_slot(&self, slot: &str) -> Result<()> {
        let sql = "SELECT pg_drop_replication_slot($1)";
        self.client.execute(sql, &[&slot]).await.with_context(|| format!("cannot drop slot {slot}"))?;
        Ok(())
    }

    /// Which of these places in the log the slot's reader has told Postgres that it is past.
    pub(super) async fn is_past<const N: usize>(&self, slot: &str, places: [&str; N]) -> Result<[bool; N]> {
        let sql = "SELECT ARRAY(SELECT confirmed_flush_lsn >= place::pg_lsn FROM unnest($2::text[]) WITH ORDINALITY \
                   AS places (place, number) ORDER BY number) FROM pg_replication_slots WHERE slot_name = $1";
        let row = self.client.query_one(sql, &[&slot, &places.as_slice()]).await;
        let past: Vec<bool> = row.context("cannot look at the slot")?.get(0);
        past.try_into().map_err(|_| anyhow::anyhow!("slot {slot} has no position"))
    }

    /// The server process that serves the slot's reader, if there is one.
    pub(super) async fn walsender(&self, slot: &str) -> Result<Option<u32>> {
        let sql = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1";
        let row = self.client.query_one(sql, &[&slot]).await.context("cannot look at the slot")?;
        Ok(row.get::<_, Option<i32>>(0).and_then(|pid| u32::try_from(pid).ok()))
    }

    /// The end of the log.
    pub(super) async fn log_end(&self) -> Result<String> {
        let sql = "SELECT pg_current_wal_insert_lsn()::text";
        Ok(self.client.query_one(sql, &[]).await.context("cannot look at the log")?.get(0))
    }
}

/// Makes a database with an empty outbox.
pub(super) async fn make(servers: &Servers, database: &str) -> Result<Session> {
    let maintenance = Session::open(servers, "postgres").await?;
    maintenance.client.batch_execute(&format!("CREATE DATABASE {database}")).await?;
    let session = Session::open(servers, database).await?;
    session.client.batch_execute(&schema()?).await.context("cannot make the outbox")?;
    Ok(session)
}

/// Fills the outbox.
pub(super) async fn fill(servers: &Servers, database: &str, shape: Shape) -> Result<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let share = shape.transactions / WRITERS + u32::from(writer < shape.transactions % WRITERS);
        let url = servers.postgres.superuser_url(database);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        writers.spawn(async move {
            let sql = transactions(Shape { transactions: share, ..shape });
            tokio::select! {
                done = client.batch_execute(&sql) => done.context("cannot write"),
                ended = connection => bail!("the connection ended: {ended:?}"),
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.context("a writer panicked")??;
    }
    Ok(())
}

/// The services' own migration, so that partitions and publication are as in production.
fn schema() -> Result<String> {
    let folder = workspace::root().join("services/outbox/migrations");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    let texts: std::io::Result<Vec<_>> = files.iter().map(std::fs::read_to_string).collect();
    Ok(texts?.concat())
}

/// A block that commits so many transactions, without a client's round trip between them.
fn transactions(shape: Shape) -> String {
    let Shape { transactions, rows, payload_bytes } = shape;
    let text_bytes = payload_bytes.saturating_sub(PAYLOAD_FRAME_BYTES + NUMBER_BYTES);
    let insert = insert("made", &format!("generate_series(1, {rows})"), "filler");
    // The text is of hexadecimal digits in no order: Postgres finds nothing to compress in it.
    format!(
        "DO $$ DECLARE
            filler text := (SELECT left(coalesce(string_agg(md5(n::text), ''), ''), {text_bytes})
                            FROM generate_series(1, {text_bytes} / 32 + 1) n);
        BEGIN
            FOR made IN 1..{transactions} LOOP
                {insert};
                COMMIT;
            END LOOP;
        END $$"
    )
}

/// The statement that a client prepares to write the events numbered from `$1` to `$2` in one transaction.
pub(super) fn numbered_insert() -> String {
    let text_bytes = PAYLOAD_BYTES - PAYLOAD_FRAME_BYTES - NUMBER_BYTES;
    insert("number", "generate_series($1::bigint, $2::bigint) number", &format!("repeat('x', {text_bytes})"))
}

/// The number that a payload carries.
pub(super) fn number(payload: &[u8]) -> Option<u64> {
    let digits = payload.get(NUMBER_PLACE..NUMBER_PLACE + NUMBER_BYTES as usize)?;
    str::from_utf8(digits).ok()?.parse().ok()
}

fn insert(number: &str, rows: &str, text: &str) -> String {
    format!(
        r#"INSERT INTO outbox
            (id, aggregate_type, aggregate_id, aggregate_version, event_type, owner, headers, payload)
        SELECT gen_random_uuid(), 'things', gen_random_uuid(), 1, '{EVENT_TYPE}',
            'users/' || gen_random_uuid(),
            '{{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}',
            ('{{"number":"' || lpad({number}::text, {NUMBER_BYTES}, '0') || '","text":"' || {text} || '"}}')::json
        FROM {rows}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_tells_its_number() {
        assert_eq!(number(br#"{"number":"0000000042","text":"xx"}"#), Some(42));
        assert_eq!(number(b"{}"), None);
        assert_eq!(number(br#"{"number":"00000x0042","text":"xx"}"#), None);
    }
}
