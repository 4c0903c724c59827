//! One transaction of a million rows, written while the relay runs.
//!
//! Postgres sends a transaction when it is committed, so the clock starts when the client has the answer of the commit:
//! from there to the first records that a `read_committed` reader can see, and until Postgres was told of the last.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::Serialize;
use tokio::time::interval;

use super::Workload;
use crate::findings::{Figure, Findings, thousands};
use crate::relay::Options;
use crate::relay::outbox::{self, PAYLOAD_BYTES, Session, Shape};
use crate::relay::process::Relay;
use crate::relay::servers::Servers;
use crate::relay::source::{Delivery, Source};
use crate::relay::topic::{self, Ends};
use crate::statistics::median;
use crate::usage::Usage;

const TOTAL_AIM_S: f64 = 30.0;
const RSS_AIM_MIB: f64 = 96.0;
const DATABASE: &str = "bench";
const RUN_TIMEOUT: Duration = Duration::from_secs(300);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Seconds since the commit was answered, but for the writing itself.
#[derive(Debug, Serialize)]
struct Run {
    writing_s: f64,
    first_s: f64,
    all_s: f64,
    usage: Usage,
}

pub(super) async fn measure(options: &Options) -> Result<Findings> {
    let rows = options.amount(1_000_000, 50_000);
    let shape = Shape { transactions: 1, rows, payload_bytes: PAYLOAD_BYTES };
    let servers = Servers::for_drain()?;
    let session = outbox::make(&servers, DATABASE).await?;
    let mut runs = Vec::new();
    for number in 1..=options.amount(3, 1) {
        let run = run(&servers, &session, shape, number).await?;
        eprintln!(
            "run {number}: written in {:.1} s; first records after {:.2} s, all after {:.1} s, {:.0} MiB",
            run.writing_s, run.first_s, run.all_s, run.usage.rss_peak_mib
        );
        runs.push(run);
    }
    let words = format!(
        "one transaction of {} rows, payload {PAYLOAD_BYTES} B, relay running",
        thousands(rows.into())
    );
    let mut findings = Findings::of(Workload::Giant, words);
    tell(&mut findings, &runs);
    findings.runs = serde_json::to_value(&runs)?;
    Ok(findings)
}

async fn run(servers: &Servers, session: &Session, shape: Shape, number: u32) -> Result<Run> {
    let source = Source::new(format!("giant{number}"), DATABASE, Delivery::ExactlyOnce);
    let bootstrap = servers.kafka.bootstrap();
    let launch = Relay::new(servers, &source.name, std::slice::from_ref(&source))?;
    launch.init()?;
    let relay = launch.start()?;
    launch.wait_until_ready(&relay)?;
    let ends = Ends::of(&bootstrap, &source.topic)?;

    let begun = Instant::now();
    outbox::fill(servers, DATABASE, shape).await?;
    let committed = Instant::now();
    let end = session.log_end().await?;
    let (mut looks, mut first_s) = (interval(LOOK_INTERVAL), None);
    while first_s.is_none() || session.is_past(&source.slot(), [&end]).await? != [true] {
        if first_s.is_none() && ends.sum()? > 0 {
            first_s = Some(committed.elapsed().as_secs_f64());
        }
        if let Some(status) = relay.ended() {
            bail!("the relay ended ({status}): {}", relay.last_line());
        }
        ensure!(committed.elapsed() < RUN_TIMEOUT, "the relay is stuck: {}", relay.last_line());
        looks.tick().await;
    }
    let all_s = committed.elapsed().as_secs_f64();
    let usage = Usage::of(relay.pid())?;
    relay.stop(STOP_TIMEOUT);
    topic::check(&bootstrap, &source.topic, shape.events(), false)?;
    session.drop_slot(&source.slot()).await?;
    let writing_s = committed.duration_since(begun).as_secs_f64();
    Ok(Run { writing_s, first_s: first_s.unwrap_or(all_s), all_s, usage })
}

fn tell(findings: &mut Findings, runs: &[Run]) {
    let of = |figure: fn(&Run) -> f64| runs.iter().map(figure).collect::<Vec<_>>();
    let (firsts, alls, peaks) =
        (of(|run| run.first_s), of(|run| run.all_s), of(|run| run.usage.rss_peak_mib));
    let is_early = runs.iter().all(|run| run.first_s < run.all_s / 2.0);
    let first = Figure::median("commit → first records in Kafka", &firsts, "s");
    findings.add(first.aim("before half of the time of all", is_early));
    let all = Figure::median("commit → all in Kafka, Postgres told", &alls, "s");
    findings.add(all.aim("≤ 30 s", median(&alls) <= TOTAL_AIM_S));
    let peak = Figure::median("relay's peak memory", &peaks, "MiB");
    findings.add(peak.aim("≤ 96 MiB", median(&peaks) <= RSS_AIM_MIB));
    findings.add(Figure::median("relay's processor time", &of(|run| run.usage.cpu_s), "s"));
}
