//! What is written down: a line per run in `.tailrace/chaos/results.jsonl`, as it ends.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xtask::workspace;

use crate::checker::{Counts, Delivery};
use crate::run::{Outcome, Plan};

/// What a run's result depends on: a series goes on over commits that change none of it.
const TESTED: [&str; 7] = [
    "Cargo.lock",
    "Cargo.toml",
    "cdc-relay/protocol",
    "cdc-relay/src",
    "proto",
    "services/runtime/src",
    "xtask/chaos/src",
];
/// Stands behind a commit that the files differ from.
const CHANGED: &str = "+";

/// A line of the file.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) seed: u64,
    pub(crate) commit: &'a str,
    pub(crate) quick: bool,
    pub(crate) delivery: Delivery,
    pub(crate) verdict: &'static str,
    /// What went wrong, if it was not a breach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) counts: Option<&'a Counts>,
    pub(crate) complaints: &'a [String],
    pub(crate) events: u64,
    pub(crate) rolled_back: u64,
    pub(crate) unanswered_commits: u64,
    pub(crate) recovery_s: f64,
    pub(crate) seconds: f64,
    pub(crate) faults: Value,
}

/// What of a line is read again.
#[derive(Deserialize)]
struct Earlier {
    seed: u64,
    commit: String,
    quick: bool,
    delivery: Delivery,
    verdict: String,
}

/// Everything that is promised was kept.
const KEPT: &str = "kept";

impl<'a> Line<'a> {
    /// The line of a run.
    pub(crate) fn new(
        plan: &Plan,
        commit: &'a str,
        outcome: &'a Result<Outcome>,
        took: Duration,
    ) -> Result<Self> {
        let done = outcome.as_ref().ok();
        let counts = done.map(|outcome| &outcome.findings.counts);
        let verdict = match done {
            Some(outcome) if outcome.is_well() => KEPT,
            Some(_) => "breach",
            None => "failed",
        };
        let faults = match done {
            Some(outcome) => serde_json::to_value(&outcome.faults),
            None => serde_json::to_value(&plan.schedule),
        };
        Ok(Self {
            seed: plan.seed,
            commit,
            quick: plan.quick,
            delivery: plan.delivery,
            verdict,
            error: outcome.as_ref().err().map(|error| format!("{error:#}")),
            counts,
            complaints: done.map_or(&[], |outcome| &outcome.complaints),
            events: done.map_or(0, |outcome| outcome.events),
            rolled_back: done.map_or(0, |outcome| outcome.rolled_back),
            unanswered_commits: done.map_or(0, |outcome| outcome.unanswered),
            recovery_s: done.map_or(0.0, |outcome| outcome.recovery.as_secs_f64()),
            seconds: took.as_secs_f64(),
            faults: faults.context("faults are always JSON")?,
        })
    }
}

/// The folder of everything that a series leaves.
pub(crate) fn folder() -> PathBuf {
    workspace::data().join("chaos")
}

fn file() -> PathBuf {
    folder().join("results.jsonl")
}

/// Appends a line.
pub(crate) fn append(line: &Line<'_>) -> Result<()> {
    let path = file();
    let mut text = serde_json::to_string(line).context("a line is always JSON")?;
    text.push('\n');
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

/// Whether this commit has passed this plan. Of files that differ from their commit nothing is known.
pub(crate) fn has_passed(commit: &str, plan: &Plan) -> bool {
    let text = fs::read_to_string(file()).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Earlier>(line).ok());
    !commit.ends_with(CHANGED)
        && lines.any(|line| {
            line.commit == commit
                && (line.seed, line.quick, line.delivery) == (plan.seed, plan.quick, plan.delivery)
                && line.verdict == KEPT
        })
}

/// The commit that last changed what is tested, with a plus if files differ from it.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(workspace::root()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let of_tested = |arguments: &[&str]| git(&[arguments, &["--"], &TESTED].concat());
    let changed = if of_tested(&["status", "--porcelain"]).is_empty() { "" } else { CHANGED };
    format!("{}{changed}", of_tested(&["log", "-1", "--format=%h", "--abbrev=12"]))
}
