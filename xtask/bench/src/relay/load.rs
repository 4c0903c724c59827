//! A steady load in an open loop: from the answer of a commit to a `read_committed` consumer.
//!
//! ```text
//!   due ─▶ INSERT, commit answered ─▶ Postgres' log ─▶ relay ─▶ Kafka ─▶ consumer, stamped on arrival
//!                          └────────────────── what is measured ────────────────────┘
//! ```
//!
//! Writers, consumer and all servers share the machine; on few processors the slowest percent is theirs as much as the
//! relay's. The load of the first seconds warms everything up and is not counted.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use xtask::native::child::Child;

use super::Options;
use super::arrivals::{Arrival, Arrivals};
use super::debezium::{Debezium, Polling};
use super::outbox::{self, Session};
use super::pace::{Pace, Written};
use super::process::Relay;
use super::servers::Servers;
use super::source::{Delivery, Source};
use super::topic;
use crate::findings::{Bar, Figure, Panel, short, thousands};
use crate::statistics::{percentile, range};
use crate::usage::Usage;

/// Enough that a commit which waits for the disk holds no other back.
pub(super) const CONNECTIONS: usize = 12;
/// So many parts of a run are looked at one by one, to see how much the figures move.
pub(super) const PARTS: usize = 6;

const DATABASE: &str = "bench";
const WARM_UP_RATE: u32 = 1_000;
const WARM_UP_S: u32 = 8;
/// Brokers run for months.
const BROKER_WARM_UP_S: u32 = 90;
/// A virtual machine takes longer.
const DEBEZIUM_WARM_UP_S: u32 = 25;
/// Faster than this, ten events share a transaction: the server could not commit them one by one beside everything else.
const SINGLE_ROW_RATE_MAX: u32 = 2_000;
const ROWS_BEYOND: u32 = 10;
/// How long the last events may take to arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);
const START_TIMEOUT: Duration = Duration::from_secs(90);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Who brings the events to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Subject {
    Relay(Delivery),
    Debezium(Polling),
}

/// A measured load.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) subject: Subject,
    pub(super) rate: u32,
    pub(super) rows_per_transaction: u32,
    pub(super) seconds: u32,
    pub(super) commit_to_consumer: Spans,
    /// The same of each part of the run.
    pub(super) parts: Vec<Spans>,
    pub(super) due_to_commit: Spans,
    pub(super) due_to_consumer: Spans,
    pub(super) cpu_s: f64,
    pub(super) rss_peak_mib: f64,
}

/// Milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Spans {
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Spans {
    fn of(values: &[f64]) -> Self {
        let of = |percent| percentile(values, percent);
        Self { p50: of(50), p95: of(95), p99: of(99), max: range(values).1 }
    }
}

/// The servers of a load.
pub(super) struct Stage {
    servers: Servers,
    session: Session,
}

impl Stage {
    /// Starts the servers, and lets the load run until the broker's virtual machine has compiled what it runs: before that
    /// it takes the processors that are to be measured.
    pub(super) async fn set(options: &Options) -> Result<Self> {
        let servers = Servers::for_load()?;
        let session = outbox::make(&servers, DATABASE).await?;
        let stage = Self { servers, session };
        let seconds = options.amount(BROKER_WARM_UP_S, 5);
        let subject = Subject::Relay(Delivery::ExactlyOnce);
        run(&stage.servers, &stage.session, subject, "warm", WARM_UP_RATE, seconds).await?;
        Ok(stage)
    }

    /// Where the broker's log is.
    pub(super) fn broker_log(&self) -> &'static str {
        self.servers.broker_log()
    }

    /// Runs the load so long, through that subject.
    pub(super) async fn run(&self, subject: Subject, rate: u32, seconds: u32) -> Result<Run> {
        let name = match subject {
            Subject::Relay(Delivery::ExactlyOnce) => format!("once{rate}"),
            Subject::Relay(Delivery::AtLeastOnce) => format!("least{rate}"),
            Subject::Debezium(Polling::Tuned) => format!("tuned{rate}"),
            Subject::Debezium(Polling::Default) => format!("default{rate}"),
        };
        let run = run(&self.servers, &self.session, subject, &name, rate, seconds).await?;
        let spans = &run.commit_to_consumer;
        let told = [spans.p50, spans.p95, spans.p99, spans.max].map(short).join(", ");
        eprintln!("{}: p50, p95, p99, max {told} ms", run.words());
        Ok(run)
    }
}

