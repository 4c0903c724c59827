//! One server for all tests, a database for each, and a reader that puts the stream together again.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cdc_relay::source::{
    ReplicationConnection, ReplicationOptions, ReplicationStream, Secret, SourceError, StreamOptions,
};
use replication_protocol::copy_data::PrimaryKeepalive;
use replication_protocol::pgoutput::{Column, Commit, Message};
use replication_protocol::{CopyData, Lsn, PgTimestamp, StandbyStatusUpdate};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};
use xtask::native::{Postgres, PostgresOptions, Scratch};

/// Nothing a test waits for takes longer than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const PUBLICATION: &str = "outbox of \"tests\", it's quoted";
const PASSWORD: &str = "relay's secret";

static SERVER: OnceCell<Server> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A server with the roles of the tests.
pub(crate) struct Server {
    pub(crate) postgres: Postgres,
    pub(crate) scratch: Scratch,
}

impl Server {
    /// The one most tests share. It ends with the process.
    pub(crate) async fn shared() -> &'static Self {
        SERVER.get_or_init(|| Self::start(&[])).await
    }

    /// One of its own, for a test that ends it or needs other settings.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new().unwrap();
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let options = PostgresOptions { without_fsync: true, settings, ..PostgresOptions::default() };
        let postgres = Postgres::start(&scratch.path().join("postgres"), options).unwrap();
        let server = Self { postgres, scratch };
        let roles = format!(
            "create role cdc_relay login replication password {password}; \
             create role onlooker login password {password}",
            password = format_args!("'{}'", PASSWORD.replace('\'', "''"))
        );
        server.client("postgres").await.batch_execute(&roles).await.unwrap();
        server
    }

    /// A superuser's connection.
    pub(crate) async fn client(&self, database: &str) -> Client {
        let config: Config = self.postgres.superuser_url(database).parse().unwrap();
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tailrace_runtime::task::spawn("test client", connection);
        client
    }

    /// A new database with an outbox and its publication.
    pub(crate) async fn database(&self) -> Database<'_> {
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let create = format!("create database {name}");
        self.client("postgres").await.batch_execute(&create).await.unwrap();
        let client = self.client(&name).await;
        let outbox = format!(
            "create table outbox (number int not null, payload json, created_at timestamptz not null default now()); \
             grant select on outbox to cdc_relay; \
             create publication \"{}\" for table outbox with (publish = 'insert')",
            PUBLICATION.replace('"', "\"\"")
        );
        client.batch_execute(&outbox).await.unwrap();
        Database { server: self, slot: format!("{name}_slot"), name, client }
    }
}

/// A database of one test.
pub(crate) struct Database<'s> {
    pub(crate) server: &'s Server,
    pub(crate) name: String,
    pub(crate) slot: String,
    pub(crate) client: Client,
}

impl Database<'_> {
    /// How the relay reaches it.
    pub(crate) fn options(&self) -> ReplicationOptions {
        let mut options =
            ReplicationOptions::new("127.0.0.1", self.server.postgres.port(), "cdc_relay", &self.name);
        options.password = Some(Secret::new(PASSWORD));
        options.application_name = format!("relay of {}", self.name);
        options
    }

    /// An ordinary connection of the relay's role.
    pub(crate) async fn client_of_relay(&self) -> Client {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.server.postgres.port()).dbname(&self.name);
        let (client, connection) = config.user("cdc_relay").password(PASSWORD).connect(NoTls).await.unwrap();
        tailrace_runtime::task::spawn("relay's client", connection);
        client
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// Makes the slot.
    pub(crate) async fn create_slot(&self) -> Lsn {
        let mut connection = self.connect().await;
        let slot = connection.create_slot(&self.slot, DEADLINE).await.unwrap();
        assert_eq!(slot.name, self.slot);
        connection.close().await.unwrap();
        slot.consistent_point
    }

    pub(crate) async fn connect(&self) -> ReplicationConnection {
        ReplicationConnection::connect(&self.options()).await.unwrap()
    }

    /// Starts the stream of the slot.
    pub(crate) async fn start(&self, from: Lsn) -> Result<Tail, SourceError> {
        start(self.connect().await, &self.slot, PUBLICATION, from).await
    }

    /// What the slot has taken as acknowledged.
    pub(crate) async fn confirmed(&self) -> Lsn {
        let sql = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1";
        let row = self.client.query_one(sql, &[&self.slot]).await.unwrap();
        row.get::<_, String>(0).parse().unwrap()
    }

    /// Drops what would otherwise keep log on the shared server.
    pub(crate) async fn drop_slot(&self) {
        let sql = "select pg_drop_replication_slot(slot_name) from pg_replication_slots \
                   where slot_name = $1 and not active";
        eventually("the slot is free", async || {
            self.client.query(sql, &[&self.slot]).await.unwrap().len() == 1
        })
        .await;
    }
}

