//! The drain: a log full of events, and how long the relay takes to bring all of it to Kafka.
//!
//! ```text
//!   slots and positions made ── transactions written, nobody reads ──┬── pg_recvlogical → /dev/null   (the ceiling)
//!                                                                    └── cdc-relay → Kafka, exactly once
//! ```
//!
//! Both read the same bytes of log with the same options, in turn, each from a slot of its own. The relay's time begins
//! with its process and ends when the slot shows that Postgres was told: positions in Kafka, transaction committed. A
//! run counts only if a `read_committed` reader then finds every event, no more and no less.

mod count;
mod outbox;
mod run;

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;
use xtask::native::{Kafka, KafkaOptions, Postgres, PostgresOptions, Scratch, dev_database};

use self::outbox::{Outbox, Shape};
use self::run::{CeilingRun, RelayRun};
use crate::report::Report;
use crate::statistics::{median, range};

/// The relay's share of the ceiling that is aimed at.
const RATIO_AIM: f64 = 0.6;
/// Slots and topics are made for every pair before anything is written.
const PAIRS_MAX: u32 = 15;

/// The options of `relay`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many transactions are written.
    #[arg(long, default_value_t = 300_000)]
    transactions: u32,

    /// How many rows each of them has.
    #[arg(long, default_value_t = 1)]
    rows: u32,

    /// How many pairs of runs are measured; one more warms the broker up and is not.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(PAIRS_MAX)))]
    pairs: u32,
}

/// Two runs over the same log, one after the other.
#[derive(Debug, Serialize)]
struct Pair {
    relay_first: bool,
    ceiling: CeilingRun,
    relay: RelayRun,
    /// The ceiling's time by the relay's.
    ratio: f64,
}

/// The servers of the measurement.
struct Servers {
    postgres: Postgres,
    kafka: Kafka,
    scratch: Scratch,
}

/// Measures and reports.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let mut report = Report::begin("relay");
    let servers = Servers::start()?;
    let shape = Shape { transactions: options.transactions, rows: options.rows };
    eprintln!("writing {} transactions × {} rows …", shape.transactions, shape.rows);
    let outbox = Outbox::fill(&servers, options.pairs, shape).await?;

    let warm_up = run::relay(&servers, &outbox, 0).await?;
    eprintln!("warm-up: {:.2} s", warm_up.seconds);
    let mut pairs = Vec::new();
    for number in 1..=options.pairs {
        let pair = measure(&servers, &outbox, number).await?;
        eprintln!(
            "pair {number}: pg_recvlogical {:.2} s, relay {:.2} s, ratio {:.2}",
            pair.ceiling.seconds, pair.relay.seconds, pair.ratio
        );
        pairs.push(pair);
    }
    tell(&mut report, shape, &warm_up, &pairs);
    report.finish(&pairs)
}

/// One pair; who begins changes from pair to pair, because the second finds the log in the cache.
async fn measure(servers: &Servers, outbox: &Outbox, number: u32) -> Result<Pair> {
    let relay_first = number.is_multiple_of(2);
    let early = if relay_first { Some(run::relay(servers, outbox, number).await?) } else { None };
    let ceiling = run::ceiling(servers, outbox, number)?;
    let relay = match early {
        Some(early) => early,
        None => run::relay(servers, outbox, number).await?,
    };
    let ratio = ceiling.seconds / relay.seconds;
    Ok(Pair { relay_first, ceiling, relay, ratio })
}

fn tell(report: &mut Report, shape: Shape, warm_up: &RelayRun, pairs: &[Pair]) {
    report.conditions(format!(
        "{} transactions × {} rows, payload {} B, {} headers per record; pgoutput v1 binary; Kafka acks=all, one node, \
         4 partitions, exactly once; Postgres fsync off; {} interleaved pairs",
        shape.transactions,
        shape.rows,
        outbox::PAYLOAD_BYTES,
        warm_up.headers,
        pairs.len()
    ));
    let events = shape.events() as f64;
    let of = |figure: fn(&Pair) -> f64| pairs.iter().map(figure).collect::<Vec<_>>();
    let ceilings = of(|pair| pair.ceiling.seconds);
    let relays = of(|pair| pair.relay.seconds);
    let ratios = of(|pair| pair.ratio);
    let peaks = of(|pair| pair.relay.usage.rss_peak_mib);
    let cpu: Vec<f64> = pairs.iter().map(|pair| pair.relay.usage.cpu_s / events * 1e6).collect();
    let rate = |seconds: &[f64]| format!("{:.1} k events/s", events / median(seconds) / 1e3);

    report.row("pg_recvlogical", format!("{}, {}", spread(&ceilings, "s"), rate(&ceilings)));
    report.row("cdc-relay, from its start", format!("{}, {}", spread(&relays, "s"), rate(&relays)));
    let ratio = median(&ratios);
    report.aimed_row("ratio", spread(&ratios, "×"), "≥ 0.6 ×", ratio >= RATIO_AIM);
    report.row("cdc-relay, peak resident memory", spread(&peaks, "MiB"));
    report.row("cdc-relay, processor time per million events", spread(&cpu, "s"));
    report.row("cdc-relay with a cold broker, not counted above", format!("{:.2} s", warm_up.seconds));
}

fn spread(values: &[f64], unit: &str) -> String {
    let (least, greatest) = range(values);
    format!("{:.2} {unit} (median; {least:.2} to {greatest:.2})", median(values))
}

impl Servers {
    fn start() -> Result<Self> {
        eprintln!("starting Postgres and Kafka …");
        let scratch = Scratch::new()?;
        let settings = [
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("checkpoint_timeout", "1h"),
            ("max_wal_size", "16GB"),
            ("max_replication_slots", "40"),
        ];
        let options = PostgresOptions {
            without_fsync: true,
            settings: settings.map(|(name, value)| (name.into(), value.into())).into(),
            ..PostgresOptions::default()
        };
        let postgres = Postgres::start(&scratch.path().join("postgres"), options)?;
        dev_database(&postgres).context("cannot make the relay's role")?;
        let kafka = Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default())?;
        Ok(Self { postgres, kafka, scratch })
    }
}
