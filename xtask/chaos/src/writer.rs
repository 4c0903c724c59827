//! The writers: they append to the outbox by SQL, each over keys of its own, whatever breaks.
//!
//! Transactions of one row and of hundreds, some rolled back, some with savepoints that are. Of each key the versions
//! that are committed follow each other from 1 on. A writer that lost its session does not know whether its last
//! transaction was committed: it looks how far its keys have come, and goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_postgres::{Client, Statement};
use uuid::{Builder, Uuid};

use crate::cluster::Session;
use crate::source::EVENT_TYPES;

/// How many sessions write at once.
const WRITERS: usize = 4;
const KEYS_PER_WRITER: usize = 10;
/// Each begins so many transactions in a second at most.
const TRANSACTION_INTERVAL: Duration = Duration::from_millis(30);
/// How often a writer tries to come back.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Postgres answers sooner, or it is not there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
const PAYLOAD_TEXT_BYTES: RangeInclusive<usize> = 0..=600;

const INSERT: &str = "INSERT INTO outbox \
    (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, headers, owner) \
    SELECT id, 'things', key, version, type, payload::json, '{}', owner FROM unnest( \
    $1::uuid[], $2::text[], $3::int8[], $4::text[], $5::text[], $6::text[]) AS r (id, key, version, type, payload, owner)";

/// All writers of a run.
pub(crate) struct Writers {
    shared: Arc<Shared>,
    tasks: JoinSet<Result<Journal>>,
}

/// What the writers and their owner share.
struct Shared {
    /// Rows whose commit was answered.
    committed: AtomicU64,
    /// So many are wanted.
    wanted: u64,
    is_over: AtomicBool,
}

/// What the writers remember.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Rows whose commit was answered.
    pub(crate) committed: u64,
    /// Rows that were rolled back.
    pub(crate) rolled_back: BTreeSet<Uuid>,
    /// Transactions whose commit was not answered.
    pub(crate) unanswered: u64,
}

impl Writers {
    /// Starts them. The seed decides what they write, not when.
    pub(crate) fn start(url: &str, seed: u64, wanted: u64) -> Self {
        let shared =
            Arc::new(Shared { committed: AtomicU64::new(0), wanted, is_over: AtomicBool::new(false) });
        let mut tasks = JoinSet::new();
        for number in 0..WRITERS {
            let random = Rng::with_seed(seed.wrapping_mul(31).wrapping_add(number as u64));
            let writer = Writer {
                url: url.to_owned(),
                keys: (0..KEYS_PER_WRITER).map(|key| Key::new(number, key)).collect(),
                random,
                journal: Journal::default(),
                shared: Arc::clone(&shared),
            };
            tasks.spawn(writer.run());
        }
        Self { shared, tasks }
    }

    /// Lets them write what is still wanted, and waits for their end.
    pub(crate) async fn finish(mut self) -> Result<Journal> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let mut all = Journal::default();
        while let Some(ended) = self.tasks.join_next().await {
            let journal = ended.context("a writer panicked")??;
            all.committed += journal.committed;
            all.unanswered += journal.unanswered;
            all.rolled_back.extend(journal.rolled_back);
        }
        Ok(all)
    }
}

impl Shared {
    fn is_enough(&self) -> bool {
        self.is_over.load(Ordering::Relaxed) && self.committed.load(Ordering::Relaxed) >= self.wanted
    }
}

/// A key and how far it has come.
#[derive(Clone)]
struct Key {
    name: String,
    event_type: &'static str,
    version: i64,
}

impl Key {
    fn new(writer: usize, number: usize) -> Self {
        let event_type = EVENT_TYPES[number % EVENT_TYPES.len()];
        Self { name: format!("things/{writer}-{number}"), event_type, version: 0 }
    }
}

struct Writer {
    url: String,
    keys: Vec<Key>,
    random: Rng,
    journal: Journal,
    shared: Arc<Shared>,
}

/// Why a writer starts over.
struct SessionLost;

impl From<tokio_postgres::Error> for SessionLost {
    fn from(_: tokio_postgres::Error) -> Self {
        Self
    }
}

