//! Breaks Tailrace on purpose. Started by `cargo xtask chaos`, which builds everything first.
//!
//! ```text
//!   writers (SQL) ──▶ outbox ──▶ link ──▶ two relays ──▶ link ──▶ three brokers ──▶ checker
//!                       ▲          ▲          ▲            ▲           ▲
//!                       └──────────┴── the schedule of a seed ─────────┘
//! ```
//!
//! A run breaks these parts at the moments of its schedule while events are written, mends them, waits until everything
//! is published, and compares outbox and topics: lost, duplicated, reordered, phantom, corrupt.

#![expect(clippy::print_stdout, reason = "the answer of a command goes to standard output")]

mod checker;
mod cluster;
mod disk;
mod faults;
mod proxy;
mod relays;
mod report;
mod run;
mod schedule;
mod source;
mod topics;
mod writer;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use xtask::commands::chaos::Options;

use crate::checker::Delivery;
use crate::cluster::Cluster;
use crate::report::Line;
use crate::run::{Outcome, Plan};

#[derive(Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos", about, long_about = None)]
struct Arguments {
    #[command(flatten)]
    options: Options,

    /// Mounts are ours alone, so that disks that can be full may be mounted.
    #[arg(long, hide = true)]
    disks: bool,
}

#[tokio::main(worker_threads = 8)]
async fn main() -> ExitCode {
    match series(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the seeds until one shows something; says whether none did.
async fn series(Arguments { options, disks }: &Arguments) -> Result<bool> {
    let first = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let runs = options.runs.unwrap_or(if options.minutes.is_some() { u64::MAX } else { 1 });
    let plans = (first..first.saturating_add(runs)).map(|seed| Plan::new(seed, options));
    if options.list {
        plans.for_each(|plan| tell_schedule(&plan));
        return Ok(true);
    }
    let begun = Instant::now();
    let limit = options.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let commit = report::commit();
    let is_left = |plan: &Plan| !options.resume || !report::has_passed(&commit, plan);
    let mut plans = plans.filter(is_left).peekable();
    if plans.peek().is_none() {
        println!("commit {commit} has passed all of these seeds");
        return Ok(true);
    }
    let logs = report::folder().join("servers");
    let _ = std::fs::remove_dir_all(&logs);
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    eprintln!("starting Postgres and three brokers …");
    let cluster = Arc::new(Cluster::start(&logs, *disks).await?);
    let mut count = 0;
    for plan in plans {
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            break;
        }
        count += 1;
        if !one(&cluster, count, &plan, &commit).await? {
            return Ok(false);
        }
    }
    println!(
        "{count} runs of commit {commit}, {}, in {:.0} s: every promise was kept",
        if options.at_least_once { Delivery::AtLeastOnce } else { Delivery::ExactlyOnce },
        begun.elapsed().as_secs_f64()
    );
    Ok(true)
}

/// Carries out one plan; says whether it showed nothing.
async fn one(cluster: &Arc<Cluster>, number: u32, plan: &Plan, commit: &str) -> Result<bool> {
    tell_schedule(plan);
    let logs = report::folder().join(format!("seed-{}", plan.seed));
    let _ = std::fs::remove_dir_all(&logs);
    let begun = Instant::now();
    let outcome = run::run(cluster, number, plan, logs.clone()).await;
    report::append(&Line::new(plan, commit, &outcome, begun.elapsed())?)?;
    let is_well = tell_outcome(plan.seed, &outcome, begun.elapsed());
    if is_well {
        let _ = std::fs::remove_dir_all(&logs);
    } else {
        tell_schedule(plan);
        println!("the relays' logs are in {}, the servers' beside it", logs.display());
    }
    Ok(is_well)
}

fn tell_schedule(plan: &Plan) {
    println!("seed {}:", plan.seed);
    plan.schedule.iter().for_each(|step| println!("  {step}"));
}

fn tell_outcome(seed: u64, outcome: &Result<Outcome>, took: Duration) -> bool {
    let seconds = took.as_secs_f64();
    match outcome {
        Err(error) => {
            println!("seed {seed}: FAILED after {seconds:.0} s: {error:#}");
            false
        }
        Ok(outcome) => {
            let Outcome { faults, events, recovery, findings, complaints, .. } = outcome;
            let counts = &findings.counts;
            println!(
                "seed {seed}: {events} events, {} faults, all published {:.1} s after the last was written: {} lost, \
                 {} duplicated, {} reordered, {} phantom, {} corrupt; {seconds:.0} s",
                faults.len(),
                recovery.as_secs_f64(),
                counts.lost,
                counts.duplicated,
                counts.reordered,
                counts.phantom,
                counts.corrupt
            );
            if !outcome.is_well() {
                findings.breaches.iter().chain(complaints).for_each(|breach| println!("  {breach}"));
            }
            outcome.is_well()
        }
    }
}