pub(crate) async fn start(
    connection: ReplicationConnection,
    slot: &str,
    publication: &str,
    from: Lsn,
) -> Result<Tail, SourceError> {
    let stream =
        connection.start_replication(slot, publication, from, StreamOptions { messages: true }).await?;
    Ok(Tail { stream, bodies: VecDeque::new() })
}

/// Asks again and again until the answer is yes.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    soon(async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap_or_else(|| panic!("waited in vain until {what}"));
}

/// The outcome, if it comes in time.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(DEADLINE, future).await.ok()
}

/// A started stream, read message by message.
pub(crate) struct Tail {
    pub(crate) stream: ReplicationStream,
    bodies: VecDeque<Bytes>,
}

/// A transaction as it came.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) commit: Commit,
    /// The rows' numbers.
    pub(crate) numbers: Vec<i32>,
    /// The rows' payloads.
    pub(crate) payloads: Vec<Column>,
    /// Prefixes of logical messages.
    pub(crate) prefixes: Vec<Bytes>,
}

impl Tail {
    pub(crate) async fn next(&mut self) -> Result<CopyData, SourceError> {
        if self.bodies.is_empty() {
            let mut bodies = Vec::new();
            soon(self.stream.reader.next_frames(&mut bodies)).await.expect("frames in time")?;
            self.bodies.extend(bodies);
        }
        Ok(CopyData::parse(self.bodies.pop_front().expect("a call gives at least one frame")).unwrap())
    }

    /// The next transaction; keepalives before it are passed over.
    pub(crate) async fn transaction(&mut self) -> Result<Transaction, SourceError> {
        let (mut numbers, mut payloads, mut prefixes) = (vec![], vec![], vec![]);
        loop {
            let CopyData::XLogData(piece) = self.next().await? else { continue };
            match Message::parse(piece.data).unwrap() {
                Message::Insert(insert) => {
                    let columns: Vec<_> = insert.new.columns().collect();
                    numbers.push(number(&columns[0]));
                    payloads.push(columns[1].clone());
                }
                Message::Message(message) => prefixes.push(message.prefix),
                Message::Commit(commit) => return Ok(Transaction { commit, numbers, payloads, prefixes }),
                Message::Begin(_) | Message::Relation(_) => {}
                other @ (Message::Origin(_)
                | Message::Type(_)
                | Message::Update(_)
                | Message::Delete(_)
                | Message::Truncate(_)
                | Message::Unknown(_)) => panic!("an insert-only publication sent {other:?}"),
            }
        }
    }

    /// The next keepalive; nothing else may come before it.
    pub(crate) async fn keepalive(&mut self) -> PrimaryKeepalive {
        match self.next().await.unwrap() {
            CopyData::PrimaryKeepalive(keepalive) => keepalive,
            other @ (CopyData::XLogData(_) | CopyData::Unknown(_)) => {
                panic!("expected a keepalive, came {other:?}")
            }
        }
    }

    /// Acknowledges and ends the stream.
    pub(crate) async fn finish(self, flush: Lsn) {
        self.stream.finish(status(flush, false), DEADLINE).await.unwrap();
    }
}

/// A status that acknowledges everything before `flush`.
pub(crate) fn status(flush: Lsn, reply: bool) -> StandbyStatusUpdate {
    StandbyStatusUpdate { write: flush, flush, apply: flush, clock: PgTimestamp::default(), reply }
}

fn number(column: &Column) -> i32 {
    let Column::Binary(bytes) = column else { panic!("expected a binary number, came {column:?}") };
    i32::from_be_bytes(bytes[..].try_into().unwrap())
}
