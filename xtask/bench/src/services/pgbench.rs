//! `pgbench` with the statement that a service sends, over the same protocol: what the database alone can do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xtask::native::child::Launch;
use xtask::native::postgres;

use super::load::{Done, WARM_UP};
use super::servers::Servers;

/// As many as there are processors here; more would stand in each other's way.
const THREADS: u32 = 2;
const GRACE: Duration = Duration::from_secs(60);
/// Ids of runs do not meet.
const IDS_PER_RUN: u64 = 1_000_000;
const MICROS_PER_MS: f64 = 1e3;

/// A script, and a database to run it in.
pub(super) struct Pgbench {
    script: PathBuf,
    database: &'static str,
    runs: u64,
}

/// How statements are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Parsed and planned each time.
    Extended,
    /// Parsed once for each connection.
    Prepared,
}

/// A transaction of the log.
struct Transaction {
    ended_s: f64,
    latency_ms: f64,
}

impl Pgbench {
    /// The script may use `:n`, which is another number in each transaction of a client.
    pub(super) fn new(servers: &Servers, database: &'static str, script: &str) -> Result<Self> {
        let path = servers.scratch.path().join(format!("{database}.pgbench"));
        std::fs::write(&path, format!("\\set n :n + 1\n{script}\n")).context("cannot write a script")?;
        Ok(Self { script: path, database, runs: 0 })
    }

    /// So many clients, one transaction after the other; with a rate: due at random moments, and latency runs from then.
    pub(super) fn run(
        &mut self,
        servers: &Servers,
        clients: u32,
        seconds: u32,
        rate: Option<f64>,
        protocol: Protocol,
    ) -> Result<Done> {
        self.runs += 1;
        let folder = servers.scratch.path().join(format!("pgbench-{}-{}", self.database, self.runs));
        std::fs::create_dir(&folder).context("cannot make a folder")?;
        let url = servers.postgres.superuser_url(self.database);
        let whole_s = seconds + WARM_UP.as_secs() as u32;
        let mut launch = Launch::new("pgbench", program()?, folder.join("output"))
            .args(["--no-vacuum", protocol.option(), "--log"])
            .args([
                format!("--client={clients}"),
                format!("--jobs={}", THREADS.min(clients)),
                format!("--time={whole_s}"),
                format!("--define=n={}", self.runs * IDS_PER_RUN),
                format!("--file={}", self.script.display()),
                format!("--log-prefix={}", folder.join("log").display()),
            ]);
        if let Some(rate) = rate {
            launch = launch.arg(format!("--rate={rate}"));
        }
        launch.arg(url).run(Duration::from_secs(whole_s.into()) + GRACE)?;
        counted(&transactions(&folder)?, seconds)
    }
}

impl Protocol {
    fn option(self) -> &'static str {
        match self {
            Self::Extended => "--protocol=extended",
            Self::Prepared => "--protocol=prepared",
        }
    }
}

/// Those of the seconds after the warm-up.
fn counted(transactions: &[Transaction], seconds: u32) -> Result<Done> {
    let first = transactions.iter().map(|transaction| transaction.ended_s).fold(f64::INFINITY, f64::min);
    let begin = first + WARM_UP.as_secs_f64();
    let end = begin + f64::from(seconds);
    let inside = transactions.iter().filter(|transaction| (begin..end).contains(&transaction.ended_s));
    let latencies_ms: Vec<f64> = inside.map(|transaction| transaction.latency_ms).collect();
    Done::of(&latencies_ms, 0, f64::from(seconds))
}

/// Reads the logs of all threads: client, number, microseconds, script, end in seconds and microseconds since 1970.
fn transactions(folder: &Path) -> Result<Vec<Transaction>> {
    let mut transactions = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log")) {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        for line in text.lines() {
            transactions.push(parse(line).with_context(|| format!("no transaction: {line}"))?);
        }
    }
    ensure!(!transactions.is_empty(), "pgbench logged nothing");
    Ok(transactions)
}

fn parse(line: &str) -> Option<Transaction> {
    let mut fields = line.split(' ').skip(2);
    let latency_us: f64 = fields.next()?.parse().ok()?;
    let mut moment = fields.skip(1).map(str::parse::<f64>);
    let (seconds, micros) = (moment.next()?.ok()?, moment.next()?.ok()?);
    Some(Transaction { ended_s: seconds + micros / 1e6, latency_ms: latency_us / MICROS_PER_MS })
}

/// Beside the server's programs, or wherever it is: some distributions ship it apart.
fn program() -> Result<PathBuf> {
    let beside = postgres::binaries()?.join("pgbench");
    Ok(if beside.exists() { beside } else { "pgbench".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_a_transaction() {
        let transaction = parse("3 17 2500 0 1700000000 250000 12").unwrap();
        assert!((transaction.latency_ms - 2.5).abs() < 1e-9);
        assert!((transaction.ended_s - 1_700_000_000.25).abs() < 1e-6);
        assert!(parse("3 17 skipped 0 1700000000 250000").is_none());
    }

    #[test]
    fn the_first_second_is_not_counted() {
        let at = |ended_s: f64| Transaction { ended_s, latency_ms: ended_s };
        let done = counted(&[at(10.0), at(10.5), at(11.0), at(11.5), at(12.9), at(13.0)], 2).unwrap();
        assert_eq!((done.count, done.p50_ms), (3, 11.5));
    }
}
