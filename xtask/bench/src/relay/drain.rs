//! The drain: a log full of events, and how long it takes to bring all of it to Kafka.
//!
//! ```text
//!                                                              ┌── pg_recvlogical → /dev/null   (the ceiling)
//!   slots and topics made ── transactions written, nobody reads ─┼── cdc-relay → Kafka, exactly once
//!                                                              └── Debezium → Kafka, at least once (if asked for)
//! ```
//!
//! All read the same bytes of log, in turn, each through a slot of its own; who begins changes from pair to pair. Before
//! each run the disk gets what the runs before it left to be written, or it would be written meanwhile. The
//! relay's time begins with its process and ends when the slot shows that Postgres was told: positions in Kafka,
//! transaction committed. A run counts only if a `read_committed` reader then finds every event, no more and no less.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::sync;
use serde::Serialize;
use tokio::time::interval;
use xtask::native::child::{Child, Launch};
use xtask::native::postgres;

use super::Options;
use super::debezium::{Debezium, Polling};
use super::outbox::{self, PUBLICATION, Session, Shape};
use super::process::Relay;
use super::servers::Servers;
use super::source::{Delivery, Source};
use super::topic::{self, Ends};
use crate::usage::Usage;

/// One more event after all others: whoever has it has all.
const END_MARKS: u64 = 1;
const DATABASE: &str = "bench";
/// Whoever has not drained the log by then is stuck.
const RUN_TIMEOUT: Duration = Duration::from_secs(600);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// A measured drain.
#[derive(Debug, Serialize)]
pub(super) struct Drain {
    /// The run that warms the broker up, not counted.
    warm_up: RelayRun,
    pub(super) pairs: Vec<Pair>,
}

/// Runs over the same log, one after the other.
#[derive(Debug, Serialize)]
pub(super) struct Pair {
    ceiling_first: bool,
    /// What `pg_recvlogical` takes.
    pub(super) ceiling_s: f64,
    pub(super) relay: RelayRun,
    pub(super) debezium: Option<DebeziumRun>,
}

/// What the relay takes.
#[derive(Debug, Serialize)]
pub(super) struct RelayRun {
    /// From the start of its process to the acknowledgement of everything.
    pub(super) seconds: f64,
    /// From the acknowledgement of half of the log to that of all.
    pub(super) second_half_s: f64,
    pub(super) usage: Usage,
    /// What the server process that reads the log for the relay has used.
    walsender_cpu_s: f64,
    broker_cpu_s: f64,
    headers: Vec<String>,
}

/// What Debezium takes.
#[derive(Debug, Serialize)]
pub(super) struct DebeziumRun {
    /// From the start of its process until the last record is in Kafka.
    pub(super) seconds: f64,
    /// From half of the records in Kafka to all of them.
    pub(super) second_half_s: f64,
    pub(super) usage: Usage,
    broker_cpu_s: f64,
    headers: Vec<String>,
}

impl Drain {
    /// The names of the headers that the relay's records carry.
    pub(super) fn headers(&self) -> String {
        self.warm_up.headers.join(", ")
    }

    /// A figure of each pair.
    pub(super) fn each(&self, figure: impl Fn(&Pair) -> f64) -> Vec<f64> {
        self.pairs.iter().map(figure).collect()
    }

    /// A figure of each pair with a run of Debezium; empty if there is none.
    pub(super) fn each_with_debezium(&self, figure: impl Fn(&Pair, &DebeziumRun) -> f64) -> Vec<f64> {
        self.pairs.iter().filter_map(|pair| Some(figure(pair, pair.debezium.as_ref()?))).collect()
    }
}

