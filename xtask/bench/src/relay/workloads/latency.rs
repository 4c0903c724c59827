//! A steady load in an open loop: from the answer of a commit to a `read_committed` consumer.
//!
//! ```text
//!   due ─▶ INSERT, commit answered ─▶ Postgres' log ─▶ relay ─▶ Kafka ─▶ consumer, stamped on arrival
//!          └──────────────────────── what is measured ────────────────┘
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

use super::Workload;
use crate::relay::Options;
use crate::relay::arrivals::{Arrival, Arrivals};
use crate::relay::debezium::{Debezium, Polling};
use crate::relay::findings::{Bar, Figure, Findings, Panel, short, thousands};
use crate::relay::outbox::{self, Session};
use crate::relay::pace::{Pace, Written};
use crate::relay::process::Relay;
use crate::relay::servers::Servers;
use crate::relay::source::{Delivery, Source};
use crate::relay::topic;
use crate::statistics::{percentile, range};
use crate::usage::Usage;

/// The rate that the aims are about.
const AIMED_RATE: u32 = 1_000;
const RATES: [u32; 4] = [AIMED_RATE, 10, 100, 10_000];
const DATABASE: &str = "bench";
/// Enough that a commit which waits for the disk holds no other back.
const CONNECTIONS: usize = 12;
/// So many parts of a run are looked at one by one, to see how much the figures move.
const PARTS: usize = 6;
const WARM_UP_S: u32 = 8;
/// A virtual machine takes longer.
const DEBEZIUM_WARM_UP_S: u32 = 25;
/// How long the last events may take to arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);
const START_TIMEOUT: Duration = Duration::from_secs(90);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Debezium's latency as it comes by that of the relay.
const DEBEZIUM_AIM: f64 = 30.0;

/// Who brings the events to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Subject {
    Relay(Delivery),
    Debezium(Polling),
}

/// A measured load.
#[derive(Debug, Serialize)]
struct Run {
    subject: Subject,
    rate: u32,
    rows_per_transaction: u32,
    seconds: u32,
    commit_to_consumer: Spans,
    /// The same of each part of the run.
    parts: Vec<Spans>,
    due_to_commit: Spans,
    due_to_consumer: Spans,
    cpu_s: f64,
    rss_peak_mib: f64,
}

/// Milliseconds.
#[derive(Debug, Serialize)]
struct Spans {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl Spans {
    fn of(values: &[f64]) -> Self {
        let of = |percent| percentile(values, percent);
        Self { p50: of(50), p95: of(95), p99: of(99), max: range(values).1 }
    }
}

pub(super) async fn measure(options: &Options) -> Result<Findings> {
    let rates = if options.rate.is_empty() { RATES.to_vec() } else { options.rate.clone() };
    let servers = Servers::for_load()?;
    let session = outbox::make(&servers, DATABASE).await?;
    let mut runs = Vec::new();
    for (subject, rate) in plan(&rates, options.debezium) {
        let seconds = options.amount(if rate == AIMED_RATE { 60 } else { 30 }, 5);
        let run = run(&servers, &session, subject, rate, seconds).await?;
        eprintln!("{}: {}", words(&run), told(&run.commit_to_consumer));
        runs.push(run);
    }
    let conditions = format!(
        "open loop, {CONNECTIONS} connections, fsync on; transactions of 1 row (of 10 at 10 000/s); 60 s at {AIMED_RATE}/s, \
         30 s at other rates; spread: the {PARTS} parts of a run"
    );
    let mut findings = Findings::of(Workload::Latency, conditions);
    tell(&mut findings, &runs);
    findings.runs = serde_json::to_value(&runs)?;
    Ok(findings)
}

/// Every rate exactly once and at least once; Debezium only where there is an aim.
fn plan(rates: &[u32], with_debezium: bool) -> Vec<(Subject, u32)> {
    let mut plan = Vec::new();
    for rate in rates {
        for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
            plan.push((Subject::Relay(delivery), *rate));
        }
        if with_debezium && *rate == AIMED_RATE {
            plan.extend(
                [Polling::Tuned, Polling::Default].map(|polling| (Subject::Debezium(polling), *rate)),
            );
        }
    }
    plan
}

