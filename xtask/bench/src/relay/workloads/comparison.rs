//! What drains are compared by: `pg_recvlogical` and Debezium on the same log.

use crate::findings::{Bar, Figure, Findings, Panel};
use crate::relay::drain::Drain;
use crate::statistics::median;

/// Next to `pg_recvlogical`.
pub(super) fn next_to_ceiling(findings: &mut Findings, drain: &Drain, events: f64, aim: f64) {
    let rate = |seconds: f64| events / seconds / 1e3;
    let ceiling = drain.each(|pair| rate(pair.ceiling_s));
    let relay = drain.each(|pair| rate(pair.relay.seconds));
    let ratios = drain.each(|pair| pair.ceiling_s / pair.relay.seconds);
    findings.add(Figure::median("`pg_recvlogical`", &ceiling, "k events/s"));
    findings.add(Figure::median("relay, from its start", &relay, "k events/s"));
    let ratio = Figure::median("next to `pg_recvlogical`", &ratios, "×");
    findings.add(ratio.aim(&format!("≥ {aim} ×"), median(&ratios) >= aim));
}

/// Warm is the second half of the log, for both.
pub(super) fn next_to_debezium(findings: &mut Findings, drain: &Drain, events: f64, aim: f64) {
    let warm = drain.each_with_debezium(|_, debezium| events / 2.0 / debezium.second_half_s / 1e3);
    let cold = drain.each_with_debezium(|_, debezium| events / debezium.seconds / 1e3);
    let times = drain.each_with_debezium(|pair, debezium| debezium.second_half_s / pair.relay.second_half_s);
    if times.is_empty() {
        return;
    }
    let ours = drain.each(|pair| events / 2.0 / pair.relay.second_half_s / 1e3);
    findings.add(Figure::median("relay, second half of the log", &ours, "k events/s"));
    findings.add(Figure::median("Debezium, second half of the log", &warm, "k events/s"));
    findings.add(Figure::median("Debezium, from its start", &cold, "k events/s"));
    let figure = Figure::median("next to Debezium, both in the second half", &times, "×");
    findings.add(figure.aim(&format!("≥ {aim} ×"), median(&times) >= aim));
}

/// Events per second, for the chart.
pub(super) fn rates(title: &str, drain: &Drain, events: f64) -> Panel {
    let bar = |label: &str, rates: &[f64], is_ours| {
        let value = median(rates);
        let text = format!("{:.1} k", value / 1e3);
        (!rates.is_empty()).then(|| Bar { label: label.to_owned(), value, beyond: None, text, is_ours })
    };
    let bars = [
        bar("pg_recvlogical", &drain.each(|pair| events / pair.ceiling_s), false),
        bar("Tailrace, from its start", &drain.each(|pair| events / pair.relay.seconds), true),
        bar(
            "Debezium, second half",
            &drain.each_with_debezium(|_, run| events / 2.0 / run.second_half_s),
            false,
        ),
        bar("Debezium, from its start", &drain.each_with_debezium(|_, run| events / run.seconds), false),
    ];
    Panel { title: title.to_owned(), bars: bars.into_iter().flatten().collect() }
}