/// Starts servers, fills a log, and drains it in pairs.
pub(super) async fn measure(options: &Options, shape: Shape) -> Result<Drain> {
    let servers = Servers::for_drain()?;
    let pairs = options.amount(options.pairs, 1);
    eprintln!(
        "writing {} transactions × {} rows × {} B …",
        shape.transactions, shape.rows, shape.payload_bytes
    );
    let log = Log::write(servers, shape, pairs, options.debezium_pairs()).await?;
    let warm_up = log.relay(0).await?;
    eprintln!("warm-up: {:.2} s", warm_up.seconds);
    let mut measured = Vec::new();
    for number in 1..=pairs {
        let pair = log.pair(number, number <= options.debezium_pairs()).await?;
        let (ceiling_s, relay_s) = (pair.ceiling_s, pair.relay.seconds);
        eprint!(
            "pair {number}: pg_recvlogical {ceiling_s:.2} s, relay {relay_s:.2} s, ratio {:.2}",
            ceiling_s / relay_s
        );
        match &pair.debezium {
            Some(run) => {
                eprintln!(", Debezium {:.1} s, of that second half {:.1} s", run.seconds, run.second_half_s)
            }
            None => eprintln!(),
        }
        measured.push(pair);
    }
    Ok(Drain { warm_up, pairs: measured })
}

/// A full log.
struct Log {
    servers: Servers,
    session: Session,
    shape: Shape,
    /// Half of the events lie before this place.
    middle: String,
    /// Every event but the mark lies before this one.
    end: String,
}

impl Log {
    /// Makes the slots and topics of every run, then writes the events.
    async fn write(servers: Servers, shape: Shape, pairs: u32, debezium_pairs: u32) -> Result<Self> {
        let session = outbox::make(&servers, DATABASE).await?;
        for number in 0..=pairs {
            session.make_slot(&ceiling_slot(number)).await?;
            relay_of(&servers, number)?.init()?;
        }
        for number in 1..=debezium_pairs {
            let source = debezium_source(number);
            session.make_slot(&source.slot()).await?;
            topic::make(&servers.kafka.bootstrap(), &source.topic).await?;
        }
        let first_half = shape.transactions / 2;
        outbox::fill(&servers, DATABASE, Shape { transactions: first_half, ..shape }).await?;
        let middle = session.log_end().await?;
        let second_half = Shape { transactions: shape.transactions - first_half, ..shape };
        outbox::fill(&servers, DATABASE, second_half).await?;
        let end = session.log_end().await?;
        outbox::fill(&servers, DATABASE, Shape { transactions: 1, rows: 1, ..shape })
            .await
            .context("no mark")?;
        Ok(Self { servers, session, shape, middle, end })
    }

    /// One of each; who begins changes, because the second finds the log in the cache.
    async fn pair(&self, number: u32, with_debezium: bool) -> Result<Pair> {
        let ceiling_first = !number.is_multiple_of(2);
        let early_s = if ceiling_first { Some(self.ceiling(number)?) } else { None };
        let relay = self.relay(number).await?;
        let ceiling_s = match early_s {
            Some(early_s) => early_s,
            None => self.ceiling(number)?,
        };
        let debezium = if with_debezium { Some(self.debezium(number).await?) } else { None };
        Ok(Pair { ceiling_first, ceiling_s, relay, debezium })
    }

