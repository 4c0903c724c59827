//! Somebody tries passwords, 200 a second: what that does to everybody else's calls, on the service that hashes and on the other.

use anyhow::Result;
use serde_json::json;

use super::Workload;
use crate::findings::{Figure, Findings, short};
use crate::services::Options;
use crate::services::calls::Calls;
use crate::services::load::{Done, open};
use crate::services::servers::Servers;
use crate::statistics::median;

/// Calls of others per second, on each service.
const RATE: f64 = 200.0;
const GUESSES: f64 = 200.0;
const RATIO_AIM: f64 = 2.0;
const RSS_AIM_MIB: f64 = 40.0;
const ORDERS: u32 = 100;
/// A percentile needs more calls than a rate.
const FACTOR: u32 = 2;

pub(super) async fn measure(options: &Options) -> Result<Findings> {
    let servers = Servers::start().await?;
    let users = Calls::new(&servers, &servers.users).await?;
    let orders = Calls::new(&servers, &servers.orders).await?.with_orders(ORDERS).await?;
    let guesses = Calls::new(&servers, &servers.users).await?;
    let seconds = options.seconds() * FACTOR;
    let reads = async || -> Result<[Done; 2]> {
        let (users, orders) = (users.clone(), orders.clone());
        let (users, orders) = tokio::try_join!(
            open(RATE, seconds, move |number| users.clone().get_user(number)),
            open(RATE, seconds, move |number| orders.clone().get_order(number)),
        )?;
        Ok([users, orders])
    };
    let mut runs = Vec::new();
    for _ in 0..options.pairs() {
        let quiet = reads().await?;
        let guesses = guesses.clone();
        let flood = open(GUESSES, seconds, move |number| guesses.clone().guess(number));
        let (flooded, guessed) = tokio::try_join!(reads(), flood)?;
        eprintln!(
            "p99 of GetUser {:.2} ms, flooded {:.2} ms; of GetOrder {:.2} ms, flooded {:.2} ms; {} of {} guesses refused",
            quiet[0].p99_ms,
            flooded[0].p99_ms,
            quiet[1].p99_ms,
            flooded[1].p99_ms,
            guessed.refused,
            guessed.count
        );
        runs.push((quiet, flooded, guessed));
    }
    let conditions = format!(
        "{GUESSES} logins a second with unknown addresses, {RATE} reads a second on each service, {} pairs of runs of {seconds} s",
        options.pairs()
    );
    let mut findings = Findings::of(Workload::WrongPasswords, conditions);
    for (index, what) in ["GetUser", "GetOrder"].into_iter().enumerate() {
        let quiet: Vec<f64> = runs.iter().map(|run| run.0[index].p99_ms).collect();
        let flooded: Vec<f64> = runs.iter().map(|run| run.1[index].p99_ms).collect();
        let ratios: Vec<f64> = flooded.iter().zip(&quiet).map(|(flooded, quiet)| flooded / quiet).collect();
        findings.add(Figure::median(format!("{what}: p99 in quiet"), &quiet, "ms"));
        findings.add(Figure::median(format!("{what}: p99 in the flood"), &flooded, "ms"));
        let figure = Figure::median(format!("{what}: p99, flood next to quiet"), &ratios, "×");
        findings.add(figure.aim("≤ 2 ×", median(&ratios) <= RATIO_AIM));
    }
    let answered: Vec<f64> = runs.iter().map(|run| run.2.p50_ms).collect();
    findings.add(Figure::median("a wrong password: p50", &answered, "ms"));
    let peak = servers.users.usage()?.rss_peak_mib;
    let figure =
        Figure::new("peak memory of the user service", format!("{} MiB", short(peak)), String::new());
    findings.add(figure.aim("≤ 40 MiB", peak <= RSS_AIM_MIB));
    findings.runs = json!(runs);
    Ok(findings)
}
