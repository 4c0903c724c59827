//! Drains of larger payloads, in bytes of payload per second. The text does not compress.

use anyhow::Result;
use serde_json::Value;

use super::Workload;
use crate::findings::{Figure, Findings};
use crate::relay::Options;
use crate::relay::drain;
use crate::relay::outbox::Shape;

/// Bytes of a payload, and how many are written.
const SIZES: [(u32, u32); 3] = [(1_000, 100_000), (10_000, 20_000), (100_000, 3_000)];

pub(super) async fn measure(options: &Options) -> Result<Findings> {
    // Debezium's part of it is no aim.
    let options = Options { debezium: false, ..options.clone() };
    let words = "transactions × 1 row: 100 000 × 1 kB, 20 000 × 10 kB, 3 000 × 100 kB of payload";
    let mut findings = Findings::of(Workload::Payload, words.to_owned());
    let mut runs = Vec::new();
    for (payload_bytes, count) in SIZES {
        let transactions = options.amount(count, count / 20);
        let drain = drain::measure(&options, Shape { transactions, rows: 1, payload_bytes }).await?;
        let megabytes = f64::from(payload_bytes) * f64::from(transactions) / 1e6;
        let size = format!("{} kB", payload_bytes / 1_000);
        let ceiling = drain.each(|pair| megabytes / pair.ceiling_s);
        let relay = drain.each(|pair| megabytes / pair.relay.seconds);
        let ratios = drain.each(|pair| pair.ceiling_s / pair.relay.seconds);
        let peaks = drain.each(|pair| pair.relay.usage.rss_peak_mib);
        findings.add(Figure::median(format!("{size}: `pg_recvlogical`"), &ceiling, "MB/s"));
        findings.add(Figure::median(format!("{size}: relay, from its start"), &relay, "MB/s"));
        findings.add(Figure::median(format!("{size}: next to `pg_recvlogical`"), &ratios, "×"));
        findings.add(Figure::median(format!("{size}: relay's peak memory"), &peaks, "MiB"));
        runs.push(serde_json::to_value(&drain)?);
    }
    findings.runs = Value::Array(runs);
    Ok(findings)
}
