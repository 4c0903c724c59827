//! The drain of transactions of one row: the hardest for a relay, since every event brings a transaction of its own.

use anyhow::Result;

use super::Workload;
use super::comparison::{next_to_ceiling, next_to_debezium, rates};
use crate::findings::{Figure, Findings, thousands};
use crate::relay::Options;
use crate::relay::drain;
use crate::relay::outbox::{PAYLOAD_BYTES, Shape};
use crate::statistics::median;

const RATIO_AIM: f64 = 0.9;
const WARM_AIM: f64 = 2.0;
const START_AIM: f64 = 3.5;
const RSS_AIM_MIB: f64 = 48.0;
const CPU_AIM_S: f64 = 12.0;

pub(super) async fn measure(options: &Options) -> Result<Findings> {
    let transactions = options.amount(300_000, 20_000);
    let shape = Shape { transactions, rows: 1, payload_bytes: PAYLOAD_BYTES };
    let drain = drain::measure(options, shape).await?;
    let events = shape.events() as f64;
    let conditions = format!(
        "{} transactions × 1 row, payload {PAYLOAD_BYTES} B; headers: {}",
        thousands(shape.events()),
        drain.headers()
    );
    let mut findings = Findings::of(Workload::SingleRow, conditions);
    next_to_ceiling(&mut findings, &drain, events, RATIO_AIM);
    next_to_debezium(&mut findings, &drain, events, WARM_AIM);
    let from_start = drain.each_with_debezium(|pair, debezium| debezium.seconds / pair.relay.seconds);
    if !from_start.is_empty() {
        let figure = Figure::median("next to Debezium from its start", &from_start, "×");
        findings.add(figure.aim("≥ 3.5 ×", median(&from_start) >= START_AIM));
    }
    let peaks = drain.each(|pair| pair.relay.usage.rss_peak_mib);
    let figure = Figure::median("relay's peak memory", &peaks, "MiB");
    findings.add(figure.aim("≤ 48 MiB", median(&peaks) <= RSS_AIM_MIB));
    let cpu = drain.each(|pair| pair.relay.usage.cpu_s / events * 1e6);
    let figure = Figure::median("relay's processor time per million events", &cpu, "s");
    findings.add(figure.aim("≤ 12 s", median(&cpu) <= CPU_AIM_S));
    let peaks = drain.each_with_debezium(|_, debezium| debezium.usage.rss_peak_mib);
    let cpu = drain.each_with_debezium(|_, debezium| debezium.usage.cpu_s / events * 1e6);
    if !peaks.is_empty() {
        findings.add(Figure::median("Debezium's peak memory", &peaks, "MiB"));
        findings.add(Figure::median("Debezium's processor time per million events", &cpu, "s"));
    }
    findings.panels.push(rates("Drain, transactions of 1 row (events/s)", &drain, events));
    findings.runs = serde_json::to_value(&drain)?;
    Ok(findings)
}
