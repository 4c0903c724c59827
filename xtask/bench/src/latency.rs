//! Latency through the whole system: orders placed at a steady rate, seen by a subscriber and by the page.
//!
//! ```text
//!   CreateOrder ─▶ Postgres ─▶ relay ─▶ Kafka ─▶ gateway ─┬─▶ Watch over gRPC, here
//!               commit time                               └─▶ the page in Chromium, over gRPC-Web
//! ```
//!
//! The load is an open loop: an order is due every so often, whether or not the ones before it are answered. Times run
//! from the commit, by the clock of Postgres, which is the clock of the one machine everything runs on. Writer,
//! subscriber and browser take their part of that machine's processors away from what is measured.

mod page;
mod subscriber;
mod writer;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use tonic::metadata::{Ascii, MetadataValue};
use xtask::native::Scratch;
use xtask::stack::{Stack, StackOptions};

use self::page::Page;
use self::subscriber::{Arrival, Subscriber};
use self::writer::Placed;
use crate::report::Report;
use crate::statistics::{percentile, range};
use crate::usage::Usage;

/// From commit to page, in milliseconds, at the 99th percentile.
const LATENCY_AIM_MS: f64 = 150.0;
/// The relay's memory under this load.
const RSS_AIM_MIB: f64 = 40.0;
/// How long the last events may take to arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// The options of `latency`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Orders per second.
    #[arg(long, default_value_t = 100)]
    rate: u32,

    /// How long, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u32,

    /// How long the system is warmed up before that, in seconds.
    #[arg(long, default_value_t = 10)]
    warm_up_seconds: u32,

    /// Leave the browser out.
    #[arg(long)]
    without_page: bool,
}

/// One order on its way; times in milliseconds.
#[derive(Debug, Serialize)]
struct Journey {
    /// From the moment the order was due to the answer of CreateOrder.
    answered_ms: f64,
    /// From that moment to the subscriber.
    due_to_subscriber_ms: f64,
    /// From the commit on: to the relay, from there to the gateway, from there to the subscriber.
    to_relay_ms: f64,
    to_gateway_ms: f64,
    to_subscriber_ms: f64,
    commit_to_subscriber_ms: f64,
    /// From the commit until the row stood in the page.
    commit_to_page_ms: Option<f64>,
}

/// Measures and reports.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let mut report = Report::begin("latency");
    let scratch = Scratch::new()?;
    eprintln!("starting the stack …");
    let stack = start(&scratch)?;
    let token = writer::sign_in(&stack).await?;
    let mut subscriber = Subscriber::start(&stack.urls().gateway, &token).await?;
    let page = if options.without_page { None } else { Some(Page::open(&stack.urls().web).await?) };

    eprintln!("warming up for {} s …", options.warm_up_seconds);
    load(&stack, &token, options, options.warm_up_seconds, &mut subscriber).await?;
    eprintln!("measuring for {} s …", options.seconds);
    let (placed, arrivals) = load(&stack, &token, options, options.seconds, &mut subscriber).await?;
    let usage = Usage::of(stack.process("cdc-relay").pid().context("the relay does not run")?)?;
    let sightings = match page {
        Some(page) => page.close().await?,
        None => HashMap::new(),
    };

    let journeys = placed
        .iter()
        .filter_map(|order| Some((order, arrivals.get(&order.subject)?)))
        .map(|(order, arrival)| Journey::of(order, arrival, sightings.get(&arrival.key).copied()))
        .collect::<Vec<_>>();
    tell(&mut report, options, usage, &journeys);
    report.finish(&json!({ "journeys": journeys, "relay": usage }))
}

fn start(scratch: &Scratch) -> Result<Stack> {
    // As `cargo xtask up` has it: the log of Postgres is flushed.
    let options =
        StackOptions { without_fsync: false, ..StackOptions::for_test(&scratch.path().join("stack")) };
    Stack::start(options)
}

/// Places orders at the rate and waits until the subscriber has every one of them.
async fn load(
    stack: &Stack,
    token: &MetadataValue<Ascii>,
    options: &Options,
    seconds: u32,
    subscriber: &mut Subscriber,
) -> Result<(Vec<Placed>, HashMap<String, Arrival>)> {
    let placed = writer::place(&stack.urls().order, token, options.rate, options.rate * seconds).await?;
    let arrivals = subscriber.take(placed.len(), ARRIVAL_TIMEOUT).await?;
    let missing = placed.iter().filter(|order| !arrivals.contains_key(&order.subject)).count();
    ensure!(missing == 0, "{missing} of {} orders did not arrive", placed.len());
    Ok((placed, arrivals))
}

impl Journey {
    fn of(order: &Placed, arrival: &Arrival, seen_s: Option<f64>) -> Self {
        let ms = |from: f64, to: f64| (to - from) * 1e3;
        Self {
            answered_ms: ms(order.due_s, order.answered_s),
            due_to_subscriber_ms: ms(order.due_s, arrival.arrived_s),
            to_relay_ms: ms(arrival.committed_s, arrival.relayed_s),
            to_gateway_ms: ms(arrival.relayed_s, arrival.at_gateway_s),
            to_subscriber_ms: ms(arrival.at_gateway_s, arrival.arrived_s),
            commit_to_subscriber_ms: ms(arrival.committed_s, arrival.arrived_s),
            commit_to_page_ms: seen_s.map(|seen_s| ms(arrival.committed_s, seen_s)),
        }
    }
}

fn tell(report: &mut Report, options: &Options, usage: Usage, journeys: &[Journey]) {
    report.conditions(format!(
        "CreateOrder {} times a second for {} s, open loop; Postgres fsync on; Kafka one node, exactly once",
        options.rate, options.seconds
    ));
    let of = |figure: fn(&Journey) -> f64| journeys.iter().map(figure).collect::<Vec<_>>();
    let seen: Vec<f64> = journeys.iter().filter_map(|journey| journey.commit_to_page_ms).collect();
    report.row("due → answer of CreateOrder", spans(&of(|journey| journey.answered_ms)));
    report.row("due → subscriber", spans(&of(|journey| journey.due_to_subscriber_ms)));
    report.row("commit → relay", spans(&of(|journey| journey.to_relay_ms)));
    report.row("relay → gateway", spans(&of(|journey| journey.to_gateway_ms)));
    report.row("gateway → subscriber", spans(&of(|journey| journey.to_subscriber_ms)));
    let to_subscriber = of(|journey| journey.commit_to_subscriber_ms);
    aimed(report, "commit → subscriber", &to_subscriber);
    if !options.without_page {
        aimed(report, "commit → row in the page", &seen);
        report.row("rows seen in the page", format!("{} of {}", seen.len(), journeys.len()));
    }
    let rss = usage.rss_peak_mib;
    let memory = format!("{:.1} MiB, {rss:.1} MiB at its peak", usage.rss_mib);
    report.aimed_row("cdc-relay, resident memory", memory, "≤ 40 MiB", rss <= RSS_AIM_MIB);
}

fn aimed(report: &mut Report, what: &str, values: &[f64]) {
    let met = percentile(values, 99) <= LATENCY_AIM_MS;
    report.aimed_row(what, spans(values), "p99 ≤ 150 ms", met);
}

fn spans(values: &[f64]) -> String {
    let (_, greatest) = range(values);
    let at = |percent| percentile(values, percent);
    format!("p50 {:.1} ms, p99 {:.1} ms, max {greatest:.1} ms (n = {})", at(50), at(99), values.len())
}
