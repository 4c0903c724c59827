//! Creations: how many a second at 1, 16 and 64 clients, and what a call adds at half of that, next to `pgbench` with the statement
//! that the service sends.

use std::pin::Pin;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use tonic::Status;

use super::Workload;
use crate::findings::{Figure, Findings, short};
use crate::services::Options;
use crate::services::calls::Calls;
use crate::services::load::{Done, closed, open};
use crate::services::pgbench::{Pgbench, Protocol};
use crate::services::servers::{Servers, Service};
use crate::statistics::median;

const CLIENTS: [u32; 3] = [1, 16, 64];
/// Of how many clients the ratio has an aim.
const AIMED_CLIENTS: u32 = 16;
const RATIO_AIM: f64 = 0.7;
const ADDED_AIM_MS: f64 = 3.0;
const RSS_AIM_MIB: f64 = 40.0;
/// The load in which latencies are compared, as a part of what the service can do.
const HALF: f64 = 0.5;
const HALF_CLIENTS: u32 = 16;
/// A percentile needs more calls than a rate.
const HALF_FACTOR: u32 = 2;

/// An order as the service writes it: the order, its lines and its event in one statement.
const CREATE_ORDER: &str = "WITH entity AS (INSERT INTO orders \
    (id, buyer, state, currency, total_minor, version, create_time, update_time) \
    SELECT (lpad(to_hex(:n::bigint), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(:client_id::bigint), 12, '0'))::uuid, \
    name, 'placed', 'EUR', 2800, 1, now(), now() \
    FROM known_user WHERE name = 'users/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11' AND NOT deleted RETURNING id), \
    also_0 AS (INSERT INTO order_lines (order_id, line_number, product, quantity, unit_price_minor) \
    SELECT entity.id, line.number, line.product, line.quantity, line.unit_price FROM entity, \
    unnest(ARRAY['Guide vane'], ARRAY[2], ARRAY[1400::bigint]) WITH ORDINALITY AS line (product, quantity, unit_price, number)), \
    event AS (INSERT INTO outbox (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, headers, owner) \
    SELECT entity.id, 'orders', entity.id::text, 1, 'orders.created.v1', '{\"order\":\"orders/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11\",\
    \"buyer\":\"users/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11\",\"lines\":[{\"product\":\"Guide vane\",\"quantity\":2,\
    \"unitPrice\":{\"currencyCode\":\"EUR\",\"units\":\"14\"}}],\"total\":{\"currencyCode\":\"EUR\",\"units\":\"28\"},\
    \"createTime\":\"2026-01-01T00:00:00.000000Z\"}'::json, '{}'::json, 'users/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11' FROM entity) \
    SELECT count(*) FROM entity;";

/// A user, the same.
const CREATE_USER: &str = "WITH entity AS (INSERT INTO users \
    (id, display_name, email, password_hash, version, create_time, update_time) \
    VALUES ((lpad(to_hex(:n::bigint), 8, '0') || '-0000-7000-8000-' || lpad(to_hex(:client_id::bigint), 12, '0'))::uuid, \
    'Bench', lpad(to_hex(:n::bigint), 8, '0') || '-bench-' || :client_id::bigint || '@example.org', \
    '$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b5dWRWJTmaaJObGRdescudvJCs', 1, now(), now()) \
    ON CONFLICT (lower(email)) DO NOTHING RETURNING id), \
    event AS (INSERT INTO outbox (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, headers, owner) \
    SELECT entity.id, 'users', entity.id::text, 1, 'users.created.v1', '{\"user\":\"users/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11\",\
    \"displayName\":\"Bench\",\"email\":\"0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11@example.org\",\
    \"createTime\":\"2026-01-01T00:00:00.000000Z\"}'::json, '{}'::json, 'users/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11' FROM entity) \
    SELECT count(*) FROM entity;";

type Call = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// CreateOrder.
pub(super) async fn orders(options: &Options) -> Result<Findings> {
    let servers = Servers::start().await?;
    let calls = Calls::new(&servers, &servers.orders).await?;
    let pgbench = Pgbench::new(&servers, "orders", CREATE_ORDER)?;
    let call = move |number| -> Call { Box::pin(calls.clone().create_order(number)) };
    let words = "one line, no request id";
    Comparison { options, servers: &servers, service: &servers.orders }
        .measure(Workload::CreateOrder, words, pgbench, call)
        .await
}

/// CreateUser.
pub(super) async fn users(options: &Options) -> Result<Findings> {
    let servers = Servers::start_without_hashing().await?;
    let calls = Calls::new(&servers, &servers.users).await?;
    let pgbench = Pgbench::new(&servers, "users", CREATE_USER)?;
    let call = move |number| -> Call { Box::pin(calls.clone().create_user(number)) };
    let words = "passwords are hashed at the least cost that Argon2id has";
    Comparison { options, servers: &servers, service: &servers.users }
        .measure(Workload::CreateUser, words, pgbench, call)
        .await
}

/// Runs with the same load, one after the other.
#[derive(Debug, Serialize)]
struct Pair {
    pgbench: Done,
    service: Done,
}

struct Comparison<'a> {
    options: &'a Options,
    servers: &'a Servers,
    service: &'a Service,
}

