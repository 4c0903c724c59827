//! `cargo xtask up` as a new user has it: a clean clone, nothing built, nothing fetched; then again, with all of it there.
//!
//! What cargo has downloaded before is used, unless `CARGO_HOME` names an empty folder; npm and Maven get empty caches.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use rustix::process::Signal;
use serde_json::json;
use xtask::native::Scratch;
use xtask::native::child::Launch;
use xtask::workspace;

use crate::report::Report;
use crate::statistics::{median, range};

const COLD_AIM: Duration = Duration::from_secs(600);
const WARM_AIM: Duration = Duration::from_secs(20);
/// The last line that `up` says before it waits.
const READY: &str = "everything is ready";
const START_TIMEOUT: Duration = Duration::from_secs(3600);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const CLONE_TIMEOUT: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The options of `up`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often it is started again after the first time.
    #[arg(long, default_value_t = 3)]
    warm: u32,
}

/// Measures and reports.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report = Report::begin("up");
    let scratch = Scratch::new()?;
    let clone = scratch.path().join("tailrace");
    let tree = workspace::root().display().to_string();
    Launch::new("git clone", "git", scratch.path().join("git.log"))
        .args(["clone".to_owned(), "--quiet".to_owned(), tree, clone.display().to_string()])
        .run(CLONE_TIMEOUT)?;
    eprintln!("cold …");
    let cold_s = start_once(&scratch, &clone, "cold")?;
    let mut warm_s = Vec::new();
    for number in 1..=options.warm {
        eprintln!("cold: {cold_s:.0} s; warm {number} …");
        warm_s.push(start_once(&scratch, &clone, &format!("warm-{number}"))?);
    }
    report.conditions("cargo xtask up in a clean clone, until every process is ready and the seed is there");
    report.aimed_row("cold", format!("{cold_s:.0} s"), "≤ 600 s", cold_s <= COLD_AIM.as_secs_f64());
    let (least, greatest) = range(&warm_s);
    let warm = format!("{:.1} s (median; {least:.1} to {greatest:.1})", median(&warm_s));
    report.aimed_row("warm", warm, "≤ 20 s", median(&warm_s) <= WARM_AIM.as_secs_f64());
    report.finish(&json!({ "cold_s": cold_s, "warm_s": warm_s }))
}

/// Starts it, waits until it is ready, stops it; answers the seconds until it was ready.
fn start_once(scratch: &Scratch, clone: &Path, name: &str) -> Result<f64> {
    let log = scratch.path().join(format!("{name}.log"));
    let launch = Launch::new("cargo xtask up", "cargo", &log)
        .within(clone)
        .env("CARGO_TARGET_DIR", clone.join("target").display().to_string())
        .env("npm_config_cache", scratch.path().join("npm").display().to_string())
        .env("MAVEN_OPTS", format!("-Dmaven.repo.local={}", scratch.path().join("maven").display()))
        .args(["xtask", "up", "--free-ports"]);
    let begun = Instant::now();
    let up = launch.start()?;
    while !std::fs::read_to_string(&log).context("up logs nothing")?.contains(READY) {
        if let Some(status) = up.ended() {
            bail!("cargo xtask up ended ({status}): {}", up.last_line());
        }
        ensure!(begun.elapsed() < START_TIMEOUT, "cargo xtask up is not ready: {}", up.last_line());
        std::thread::sleep(LOOK_INTERVAL);
    }
    let seconds = begun.elapsed().as_secs_f64();
    up.signal(Signal::INT);
    ensure!(up.wait(STOP_TIMEOUT).is_some_and(|status| status.success()), "it does not stop");
    Ok(seconds)
}
