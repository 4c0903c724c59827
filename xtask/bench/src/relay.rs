//! The relay, measured: drains next to `pg_recvlogical`, latency of a steady load, crashes, many sources.
//!
//! ```text
//!   workload ── servers of its own ── runs ──▶ findings ─┬─▶ a table in Markdown
//!   (workloads/)                                         ├─▶ .tailrace/bench/relay/WORKLOAD.json, with every run
//!                                                        └─▶ a chart
//! ```
//!
//! Every workload starts fresh servers, so that none inherits another's log, cache or topics.

mod arrivals;
mod chart;
mod debezium;
mod drain;
mod load;
mod outbox;
mod pace;
mod process;
mod servers;
mod source;
mod topic;
mod workloads;

use anyhow::Result;
use clap::Args;

use self::workloads::Workload;
use crate::machine::Machine;
use crate::store::{self, Store};
use crate::table;

const CHART: &str = "relay-benchmarks.svg";

/// Slots and topics are made for every pair before anything is written.
const PAIRS_MAX: i64 = 15;

/// The options of `relay`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// What is measured; may be repeated, and is everything if left out.
    #[arg(long, value_enum, value_name = "NAME")]
    workload: Vec<Workload>,

    /// How many pairs of runs a drain has; one more warms the broker up and is not counted.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=PAIRS_MAX))]
    pairs: u32,

    /// Measure Debezium too, where it is an aim to be better: its jars are fetched through Maven.
    #[arg(long)]
    debezium: bool,

    /// How many of the pairs are followed by a run of Debezium.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=PAIRS_MAX))]
    debezium_pairs: u32,

    /// Events per second of `rates`; may be repeated, and is 10, 100 and 10 000 if left out.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: Vec<u32>,

    /// How often a relay is killed in `crash`, each time alone and each time with a standby.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=50))]
    kills: u32,

    /// Small and short, to see that everything works: the figures mean nothing.
    #[arg(long, conflicts_with = "docs")]
    quick: bool,

    /// Fill the table and the chart up with what was found before for the workloads that are left out.
    #[arg(long)]
    with_earlier: bool,

    /// Put the table and the chart into docs/.
    #[arg(long)]
    docs: bool,
}

impl Options {
    /// So many, or few if it is only to see that it works.
    fn amount(&self, amount: u32, quick: u32) -> u32 {
        if self.quick { quick } else { amount }
    }

    fn debezium_pairs(&self) -> u32 {
        if self.debezium { self.debezium_pairs.min(self.pairs) } else { 0 }
    }
}

/// Measures and reports.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let store = Store::new("relay", options.quick);
    let chosen = if options.workload.is_empty() { Workload::all() } else { options.workload.clone() };
    for workload in &chosen {
        let machine = Machine::now();
        eprintln!("\n{} …", workload.name());
        let mut findings = workload.measure(options).await?;
        findings.machine = machine.line();
        store.write(&findings)?;
    }
    let shown = if options.with_earlier { Workload::all() } else { chosen };
    let findings = store.read(&shown)?;
    let (table, chart) = (table::markdown(&findings), chart::svg(&findings));
    println!("\n{table}");
    store.write_chart(CHART, &chart)?;
    if options.docs {
        store.refresh_docs(&table)?;
        store::refresh_chart(CHART, &chart)?;
    }
    Ok(())
}