impl Comparison<'_> {
    async fn measure(
        &self,
        workload: Workload,
        words: &str,
        mut pgbench: Pgbench,
        call: impl Fn(u32) -> Call + Clone + Send + Sync + 'static,
    ) -> Result<Findings> {
        let (pairs, seconds) = (self.options.pairs(), self.options.seconds());
        let conditions = format!(
            "{pairs} pairs of runs of {seconds} s for each count of clients, who begins changes; {words}"
        );
        let mut findings = Findings::of(workload, conditions);
        let mut runs = Vec::new();
        let mut half_rate = f64::NAN;
        for clients in CLIENTS {
            let pairs = self.pairs(&mut pgbench, clients, None, seconds, &call).await?;
            tell_rates(&mut findings, clients, &pairs);
            half_rate = median(&each(&pairs, |pair| pair.service.per_second)) * HALF;
            runs.push(json!({ "clients": clients, "pairs": pairs }));
        }
        let pairs =
            self.pairs(&mut pgbench, HALF_CLIENTS, Some(half_rate), seconds * HALF_FACTOR, &call).await?;
        tell_latencies(&mut findings, half_rate, &pairs);
        runs.push(json!({ "rate": half_rate, "pairs": pairs }));
        self.tell_prepared(&mut findings, &mut pgbench)?;
        self.tell_costs(&mut findings, &call).await?;
        findings.runs = json!(runs);
        Ok(findings)
    }

    async fn pairs(
        &self,
        pgbench: &mut Pgbench,
        clients: u32,
        rate: Option<f64>,
        seconds: u32,
        call: &(impl Fn(u32) -> Call + Clone + Send + Sync + 'static),
    ) -> Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        for number in 0..self.options.pairs() {
            let ceiling =
                |pgbench: &mut Pgbench| pgbench.run(self.servers, clients, seconds, rate, Protocol::Extended);
            let early = if number % 2 == 0 { Some(ceiling(pgbench)?) } else { None };
            let service = match rate {
                None => closed(clients, seconds, call.clone()).await?,
                Some(rate) => open(rate, seconds, call.clone()).await?,
            };
            let pgbench = early.map_or_else(|| ceiling(pgbench), Ok)?;
            eprintln!(
                "{clients} clients: pgbench {:.0}/s, p99 {:.2} ms; service {:.0}/s, p99 {:.2} ms",
                pgbench.per_second, pgbench.p99_ms, service.per_second, service.p99_ms
            );
            pairs.push(Pair { pgbench, service });
        }
        Ok(pairs)
    }

    /// What the database can do when it need not parse either.
    fn tell_prepared(&self, findings: &mut Findings, pgbench: &mut Pgbench) -> Result<()> {
        for clients in &CLIENTS[1..] {
            let seconds = self.options.seconds();
            let done = pgbench.run(self.servers, *clients, seconds, None, Protocol::Prepared)?;
            let what = format!("{clients} clients: pgbench with prepared statements");
            findings.add(Figure::new(what, format!("{} /s", short(done.per_second)), "one run".to_owned()));
        }
        Ok(())
    }

    /// Where the time goes at full load, and how much memory it takes.
    async fn tell_costs(
        &self,
        findings: &mut Findings,
        call: &(impl Fn(u32) -> Call + Clone + Send + Sync + 'static),
    ) -> Result<()> {
        let before = self.servers.cpu_times(self.service)?;
        let done = closed(CLIENTS[2], self.options.seconds(), call.clone()).await?;
        let after = self.servers.cpu_times(self.service)?;
        // The warm-up is in the times and not in the count.
        let seconds = f64::from(self.options.seconds());
        let calls = done.per_second * (seconds + 1.0);
        let micros = |after: f64, before: f64| short((after - before) / calls * 1e6);
        let text = format!(
            "{} µs service, {} µs Postgres, {} µs load",
            micros(after.service, before.service),
            micros(after.postgres, before.postgres),
            micros(after.load, before.load)
        );
        findings.add(Figure::new("processor time of a call, 64 clients", text, "one run".to_owned()));
        let peak = self.service.usage()?.rss_peak_mib;
        let figure = Figure::new("peak memory of the service", format!("{} MiB", short(peak)), String::new());
        findings.add(figure.aim("≤ 40 MiB", peak <= RSS_AIM_MIB));
        Ok(())
    }
}

fn each(pairs: &[Pair], figure: impl Fn(&Pair) -> f64) -> Vec<f64> {
    pairs.iter().map(figure).collect()
}

fn tell_rates(findings: &mut Findings, clients: u32, pairs: &[Pair]) {
    let ratios = each(pairs, |pair| pair.service.per_second / pair.pgbench.per_second);
    let rate =
        |what: &str, values: &[f64]| Figure::median(format!("{clients} clients: {what}"), values, "/s");
    findings.add(rate("pgbench", &each(pairs, |pair| pair.pgbench.per_second)));
    findings.add(rate("service", &each(pairs, |pair| pair.service.per_second)));
    let figure = Figure::median(format!("{clients} clients: next to pgbench"), &ratios, "×");
    let is_met = median(&ratios) >= RATIO_AIM;
    findings.add(if clients >= AIMED_CLIENTS { figure.aim("≥ 0.7 ×", is_met) } else { figure });
}

fn tell_latencies(findings: &mut Findings, rate: f64, pairs: &[Pair]) {
    let what = |who: &str| format!("{rate:.0}/s, half of its most: {who}");
    findings.add(Figure::median(what("p99 of pgbench"), &each(pairs, |pair| pair.pgbench.p99_ms), "ms"));
    findings.add(Figure::median(what("p99 of the service"), &each(pairs, |pair| pair.service.p99_ms), "ms"));
    let added = each(pairs, |pair| pair.service.p99_ms - pair.pgbench.p99_ms);
    let figure = Figure::median(what("p99 added"), &added, "ms");
    findings.add(figure.aim("≤ 3 ms", median(&added) <= ADDED_AIM_MS));
    let added = each(pairs, |pair| pair.service.p50_ms - pair.pgbench.p50_ms);
    findings.add(Figure::median(what("p50 added"), &added, "ms"));
}
