//! The drain of transactions of a hundred rows: what a relay costs once transactions do not count.

use anyhow::Result;

use super::Workload;
use super::comparison::{next_to_ceiling, next_to_debezium, rates};
use crate::findings::{Figure, Findings, thousands};
use crate::relay::Options;
use crate::relay::drain;
use crate::relay::outbox::{PAYLOAD_BYTES, Shape};

const RATIO_AIM: f64 = 0.6;
const WARM_AIM: f64 = 2.0;
const ROWS: u32 = 100;

pub(super) async fn measure(options: &Options) -> Result<Findings> {
    let transactions = options.amount(3_000, 200);
    let shape = Shape { transactions, rows: ROWS, payload_bytes: PAYLOAD_BYTES };
    let drain = drain::measure(options, shape).await?;
    let events = shape.events() as f64;
    let conditions = format!(
        "{} transactions × {ROWS} rows, payload {PAYLOAD_BYTES} B; headers: {}",
        thousands(transactions.into()),
        drain.headers()
    );
    let mut findings = Findings::of(Workload::Batched, conditions);
    next_to_ceiling(&mut findings, &drain, events, RATIO_AIM);
    next_to_debezium(&mut findings, &drain, events, WARM_AIM);
    let cpu = drain.each(|pair| pair.relay.usage.cpu_s / events * 1e6);
    findings.add(Figure::median("relay's processor time per million events", &cpu, "s"));
    let peaks = drain.each(|pair| pair.relay.usage.rss_peak_mib);
    findings.add(Figure::median("relay's peak memory", &peaks, "MiB"));
    findings.panels.push(rates("Drain, transactions of 100 rows (events/s)", &drain, events));
    findings.runs = serde_json::to_value(&drain)?;
    Ok(findings)
}