impl Writer {
    async fn run(mut self) -> Result<Journal> {
        let mut pace = ticks(TRANSACTION_INTERVAL);
        let mut retries = ticks(RETRY_INTERVAL);
        while !self.shared.is_enough() {
            retries.tick().await;
            let Ok(session) = Session::open(&self.url).await else { continue };
            let _ = self.write(&session.client, &mut pace).await;
        }
        Ok(self.journal)
    }

    /// Writes until it is enough or the session is lost.
    async fn write(&mut self, client: &Client, pace: &mut Interval) -> Result<(), SessionLost> {
        let insert = self.look(client).await?;
        while !self.shared.is_enough() {
            pace.tick().await;
            let transaction = self.transaction(client, &insert);
            timeout(ANSWER_TIMEOUT, transaction).await.map_err(|_| SessionLost)??;
        }
        Ok(())
    }

    /// How far the keys have come. No transaction of a lost session is under way any more: the server has ended it, or
    /// is another one by now.
    async fn look(&mut self, client: &Client) -> Result<Statement, SessionLost> {
        let names: Vec<&str> = self.keys.iter().map(|key| key.name.as_str()).collect();
        let sql =
            "SELECT aggregate_id, max(aggregate_version) FROM outbox WHERE aggregate_id = ANY($1) GROUP BY 1";
        let rows = client.query(sql, &[&names]).await?;
        let versions: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for key in &mut self.keys {
            key.version = versions.get(&key.name).copied().unwrap_or(0);
        }
        Ok(client.prepare(INSERT).await?)
    }

    async fn transaction(&mut self, client: &Client, insert: &Statement) -> Result<(), SessionLost> {
        let before = self.keys.clone();
        let mut written = Vec::new();
        client.batch_execute("BEGIN").await?;
        for _ in 0..self.random.usize(1..=3) {
            let has_savepoint = self.random.u8(0..3) == 0;
            if !has_savepoint {
                written.extend(self.rows(client, insert).await?);
                continue;
            }
            let at_savepoint = self.keys.clone();
            client.batch_execute("SAVEPOINT part").await?;
            let rows = self.rows(client, insert).await?;
            if self.random.bool() {
                client.batch_execute("RELEASE SAVEPOINT part").await?;
                written.extend(rows);
            } else {
                client.batch_execute("ROLLBACK TO SAVEPOINT part").await?;
                self.journal.rolled_back.extend(rows);
                self.keys = at_savepoint;
            }
        }
        if self.random.u8(0..8) == 0 {
            client.batch_execute("ROLLBACK").await?;
            self.journal.rolled_back.extend(written);
            self.keys = before;
            return Ok(());
        }
        self.journal.unanswered += 1;
        client.batch_execute("COMMIT").await?;
        self.journal.unanswered -= 1;
        self.journal.committed += written.len() as u64;
        self.shared.committed.fetch_add(written.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Inserts some rows, the next version each; returns their ids.
    async fn rows(&mut self, client: &Client, insert: &Statement) -> Result<Vec<Uuid>, SessionLost> {
        let count = match self.random.u8(0..200) {
            0 => self.random.usize(100..400),
            1..30 => self.random.usize(5..15),
            _ => self.random.usize(1..5),
        };
        let (mut ids, mut names, mut versions) = (Vec::new(), Vec::new(), Vec::new());
        let (mut types, mut payloads, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            ids.push(uuid(&mut self.random));
            let number = self.random.usize(0..self.keys.len());
            let key = &mut self.keys[number];
            key.version += 1;
            names.push(key.name.clone());
            versions.push(key.version);
            types.push(key.event_type);
            payloads.push(payload(&mut self.random, key));
            owners.push(self.random.bool().then(|| format!("users/{}", number)));
        }
        client.execute(insert, &[&ids, &names, &versions, &types, &payloads, &owners]).await?;
        Ok(ids)
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn uuid(random: &mut Rng) -> Uuid {
    Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid()
}

/// The odd spaces and letters must arrive as they are: a payload is passed on byte for byte.
fn payload(random: &mut Rng, key: &Key) -> String {
    let text: String = (0..random.usize(PAYLOAD_TEXT_BYTES)).map(|_| random.alphanumeric()).collect();
    format!("{{\"thing\":  \"{}\",\t\"version\":{} , \"text\":\"ü→{text}\"}}", key.name, key.version)
}
