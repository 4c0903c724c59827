//! Other rates than the one that the aims are about: how latency goes with the load.

use anyhow::Result;

use super::Workload;
use crate::findings::Findings;
use crate::relay::Options;
use crate::relay::load::{CONNECTIONS, PARTS, Run, Stage, Subject, panel};
use crate::relay::source::Delivery;

const RATES: [u32; 3] = [10, 100, 10_000];

pub(super) async fn measure(options: &Options) -> Result<Findings> {
    let rates = if options.rate.is_empty() { RATES.to_vec() } else { options.rate.clone() };
    let seconds = options.amount(30, 5);
    let stage = Stage::set(options).await?;
    let mut runs = Vec::new();
    for rate in rates {
        for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
            runs.push(stage.run(Subject::Relay(delivery), rate, seconds).await?);
        }
    }
    let conditions = format!(
        "commit answered → `read_committed` consumer; open loop, {CONNECTIONS} connections, fsync on, {}, {seconds} s, \
         transactions of 1 row, but of 10 at 10 000/s; spread: the {PARTS} parts of a run",
        stage.broker_log()
    );
    let mut findings = Findings::of(Workload::Rates, conditions);
    findings.figures = runs.iter().flat_map(|run| run.figures()).collect();
    findings.panels.push(panel("Commit → consumer at other rates: p50 · p99 (ms)", &runs, Run::words));
    findings.runs = serde_json::to_value(&runs)?;
    Ok(findings)
}
