//! A thousand events a second: the latency that the aims are about, next to Debezium's.

use anyhow::Result;

use super::Workload;
use crate::findings::{Figure, Findings, thousands};
use crate::relay::Options;
use crate::relay::debezium::Polling;
use crate::relay::load::{CONNECTIONS, PARTS, Run, Stage, Subject, panel};
use crate::relay::source::Delivery;

const RATE: u32 = 1_000;
/// p50 and p99 in milliseconds.
const ONCE_AIMS: [f64; 2] = [6.0, 25.0];
const LEAST_AIMS: [f64; 2] = [2.0, 6.0];
/// Debezium's latency as it comes, by that of the relay.
const DEBEZIUM_AIM: f64 = 30.0;

pub(super) async fn measure(options: &Options) -> Result<Findings> {
    let seconds = options.amount(60, 5);
    let mut subjects = vec![Subject::Relay(Delivery::ExactlyOnce), Subject::Relay(Delivery::AtLeastOnce)];
    if options.debezium {
        subjects.extend([Subject::Debezium(Polling::Tuned), Subject::Debezium(Polling::Default)]);
    }
    let stage = Stage::set(options).await?;
    let mut runs = Vec::new();
    for subject in subjects {
        runs.push(stage.run(subject, RATE, seconds).await?);
    }
    let conditions = format!(
        "commit answered → `read_committed` consumer; open loop, {CONNECTIONS} connections, fsync on, {}, {} \
         transactions of 1 row a second for {seconds} s; spread: the {PARTS} parts of a run",
        stage.broker_log(),
        thousands(RATE.into())
    );
    let mut findings = Findings::of(Workload::Latency, conditions);
    for run in &runs {
        add(&mut findings, run);
    }
    next_to_debezium(&mut findings, &runs);
    findings.panels.push(panel("Commit → consumer at 1 000 events/s: p50 · p99 (ms)", &runs, Run::name));
    findings.runs = serde_json::to_value(&runs)?;
    Ok(findings)
}

fn add(findings: &mut Findings, run: &Run) {
    let aims = match run.subject {
        Subject::Relay(Delivery::ExactlyOnce) => ONCE_AIMS,
        Subject::Relay(Delivery::AtLeastOnce) => LEAST_AIMS,
        Subject::Debezium(_) => return findings.figures.extend(run.figures()),
    };
    let measured = [run.commit_to_consumer.p50, run.commit_to_consumer.p99];
    for ((figure, measured), aim) in run.figures().into_iter().zip(measured).zip(aims) {
        findings.add(figure.aim(&format!("≤ {aim} ms"), measured <= aim));
    }
}

fn next_to_debezium(findings: &mut Findings, runs: &[Run]) {
    let find = |subject| runs.iter().find(|run| run.subject == subject);
    let (ours, theirs) =
        (find(Subject::Relay(Delivery::ExactlyOnce)), find(Subject::Debezium(Polling::Default)));
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return };
    let (ours, theirs) = (&ours.commit_to_consumer, &theirs.commit_to_consumer);
    for (name, times) in [("p50", theirs.p50 / ours.p50), ("p99", theirs.p99 / ours.p99)] {
        let what = format!("exactly once next to Debezium as it comes: {name}");
        let figure = Figure::new(what, format!("1/{times:.0}"), "one run each".to_owned());
        findings.add(figure.aim("≤ 1/30", times >= DEBEZIUM_AIM));
    }
}
