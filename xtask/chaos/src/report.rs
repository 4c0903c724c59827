//! What is written down: a line per run in `.tailrace/chaos/results.jsonl`, as it ends.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xtask::workspace;

use crate::checker::Counts;
use crate::run::Outcome;
use crate::schedule::Step;

/// Stands behind a commit that the files differ from.
const CHANGED: &str = "+";

/// A line of the file.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) seed: u64,
    pub(crate) commit: &'a str,
    pub(crate) quick: bool,
    pub(crate) verdict: &'static str,
    /// What went wrong, if it was not a breach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) counts: Option<&'a Counts>,
    pub(crate) complaints: &'a [String],
    pub(crate) events: u64,
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
    verdict: String,
}

/// All five counts are 0, and nothing else was wrong.
const ZERO: &str = "zero";

impl<'a> Line<'a> {
    /// The line of a run.
    pub(crate) fn new(
        seed: u64,
        quick: bool,
        commit: &'a str,
        schedule: &[Step],
        outcome: &'a Result<Outcome>,
        took: Duration,
    ) -> Result<Self> {
        let done = outcome.as_ref().ok();
        let counts = done.map(|outcome| &outcome.findings.counts);
        let verdict = match done {
            Some(outcome) if outcome.is_well() => ZERO,
            Some(_) => "breach",
            None => "failed",
        };
        let faults = match done {
            Some(outcome) => serde_json::to_value(&outcome.faults),
            None => serde_json::to_value(schedule),
        };
        Ok(Self {
            seed,
            commit,
            quick,
            verdict,
            error: outcome.as_ref().err().map(|error| format!("{error:#}")),
            counts,
            complaints: done.map_or(&[], |outcome| &outcome.complaints),
            events: done.map_or(0, |outcome| outcome.events),
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

/// The seeds that this commit has passed. Of files that differ from their commit nothing is known.
pub(crate) fn passed(commit: &str, quick: bool) -> BTreeSet<u64> {
    if commit.ends_with(CHANGED) {
        return BTreeSet::new();
    }
    let text = fs::read_to_string(file()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Earlier>(line).ok());
    lines
        .filter(|line| line.commit == commit && line.quick == quick && line.verdict == ZERO)
        .map(|line| line.seed)
        .collect()
}

/// The commit that is tested, with a plus if files differ from it.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(workspace::root()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let changed = if git(&["status", "--porcelain"]).is_empty() { "" } else { CHANGED };
    format!("{}{changed}", git(&["rev-parse", "--short=12", "HEAD"]))
}
