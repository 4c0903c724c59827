//! Twenty sources in one process, each a database of its own: what a source costs, idle and busy.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use xtask::native::child::Child;

use super::Workload;
use crate::findings::{Figure, Findings, short};
use crate::relay::Options;
use crate::relay::arrivals::Arrivals;
use crate::relay::outbox;
use crate::relay::pace::Pace;
use crate::relay::process::Relay;
use crate::relay::servers::Servers;
use crate::relay::source::{Delivery, Source};
use crate::usage::Usage;

const SOURCES: u32 = 20;
/// Events per second of each source.
const RATE: u32 = 50;
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What a process used over a while.
#[derive(Debug, Clone, Copy, Serialize)]
struct While {
    seconds: f64,
    rss_mib: f64,
    rss_peak_mib: f64,
    /// Of one processor.
    cpu_percent: f64,
}

#[derive(Debug, Serialize)]
struct Runs {
    one_idle: While,
    all_idle: While,
    all_busy: While,
}

pub(super) async fn measure(options: &Options) -> Result<Findings> {
    let seconds = options.amount(30, 5);
    let servers = Servers::for_load()?;
    for number in 1..=SOURCES {
        outbox::make(&servers, &database(number)).await?;
    }
    let one_idle = {
        let source = Source::new("one", &database(1), Delivery::ExactlyOnce);
        let child = start(&servers, "one", &[source])?;
        let used = idle(&child, seconds)?;
        child.stop(STOP_TIMEOUT);
        used
    };
    let sources: Vec<_> = (1..=SOURCES)
        .map(|number| Source::new(format!("many{number}"), &database(number), Delivery::ExactlyOnce))
        .collect();
    let child = start(&servers, "many", &sources)?;
    let all_idle = idle(&child, seconds)?;
    let all_busy = busy(&servers, &child, &sources, seconds)?;
    child.stop(STOP_TIMEOUT);

    let words = format!(
        "{SOURCES} sources, a database each, in one process; {seconds} s idle, {seconds} s at {RATE} events/s each"
    );
    let mut findings = Findings::of(Workload::Sources, words);
    let runs = Runs { one_idle, all_idle, all_busy };
    tell(&mut findings, &runs);
    findings.runs = serde_json::to_value(&runs)?;
    Ok(findings)
}

fn database(number: u32) -> String {
    format!("bench{number}")
}

fn start(servers: &Servers, name: &str, sources: &[Source]) -> Result<Child> {
    let relay = Relay::new(servers, name, sources)?;
    relay.init()?;
    let child = relay.start()?;
    relay.wait_until_ready(&child)?;
    Ok(child)
}

fn idle(child: &Child, seconds: u32) -> Result<While> {
    watch(child, || {
        std::thread::sleep(Duration::from_secs(seconds.into()));
        Ok(())
    })
}

fn busy(servers: &Servers, child: &Child, sources: &[Source], seconds: u32) -> Result<While> {
    let urls: Vec<_> =
        sources.iter().map(|source| servers.postgres.superuser_url(&source.database)).collect();
    let rate = RATE * SOURCES;
    let pace = Pace { urls, rate, rows: 1, count: rate * seconds, first: 1 };
    let mut arrivals = Arrivals::start(&servers.kafka.bootstrap(), &sources[0].topic)?;
    watch(child, || {
        pace.write(&AtomicBool::new(false))?;
        arrivals.take(pace.events(), ARRIVAL_TIMEOUT).map(drop)
    })
}

fn watch(child: &Child, during: impl FnOnce() -> Result<()>) -> Result<While> {
    let (begun, before) = (Instant::now(), Usage::of(child.pid())?);
    during()?;
    let (seconds, after) = (begun.elapsed().as_secs_f64(), Usage::of(child.pid())?);
    let cpu_percent = (after.cpu_s - before.cpu_s) / seconds * 100.0;
    Ok(While { seconds, rss_mib: after.rss_mib, rss_peak_mib: after.rss_peak_mib, cpu_percent })
}

fn tell(findings: &mut Findings, runs: &Runs) {
    let count = f64::from(SOURCES);
    let figure = |what: String, value: String| Figure::new(what, value, "one run".to_owned());
    let one = runs.one_idle.rss_mib;
    findings.add(figure("one source, idle".to_owned(), format!("{} MiB", short(one))));
    for (name, used) in [("idle", runs.all_idle), ("busy", runs.all_busy)] {
        let further = (used.rss_mib - one) / (count - 1.0);
        findings.add(figure(
            format!("{SOURCES} sources, {name}: memory"),
            format!("{} MiB, {} for each further source", short(used.rss_mib), short(further)),
        ));
        findings.add(figure(
            format!("{SOURCES} sources, {name}: processor time of each"),
            format!("{} % of one processor", short(used.cpu_percent / count)),
        ));
    }
}
