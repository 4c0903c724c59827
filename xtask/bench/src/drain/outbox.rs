//! The outbox that is drained: the services' own table, filled by transactions that the server makes by itself, and for
//! each run a slot that stands before the first of them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use xtask::native::Postgres;
use xtask::workspace;

use super::{Servers, run};

/// The length of a payload.
pub(super) const PAYLOAD_BYTES: usize = 300;
/// One more event after all others: whoever has it has all.
pub(super) const END_MARKS: u64 = 1;
/// The database of the outbox.
pub(super) const DATABASE: &str = "bench";

/// What `cdc-relay init` may take.
const INIT_TIMEOUT: Duration = Duration::from_secs(60);
/// How many sessions write at once.
const WRITERS: u32 = 4;
/// What of a payload is neither its text nor its number.
const PAYLOAD_FRAME_BYTES: usize = 23;
const NUMBER_BYTES: usize = 10;

/// What is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) transactions: u32,
    pub(super) rows: u32,
}

impl Shape {
    pub(super) fn events(self) -> u64 {
        u64::from(self.transactions) * u64::from(self.rows)
    }
}

/// The full outbox.
pub(super) struct Outbox {
    client: Client,
    /// What carries the client's requests; it ends with this.
    _connection: JoinSet<Result<(), tokio_postgres::Error>>,
    /// Every event but the mark lies before this place in the log.
    pub(super) end: String,
    pub(super) shape: Shape,
}

impl Outbox {
    /// Makes the table and, for every run, its slots, its positions and its topics; then writes the events.
    pub(super) async fn fill(servers: &Servers, pairs: u32, shape: Shape) -> Result<Self> {
        let (maintenance, _connection) = connect(&servers.postgres, "postgres").await?;
        maintenance.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
        let (client, connection) = connect(&servers.postgres, DATABASE).await?;
        client.batch_execute(&schema()?).await.context("cannot make the outbox")?;
        for number in 0..=pairs {
            let sql = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')::text";
            client.execute(sql, &[&ceiling_slot(number)]).await.context("cannot make a slot")?;
            run::relay_launch(servers, number)?.arg("init").run(INIT_TIMEOUT)?;
        }
        write(&servers.postgres, shape).await?;
        let end = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?.get(0);
        client.batch_execute(&transactions(1, 1)).await.context("cannot write the mark")?;
        Ok(Self { client, _connection: connection, end, shape })
    }

    /// Whether the slot's reader has told Postgres that it has everything.
    pub(super) async fn is_drained(&self, slot: &str) -> Result<bool> {
        let sql =
            "SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1";
        let row = self.client.query_one(sql, &[&slot, &self.end]).await.context("cannot look at the slot")?;
        Ok(row.get(0))
    }
}

/// The slot that `pg_recvlogical` reads in this run.
pub(super) fn ceiling_slot(number: u32) -> String {
    format!("ceiling_{number}")
}

/// The relay's slot in this run.
pub(super) fn relay_slot(number: u32) -> String {
    format!("relay_{number}")
}

/// The topic the relay fills in this run.
pub(super) fn topic(number: u32) -> String {
    format!("bench{number}.made")
}

async fn connect(
    postgres: &Postgres,
    database: &str,
) -> Result<(Client, JoinSet<Result<(), tokio_postgres::Error>>)> {
    let (client, connection) = tokio_postgres::connect(&postgres.superuser_url(database), NoTls).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    Ok((client, tasks))
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

async fn write(postgres: &Postgres, shape: Shape) -> Result<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let share = shape.transactions / WRITERS + u32::from(writer < shape.transactions % WRITERS);
        let (client, connection) = tokio_postgres::connect(&postgres.superuser_url(DATABASE), NoTls).await?;
        writers.spawn(async move {
            let sql = transactions(share, shape.rows);
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

/// A block that commits so many transactions, without a client's round trip between them.
fn transactions(count: u32, rows: u32) -> String {
    let text_bytes = PAYLOAD_BYTES - PAYLOAD_FRAME_BYTES - NUMBER_BYTES;
    format!(
        r#"DO $$ BEGIN
            FOR number IN 1..{count} LOOP
                INSERT INTO outbox
                    (id, aggregate_type, aggregate_id, aggregate_version, event_type, owner, headers, payload)
                SELECT gen_random_uuid(), 'things', gen_random_uuid(), 1, 'things.made.v1',
                    'users/' || gen_random_uuid(),
                    '{{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}',
                    ('{{"number":"' || lpad(number::text, {NUMBER_BYTES}, '0') || '","text":"'
                        || repeat('x', {text_bytes}) || '"}}')::json
                FROM generate_series(1, {rows});
                COMMIT;
            END LOOP;
        END $$"#
    )
}