impl Run {
    /// Who brought how much.
    pub(super) fn words(&self) -> String {
        format!("{}/s, {}", thousands(self.rate.into()), self.who())
    }

    /// Who brought it, where all brought the same.
    pub(super) fn name(&self) -> String {
        let is_ours = matches!(self.subject, Subject::Relay(_));
        if is_ours { format!("Tailrace, {}", self.who()) } else { self.who().to_owned() }
    }

    fn who(&self) -> &'static str {
        match self.subject {
            Subject::Relay(delivery) => delivery.words(),
            Subject::Debezium(Polling::Tuned) => "Debezium polling every 5 ms",
            Subject::Debezium(Polling::Default) => "Debezium as it comes",
        }
    }

    /// The figures for p50 and p99.
    pub(super) fn figures(&self) -> [Figure; 2] {
        let all = &self.commit_to_consumer;
        let (p50, p99) =
            (format!("{} ms", short(all.p50)), format!("{} ms, max {}", short(all.p99), short(all.max)));
        [self.figure("p50", p50, |spans| spans.p50), self.figure("p99", p99, |spans| spans.p99)]
    }

    fn figure(&self, name: &str, value: String, of: fn(&Spans) -> f64) -> Figure {
        let (least, greatest) = range(&self.parts.iter().map(of).collect::<Vec<_>>());
        Figure::new(
            format!("{}: {name}", self.words()),
            value,
            format!("{} to {}", short(least), short(greatest)),
        )
    }
}

/// The bars of some runs: the median, and behind it the 99th percentile.
pub(super) fn panel(title: &str, runs: &[Run], label: fn(&Run) -> String) -> Panel {
    let bars = runs.iter().map(|run| {
        let spans = &run.commit_to_consumer;
        Bar {
            label: label(run),
            value: spans.p50,
            beyond: Some(spans.p99),
            text: format!("{} · {}", short(spans.p50), short(spans.p99)),
            is_ours: matches!(run.subject, Subject::Relay(_)),
        }
    });
    Panel { title: title.to_owned(), bars: bars.collect() }
}

async fn run(
    servers: &Servers,
    session: &Session,
    subject: Subject,
    name: &str,
    rate: u32,
    seconds: u32,
) -> Result<Run> {
    let rows = if rate > SINGLE_ROW_RATE_MAX { ROWS_BEYOND } else { 1 };
    let (source, child) = start(servers, session, subject, name).await?;
    let mut arrivals = Arrivals::start(&servers.kafka.bootstrap(), &source.topic)?;
    let url = servers.postgres.superuser_url(DATABASE);
    let warm_up_s = if matches!(subject, Subject::Debezium(_)) { DEBEZIUM_WARM_UP_S } else { WARM_UP_S };
    let warm_up = Pace {
        urls: vec![url; CONNECTIONS],
        rate: WARM_UP_RATE,
        rows: 1,
        count: WARM_UP_RATE * warm_up_s,
        first: 1,
    };
    warm_up.write(&AtomicBool::new(false))?;
    let warmed = arrivals.take(warm_up.events(), ARRIVAL_TIMEOUT)?.len();

    let before = Usage::of(child.pid())?;
    let first = warm_up.events() + 1;
    let pace = Pace { rate: rate / rows, rows, count: rate / rows * seconds, first, ..warm_up };
    let written = pace.write(&AtomicBool::new(false))?;
    let arrived = arrivals.take(warmed as u64 + pace.events(), ARRIVAL_TIMEOUT)?;
    let usage = Usage::of(child.pid())?;
    child.stop(STOP_TIMEOUT);
    session.drop_slot(&source.slot()).await?;

    let is_once = subject == Subject::Relay(Delivery::ExactlyOnce);
    let moments = match_up(&written, rows, &arrived, is_once)?;
    let spans = |of: fn(&Moments) -> f64| Spans::of(&moments.iter().map(of).collect::<Vec<_>>());
    let part = moments.len().div_ceil(PARTS);
    let parts = moments
        .chunks(part)
        .map(|part| Spans::of(&part.iter().map(Moments::on_its_way_ms).collect::<Vec<_>>()));
    Ok(Run {
        subject,
        rate,
        rows_per_transaction: rows,
        seconds,
        commit_to_consumer: spans(Moments::on_its_way_ms),
        parts: parts.collect(),
        due_to_commit: spans(|moments| ms(moments.due, moments.committed)),
        due_to_consumer: spans(|moments| ms(moments.due, moments.arrived)),
        cpu_s: usage.cpu_s - before.cpu_s,
        rss_peak_mib: usage.rss_peak_mib,
    })
}

