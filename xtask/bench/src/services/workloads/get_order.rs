//! Reads of single orders, as many as go, next to `pgbench` with the same statement; and what each takes of the processors, which is
//! the limit where one is met.

use anyhow::Result;
use serde_json::json;

use super::Workload;
use crate::findings::{Figure, Findings, short, thousands};
use crate::services::Options;
use crate::services::calls::Calls;
use crate::services::load::closed;
use crate::services::pgbench::{Pgbench, Protocol};
use crate::services::servers::Servers;
use crate::statistics::median;

const CLIENTS: u32 = 64;
const ORDERS: u32 = 1_000;
const RATE_AIM: f64 = 15_000.0;
const RSS_AIM_MIB: f64 = 40.0;

/// As the service asks for an order.
const GET_ORDER: &str = "\\set at random(0, 999)
    SELECT id, buyer, currency::text, version, create_time, update_time, products, quantities, unit_prices, state \
    FROM orders CROSS JOIN LATERAL (SELECT array_agg(product) AS products, \
    array_agg(quantity) AS quantities, array_agg(unit_price_minor) AS unit_prices \
    FROM (SELECT * FROM order_lines WHERE order_id = id ORDER BY line_number) AS line) AS lines \
    WHERE id = (lpad(to_hex(:at::bigint), 8, '0') || '-0000-7000-8000-000000000000')::uuid;";
/// Orders under ids that a script can make.
const FILL: &str = "INSERT INTO orders (id, buyer, state, currency, total_minor, version, create_time, update_time) \
    SELECT (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid, 'users/x', 'placed', 'EUR', 2800, 1, now(), now() \
    FROM generate_series(0, 999) AS n; \
    INSERT INTO order_lines (order_id, line_number, product, quantity, unit_price_minor) \
    SELECT (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid, 1, 'Guide vane', 2, 1400 \
    FROM generate_series(0, 999) AS n; ANALYZE orders, order_lines";

pub(super) async fn measure(options: &Options) -> Result<Findings> {
    let servers = Servers::start().await?;
    let calls = Calls::new(&servers, &servers.orders).await?.with_orders(ORDERS).await?;
    servers.execute("orders", FILL).await?;
    let mut pgbench = Pgbench::new(&servers, "orders", GET_ORDER)?;
    let seconds = options.seconds();
    let (mut rates, mut ceilings, mut runs, mut costs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.pairs() {
        let ceiling = pgbench.run(&servers, CLIENTS, seconds, None, Protocol::Extended)?;
        let before = servers.cpu_times(&servers.orders)?;
        let calls = calls.clone();
        let done = closed(CLIENTS, seconds, move |number| calls.clone().get_order(number)).await?;
        let after = servers.cpu_times(&servers.orders)?;
        let count = done.per_second * f64::from(seconds + 1);
        let micros = |after: f64, before: f64| (after - before) / count * 1e6;
        costs.push([
            micros(after.service, before.service),
            micros(after.postgres, before.postgres),
            micros(after.load, before.load),
        ]);
        eprintln!(
            "pgbench {:.0}/s; service {:.0}/s, p99 {:.2} ms",
            ceiling.per_second, done.per_second, done.p99_ms
        );
        rates.push(done.per_second);
        ceilings.push(ceiling.per_second);
        runs.push(json!({ "pgbench": ceiling, "service": done }));
    }
    let conditions = format!(
        "{CLIENTS} clients, {} orders read at random, {} pairs of runs of {seconds} s",
        thousands(ORDERS.into()),
        options.pairs()
    );
    let mut findings = Findings::of(Workload::GetOrder, conditions);
    findings.add(Figure::median("pgbench", &ceilings, "/s"));
    let figure = Figure::median("service", &rates, "/s");
    findings.add(figure.aim("≥ 15 000/s", median(&rates) >= RATE_AIM));
    let ratios: Vec<f64> = rates.iter().zip(&ceilings).map(|(rate, ceiling)| rate / ceiling).collect();
    findings.add(Figure::median("next to pgbench", &ratios, "×"));
    let prepared = pgbench.run(&servers, CLIENTS, seconds, None, Protocol::Prepared)?;
    let rate = format!("{} /s", short(prepared.per_second));
    findings.add(Figure::new("pgbench with prepared statements", rate, "one run".to_owned()));
    for (index, who) in ["service", "Postgres", "load"].into_iter().enumerate() {
        let of_one: Vec<f64> = costs.iter().map(|cost| cost[index]).collect();
        findings.add(Figure::median(format!("processor time of a call: {who}"), &of_one, "µs"));
    }
    let peak = servers.orders.usage()?.rss_peak_mib;
    let figure = Figure::new("peak memory of the service", format!("{} MiB", short(peak)), String::new());
    findings.add(figure.aim("≤ 40 MiB", peak <= RSS_AIM_MIB));
    findings.runs = json!(runs);
    Ok(findings)
}