    /// Reads everything with `pg_recvlogical`; answers the seconds.
    fn ceiling(&self, number: u32) -> Result<f64> {
        // Packages put it beside the server; the Postgres of npm has none, then the one in PATH must do.
        let beside_server = postgres::binaries()?.join("pg_recvlogical");
        let program = if beside_server.exists() { beside_server } else { "pg_recvlogical".into() };
        let log = self.servers.scratch.path().join("pg_recvlogical.log");
        let launch = Launch::new("pg_recvlogical", program, log)
            .args(["--start", "--no-loop", "--file=/dev/null", "--fsync-interval=0"])
            .args(["-o", "proto_version=1", "-o", "binary=true", "-o"])
            .arg(format!("publication_names={PUBLICATION}"))
            .arg(format!("--dbname={}", self.servers.postgres.superuser_url(DATABASE)))
            .arg(format!("--slot={}", ceiling_slot(number)))
            .arg(format!("--endpos={}", self.end));
        sync();
        let begun = Instant::now();
        let run = launch.run(RUN_TIMEOUT);
        run.context("pg_recvlogical is the measure of the relay (apt-get install postgresql)")?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Brings everything to Kafka with the relay.
    async fn relay(&self, number: u32) -> Result<RelayRun> {
        let source = relay_source(number);
        let launch = relay_of(&self.servers, number)?;
        let slot = source.slot();
        let broker_before = self.servers.broker_usage()?;
        sync();
        let mut looks = interval(LOOK_INTERVAL);
        let begun = Instant::now();
        let relay = launch.start()?;
        let (mut half_s, mut is_drained) = (None, false);
        while !is_drained {
            looks.tick().await;
            ensure_going(&relay, begun)?;
            let [is_half, is_all] = self.session.is_past(&slot, [&self.middle, &self.end]).await?;
            if is_half && half_s.is_none() {
                half_s = Some(begun.elapsed().as_secs_f64());
            }
            is_drained = is_all;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let second_half_s = seconds - half_s.unwrap_or(0.0);
        let usage = Usage::of(relay.pid())?;
        let walsender = self.session.walsender(&slot).await?.context("the relay reads no more")?;
        let walsender_cpu_s = Usage::of(walsender)?.cpu_s;
        let broker_cpu_s = self.servers.broker_usage()?.cpu_s - broker_before.cpu_s;
        relay.stop(STOP_TIMEOUT);
        let bootstrap = self.servers.kafka.bootstrap();
        let found = topic::check(&bootstrap, &source.topic, self.expected(), false)?;
        Ok(RelayRun { seconds, second_half_s, usage, walsender_cpu_s, broker_cpu_s, headers: found.headers })
    }

    /// Brings everything to Kafka with Debezium.
    async fn debezium(&self, number: u32) -> Result<DebeziumRun> {
        let source = debezium_source(number);
        let launch = Debezium::new(&self.servers, &source, Polling::Tuned)?;
        let bootstrap = self.servers.kafka.bootstrap();
        let ends = Ends::of(&bootstrap, &source.topic)?;
        let broker_before = self.servers.broker_usage()?;
        sync();
        let mut looks = interval(LOOK_INTERVAL);
        let begun = Instant::now();
        let debezium = launch.start()?;
        let mut half_s = None;
        loop {
            let records = ends.sum()?;
            if half_s.is_none() && records >= self.expected() / 2 {
                half_s = Some(begun.elapsed().as_secs_f64());
            }
            if records >= self.expected() {
                break;
            }
            ensure_going(&debezium, begun)?;
            looks.tick().await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let usage = Usage::of(debezium.pid())?;
        let broker_cpu_s = self.servers.broker_usage()?.cpu_s - broker_before.cpu_s;
        debezium.stop(STOP_TIMEOUT);
        let found = topic::check(&bootstrap, &source.topic, self.expected(), true)?;
        let second_half_s = seconds - half_s.unwrap_or(0.0);
        Ok(DebeziumRun { seconds, second_half_s, usage, broker_cpu_s, headers: found.headers })
    }

    fn expected(&self) -> u64 {
        self.shape.events() + END_MARKS
    }
}

fn ensure_going(process: &Child, begun: Instant) -> Result<()> {
    if let Some(status) = process.ended() {
        bail!("{} ended ({status}): {}", process.name(), process.last_line());
    }
    ensure!(begun.elapsed() < RUN_TIMEOUT, "{} is stuck: {}", process.name(), process.last_line());
    Ok(())
}

fn relay_of(servers: &Servers, number: u32) -> Result<Relay> {
    Relay::new(servers, &format!("relay-{number}"), &[relay_source(number)])
}

fn relay_source(number: u32) -> Source {
    Source::new(format!("relay{number}"), DATABASE, Delivery::ExactlyOnce)
}

fn debezium_source(number: u32) -> Source {
    Source::new(format!("debezium{number}"), DATABASE, Delivery::AtLeastOnce)
}

fn ceiling_slot(number: u32) -> String {
    format!("ceiling_{number}")
}