async fn run(servers: &Servers, session: &Session, subject: Subject, rate: u32, seconds: u32) -> Result<Run> {
    let rows = if rate > 2_000 { 10 } else { 1 };
    let (source, child) = start(servers, session, subject, rate).await?;
    let mut arrivals = Arrivals::start(&servers.kafka.bootstrap(), &source.topic)?;
    let url = servers.postgres.superuser_url(DATABASE);
    let warm_up_s = if matches!(subject, Subject::Debezium(_)) { DEBEZIUM_WARM_UP_S } else { WARM_UP_S };
    let warm_up = Pace {
        urls: vec![url; CONNECTIONS],
        rate: AIMED_RATE,
        rows: 1,
        count: AIMED_RATE * warm_up_s,
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

async fn start(servers: &Servers, session: &Session, subject: Subject, rate: u32) -> Result<(Source, Child)> {
    let name = match subject {
        Subject::Relay(Delivery::ExactlyOnce) => format!("once{rate}"),
        Subject::Relay(Delivery::AtLeastOnce) => format!("least{rate}"),
        Subject::Debezium(Polling::Tuned) => format!("tuned{rate}"),
        Subject::Debezium(Polling::Default) => format!("default{rate}"),
    };
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
    while !session.is_read(slot).await? {
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

fn words(run: &Run) -> String {
    let who = match run.subject {
        Subject::Relay(delivery) => delivery.words(),
        Subject::Debezium(Polling::Tuned) => "Debezium polling every 5 ms",
        Subject::Debezium(Polling::Default) => "Debezium as it comes",
    };
    format!("{}/s, {who}", thousands(run.rate.into()))
}

fn told(spans: &Spans) -> String {
    format!(
        "p50 {}, p95 {}, p99 {}, max {} ms",
        short(spans.p50),
        short(spans.p95),
        short(spans.p99),
        short(spans.max)
    )
}

/// What p50 and p99 should be, where there is an aim.
fn aims(run: &Run) -> Option<(f64, f64)> {
    match (run.rate, run.subject) {
        (AIMED_RATE, Subject::Relay(Delivery::ExactlyOnce)) => Some((6.0, 25.0)),
        (AIMED_RATE, Subject::Relay(Delivery::AtLeastOnce)) => Some((2.0, 6.0)),
        (_, Subject::Relay(_) | Subject::Debezium(_)) => None,
    }
}

fn tell(findings: &mut Findings, runs: &[Run]) {
    for run in runs {
        let all = &run.commit_to_consumer;
        let p50 = figure(run, "p50", format!("{} ms", short(all.p50)), |spans| spans.p50);
        let p99 =
            figure(run, "p99", format!("{} ms, max {}", short(all.p99), short(all.max)), |spans| spans.p99);
        match aims(run) {
            None => findings.figures.extend([p50, p99]),
            Some((p50_aim, p99_aim)) => {
                findings.add(p50.aim(&format!("≤ {p50_aim} ms"), all.p50 <= p50_aim));
                findings.add(p99.aim(&format!("≤ {p99_aim} ms"), all.p99 <= p99_aim));
            }
        }
    }
    next_to_debezium(findings, runs);
    findings.panels.push(panel("Commit → consumer at 1 000 events/s: p50 and p99 (ms)", runs, |run| {
        run.rate == AIMED_RATE
    }));
    let of_relay = |run: &Run| matches!(run.subject, Subject::Relay(_));
    findings.panels.push(panel("Tailrace, commit → consumer: p50 and p99 (ms)", runs, of_relay));
}

fn figure(run: &Run, name: &str, value: String, of: fn(&Spans) -> f64) -> Figure {
    let (least, greatest) = range(&run.parts.iter().map(of).collect::<Vec<_>>());
    Figure::new(format!("{}: {name}", words(run)), value, format!("{} to {}", short(least), short(greatest)))
}

fn next_to_debezium(findings: &mut Findings, runs: &[Run]) {
    let find = |subject| runs.iter().find(|run| run.subject == subject && run.rate == AIMED_RATE);
    let (Some(ours), Some(theirs)) =
        (find(Subject::Relay(Delivery::ExactlyOnce)), find(Subject::Debezium(Polling::Default)))
    else {
        return;
    };
    let (ours, theirs) = (&ours.commit_to_consumer, &theirs.commit_to_consumer);
    for (name, times) in [("p50", theirs.p50 / ours.p50), ("p99", theirs.p99 / ours.p99)] {
        let what = format!("{name}, exactly once next to Debezium as it comes");
        let figure = Figure::new(what, format!("1/{times:.0}"), "one run each".to_owned());
        findings.add(figure.aim("≤ 1/30", times >= DEBEZIUM_AIM));
    }
}

fn panel(title: &str, runs: &[Run], is_shown: impl Fn(&Run) -> bool) -> Panel {
    let bars = runs.iter().filter(|run| is_shown(run)).map(|run| {
        let spans = &run.commit_to_consumer;
        Bar {
            label: words(run),
            value: spans.p50,
            beyond: Some(spans.p99),
            text: format!("{} · {}", short(spans.p50), short(spans.p99)),
            is_ours: matches!(run.subject, Subject::Relay(_)),
        }
    });
    Panel { title: title.to_owned(), bars: bars.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64, arrived_ms: &[u64]) -> (Written, Vec<Arrival>) {
        let due = Instant::now();
        let arrivals = arrived_ms.iter().map(|ms| Arrival { number, at: due + Duration::from_millis(*ms) });
        (Written { first: number, due, committed: due + Duration::from_millis(2) }, arrivals.collect())
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