async fn start(
    servers: &Servers,
    session: &Session,
    subject: Subject,
    name: &str,
) -> Result<(Source, Child)> {
    match subject {
        Subject::Relay(delivery) => {
            let source = Source::new(name, DATABASE, delivery);
            let launch = Relay::new(servers, &source.name, std::slice::from_ref(&source))?;
            launch.init()?;
            let child = launch.start()?;
            launch.wait_until_ready(&child)?;
            Ok((source, child))
        }
        Subject::Debezium(polling) => {
            let source = Source::new(name, DATABASE, Delivery::AtLeastOnce);
            session.make_slot(&source.slot()).await?;
            topic::make(&servers.kafka.bootstrap(), &source.topic).await?;
            let child = Debezium::new(servers, &source, polling)?.start()?;
            wait_until_read(session, &source.slot(), &child).await?;
            Ok((source, child))
        }
    }
}

async fn wait_until_read(session: &Session, slot: &str, child: &Child) -> Result<()> {
    let begun = Instant::now();
    while session.walsender(slot).await?.is_none() {
        if let Some(status) = child.ended() {
            bail!("{} ended ({status}): {}", child.name(), child.last_line());
        }
        ensure!(begun.elapsed() < START_TIMEOUT, "{} does not start: {}", child.name(), child.last_line());
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// An event on its way.
struct Moments {
    due: Instant,
    committed: Instant,
    arrived: Instant,
}

impl Moments {
    fn on_its_way_ms(&self) -> f64 {
        ms(self.committed, self.arrived)
    }
}

/// Finds the first arrival of each event; every event must have arrived, and only once where that is promised.
fn match_up(written: &[Written], rows: u32, arrived: &[Arrival], is_once: bool) -> Result<Vec<Moments>> {
    let mut by_number = HashMap::with_capacity(arrived.len());
    for arrival in arrived {
        let known = by_number.insert(arrival.number, arrival.at);
        ensure!(!is_once || known.is_none(), "event {} arrived twice", arrival.number);
        if let Some(earlier) = known {
            by_number.insert(arrival.number, earlier);
        }
    }
    let mut moments = Vec::new();
    for transaction in written {
        for number in transaction.first..transaction.first + u64::from(rows) {
            let Some(arrived) = by_number.get(&number) else { bail!("event {number} did not arrive") };
            moments.push(Moments {
                due: transaction.due,
                committed: transaction.committed,
                arrived: *arrived,
            });
        }
    }
    Ok(moments)
}

/// An event may arrive before the client's answer does.
fn ms(from: Instant, to: Instant) -> f64 {
    let ahead = to.saturating_duration_since(from).as_secs_f64();
    let behind = from.saturating_duration_since(to).as_secs_f64();
    (ahead - behind) * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64, arrived_ms: &[u64]) -> (Written, Vec<Arrival>) {
        let due = Instant::now();
        let arrivals = arrived_ms.iter().map(|ms| Arrival { number, at: due + Duration::from_millis(*ms) });
        (
            Written { first: number, due, begun: due, committed: due + Duration::from_millis(2) },
            arrivals.collect(),
        )
    }

    #[test]
    fn the_first_arrival_of_an_event_counts() {
        let (written, arrived) = event(7, &[9, 30]);
        let moments = match_up(&[written], 1, &arrived, false).unwrap();
        assert!((moments[0].on_its_way_ms() - 7.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_missing_or_there_twice_does_not_count() {
        let (written, arrived) = event(7, &[9, 30]);
        assert!(match_up(&[written], 1, &arrived, true).is_err());
        assert!(match_up(&[written], 2, &arrived, false).is_err());
    }

    #[test]
    fn an_event_may_come_before_the_answer() {
        let (written, arrived) = event(7, &[1]);
        let moments = match_up(&[written], 1, &arrived, true).unwrap();
        assert!((moments[0].on_its_way_ms() + 1.0).abs() < 1e-6);
    }
}
