//! `kill -9` under load: how long until an event comes to the consumer again.
//!
//! What counts is the first event whose transaction began after the process was gone, so that nothing still on its way
//! from before passes for a recovery; the clock starts with the signal. *Alone*, the relay is started again at once; with a *standby*, that takes over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Workload;
use crate::findings::{Figure, Findings};
use crate::relay::Options;
use crate::relay::arrivals::{Arrival, Arrivals};
use crate::relay::outbox;
use crate::relay::pace::{Pace, Written};
use crate::relay::process::Relay;
use crate::relay::servers::Servers;
use crate::relay::source::{Delivery, Source};
use crate::statistics::range;

const DATABASE: &str = "bench";
const RATE: u32 = 200;
/// More than any series takes.
const LOAD_S: u32 = 1_800;
/// So many events after a kill must arrive before the next.
const SETTLED_EVENTS: u64 = 300;
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Kills must not keep step with any timer of the relay.
const PAUSE_STEP: Duration = Duration::from_millis(137);

const ALONE_AIM_S: f64 = 1.0;
const STANDBY_AIM_S: f64 = 2.0;

/// Seconds from each kill to the first event after it.
#[derive(Debug, Serialize)]
struct Recoveries {
    alone_s: Vec<f64>,
    standby_s: Vec<f64>,
}

pub(super) async fn measure(options: &Options) -> Result<Findings> {
    let kills = options.amount(options.kills, 2);
    let servers = Servers::for_load()?;
    let _session = outbox::make(&servers, DATABASE).await?;
    let recoveries = Recoveries {
        alone_s: series(&servers, "alone", kills, false)?,
        standby_s: series(&servers, "standby", kills, true)?,
    };
    let words = format!(
        "`kill -9` under {RATE} events/s, exactly once, until an event whose transaction began after it arrives"
    );
    let mut findings = Findings::of(Workload::Crash, words);
    for (what, seconds, text, aim) in [
        ("started again at once", &recoveries.alone_s, "≤ 1 s", ALONE_AIM_S),
        ("taken over by a standby", &recoveries.standby_s, "≤ 2 s", STANDBY_AIM_S),
    ] {
        let figure = Figure::median_and_max(what, seconds, "s");
        findings.add(figure.aim(text, range(seconds).1 <= aim));
    }
    findings.runs = serde_json::to_value(&recoveries)?;
    Ok(findings)
}

/// Kills again and again under one load.
fn series(servers: &Servers, name: &str, kills: u32, has_standby: bool) -> Result<Vec<f64>> {
    let source = Source::new(name, DATABASE, Delivery::ExactlyOnce);
    let relays = ["a", "b"]
        .map(|relay| Relay::new(servers, &format!("{name}-{relay}"), std::slice::from_ref(&source)));
    let [a, b] = relays;
    let (a, b) = (a?, b?);
    a.init()?;
    let mut arrivals = Arrivals::start(&servers.kafka.bootstrap(), &source.topic)?;
    let urls = vec![servers.postgres.superuser_url(DATABASE); 4];
    let pace = Pace { urls, rate: RATE, rows: 1, count: RATE * LOAD_S, first: 1 };
    let stop = AtomicBool::new(false);
    let (killed, written) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| pace.write(&stop));
        let killed = kill_again_and_again(&mut arrivals, [&a, &b], kills, has_standby);
        stop.store(true, Ordering::Relaxed);
        (killed, writer.join().expect("a writer does not panic"))
    });
    let arrived = arrivals.take(0, Duration::ZERO)?;
    let seconds: Option<Vec<f64>> =
        killed?.iter().map(|killed| recovery_s(*killed, written.as_ref().ok()?, &arrived)).collect();
    written?;
    let seconds = seconds.context("no event came after a kill")?;
    eprintln!("{name}: {seconds:.2?} s");
    Ok(seconds)
}

/// One end of a relay.
#[derive(Debug, Clone, Copy)]
struct Kill {
    signalled: Instant,
    gone: Instant,
}

/// Answers when it killed.
fn kill_again_and_again(
    arrivals: &mut Arrivals,
    relays: [&Relay; 2],
    kills: u32,
    has_standby: bool,
) -> Result<Vec<Kill>> {
    let [mut holder, mut other] = relays;
    let mut running = holder.start()?;
    holder.wait_until_ready(&running)?;
    let mut killed = Vec::new();
    for number in 0..kills {
        let standby = if has_standby { Some(other.start()?) } else { None };
        if let Some(standby) = &standby {
            other.wait_until_standby(standby)?;
        }
        std::thread::sleep(PAUSE_STEP * number);
        let before = newest(&arrivals.take(1, RECOVERY_TIMEOUT)?);
        let signalled = Instant::now();
        running.kill();
        killed.push(Kill { signalled, gone: Instant::now() });
        running = match standby {
            Some(standby) => {
                std::mem::swap(&mut holder, &mut other);
                standby
            }
            None => holder.start()?,
        };
        let settled = before + SETTLED_EVENTS;
        arrivals
            .wait_until(RECOVERY_TIMEOUT, |seen| seen.last().is_some_and(|last| last.number >= settled))?;
    }
    Ok(killed)
}

fn newest(arrived: &[Arrival]) -> u64 {
    arrived.iter().map(|arrival| arrival.number).max().unwrap_or_default()
}

/// From the kill to the first arrival of an event whose transaction began after it.
fn recovery_s(kill: Kill, written: &[Written], arrived: &[Arrival]) -> Option<f64> {
    let begun: HashMap<u64, Instant> = written.iter().map(|one| (one.first, one.begun)).collect();
    let is_after = |arrival: &&Arrival| begun.get(&arrival.number).is_some_and(|begun| *begun > kill.gone);
    let first = arrived.iter().filter(is_after).map(|arrival| arrival.at).min()?;
    Some(first.saturating_duration_since(kill.signalled).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_from_before_the_kill_is_no_recovery() {
        let signalled = Instant::now();
        let at = |ms| signalled + Duration::from_millis(ms);
        let kill = Kill { signalled, gone: at(2) };
        let written = [(1, at(1)), (2, at(3))].map(|(first, begun)| Written {
            first,
            due: begun,
            begun,
            committed: at(4),
        });
        let arrived = [(1, at(5)), (2, at(400))].map(|(number, at)| Arrival { number, at });
        let seconds = recovery_s(kill, &written, &arrived).unwrap();
        assert!((seconds - 0.4).abs() < 1e-6, "{seconds}");
        assert!(recovery_s(kill, &written, &arrived[..1]).is_none());
    }
}
