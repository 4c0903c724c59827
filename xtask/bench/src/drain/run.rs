//! One run over the full log: `pg_recvlogical` to `/dev/null`, or the relay to Kafka.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use tokio::time::interval;
use xtask::artefacts;
use xtask::native::child::Launch;
use xtask::native::postgres;
use xtask::settings::Settings;

use super::outbox::{DATABASE, END_MARKS, Outbox, ceiling_slot, relay_slot, topic};
use super::{Servers, count};
use crate::usage::Usage;

/// Whoever has not drained the log by then is stuck.
const RUN_TIMEOUT: Duration = Duration::from_secs(600);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// What reading alone takes.
#[derive(Debug, Serialize)]
pub(super) struct CeilingRun {
    pub(super) seconds: f64,
}

/// What the relay takes.
#[derive(Debug, Serialize)]
pub(super) struct RelayRun {
    /// From the start of its process to the acknowledgement of everything.
    pub(super) seconds: f64,
    pub(super) usage: Usage,
    /// The most headers of a record.
    pub(super) headers: usize,
}

/// Reads everything with `pg_recvlogical`.
pub(super) fn ceiling(servers: &Servers, outbox: &Outbox, number: u32) -> Result<CeilingRun> {
    // Packages put it beside the server; the Postgres of npm has none, then the one in PATH must do.
    let beside_server = postgres::binaries()?.join("pg_recvlogical");
    let program = if beside_server.exists() { beside_server } else { "pg_recvlogical".into() };
    let log = servers.scratch.path().join("pg_recvlogical.log");
    let launch = Launch::new("pg_recvlogical", program, log)
        .args(["--start", "--no-loop", "--file=/dev/null", "--fsync-interval=0"])
        .args(["-o", "proto_version=1", "-o", "publication_names=tailrace_outbox", "-o", "binary=true"])
        .arg(format!("--dbname={}", servers.postgres.superuser_url(DATABASE)))
        .arg(format!("--slot={}", ceiling_slot(number)))
        .arg(format!("--endpos={}", outbox.end));
    let begun = Instant::now();
    launch
        .run(RUN_TIMEOUT)
        .context("pg_recvlogical is the measure of the relay (apt-get install postgresql)")?;
    Ok(CeilingRun { seconds: begun.elapsed().as_secs_f64() })
}

/// Brings everything to Kafka with the relay, as a process of its own.
pub(super) async fn relay(servers: &Servers, outbox: &Outbox, number: u32) -> Result<RelayRun> {
    let expected = outbox.shape.events() + END_MARKS;
    let slot = relay_slot(number);
    let launch = relay_launch(servers, number)?;
    let mut looks = interval(LOOK_INTERVAL);
    let begun = Instant::now();
    let relay = launch.start()?;
    while !outbox.is_drained(&slot).await? {
        if let Some(status) = relay.ended() {
            bail!("the relay ended ({status}): {}", relay.last_line());
        }
        ensure!(begun.elapsed() < RUN_TIMEOUT, "the relay is stuck: {}", relay.last_line());
        looks.tick().await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let usage = Usage::of(relay.pid())?;
    relay.stop(STOP_TIMEOUT);
    let found = count::read_committed(&servers.kafka.bootstrap(), &topic(number), expected)?;
    let events = found.events;
    ensure!(
        events == expected,
        "the topic holds {events} events and not {expected}: this run does not count"
    );
    Ok(RelayRun { seconds, usage, headers: found.headers })
}

/// The relay with the configuration of this run.
pub(super) fn relay_launch(servers: &Servers, number: u32) -> Result<Launch> {
    let path = servers.scratch.path().join(format!("relay-{number}.toml"));
    std::fs::write(&path, configuration(servers, number)?).context("cannot write a configuration")?;
    let log = servers.scratch.path().join(format!("relay-{number}.log"));
    Ok(Launch::new("cdc-relay", program()?, log)
        .env("TAILRACE_LISTEN", "127.0.0.1:0")
        .env("TAILRACE_OPS_LISTEN", "127.0.0.1:0")
        .args(["--config".to_owned(), path.display().to_string()]))
}

fn program() -> Result<PathBuf> {
    Ok(artefacts::programs()?.join("cdc-relay"))
}

/// As `deploy/relay.toml`, but one source: nothing is tuned for the measurement.
fn configuration(servers: &Servers, number: u32) -> Result<String> {
    let password = Settings::get().value("CDC_RELAY_PASSWORD")?;
    let (brokers, url) = (servers.kafka.bootstrap(), servers.postgres.url("cdc_relay", &password, DATABASE));
    let (slot, topic) = (relay_slot(number), topic(number));
    Ok(format!(
        "[kafka]\nbootstrap_servers = \"{brokers}\"\ndead_letter_topic = \"dead-letter\"\n\
         [[source]]\nname = \"bench{number}\"\nurl = \"{url}\"\nslot = \"{slot}\"\npublication = \"tailrace_outbox\"\n\
         [[route]]\nevent_type = \"things.made.v1\"\ntopic = \"{topic}\"\n"
    ))
}
