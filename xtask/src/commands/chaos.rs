//! `cargo xtask chaos`: builds the relay as `up` does, then breaks everything around it with `tailrace-chaos`.
//!
//! What breaks and checks is a program of its own (`xtask/chaos`): it speaks Kafka, and this one stays quick to build.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::process::geteuid;

use crate::artefacts::programs;
use crate::tools::{self, Purpose};
use crate::workspace;

/// The seed of [`quick`].
const QUICK_SEED: u64 = 4;

/// The options of `chaos`, and of the program behind it.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// The first seed: it decides what breaks and when. Without it, one is drawn.
    #[arg(long)]
    pub seed: Option<u64>,

    /// How many seeds, one after the other: 1, or with `--minutes` as many as there is time for.
    #[arg(long)]
    pub runs: Option<u64>,

    /// Begin no further run after so many minutes.
    #[arg(long)]
    pub minutes: Option<u64>,

    /// Leave out the seeds that this commit has passed, by `.tailrace/chaos/results.jsonl`.
    #[arg(long)]
    pub resume: bool,

    /// A short schedule, for tests.
    #[arg(long)]
    pub quick: bool,

    /// The source is delivered at least once: what is duplicated is counted and no breach.
    #[arg(long)]
    pub at_least_once: bool,

    /// Print the schedules and break nothing.
    #[arg(long)]
    pub list: bool,
}

impl Options {
    fn arguments(&self) -> Vec<String> {
        let numbers = [("--seed", self.seed), ("--runs", self.runs), ("--minutes", self.minutes)];
        let numbers = numbers.into_iter().filter_map(|(name, number)| Some(format!("{name}={}", number?)));
        let mut arguments: Vec<String> = numbers.collect();
        let flags = [
            ("--resume", self.resume),
            ("--quick", self.quick),
            ("--at-least-once", self.at_least_once),
            ("--list", self.list),
        ];
        arguments.extend(flags.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (*name).to_owned()));
        arguments
    }
}

/// Builds and runs.
///
/// # Errors
///
/// When something is missing, cannot be built or cannot be started.
pub fn run(options: &Options) -> Result<ExitCode> {
    tools::check(Purpose::Run, false)?;
    Ok(if build()? && chaos(options)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One short run with a fixed seed, for the tests.
///
/// # Errors
///
/// When it finds something, or cannot be built or started.
pub fn quick() -> Result<()> {
    let options = Options { seed: Some(QUICK_SEED), quick: true, ..Options::default() };
    if build()? && chaos(&options)? {
        return Ok(());
    }
    bail!("`cargo xtask chaos {}` does the same again", options.arguments().join(" "))
}

/// The whole workspace, as the tests do: asked for fewer packages, cargo would choose other features and build the
/// dependencies once more.
fn build() -> Result<bool> {
    let build = Command::new("cargo")
        .current_dir(workspace::root())
        .args(["build", "--workspace", "--bins", "--locked"])
        .status();
    Ok(build.context("cannot start cargo")?.success())
}

fn chaos(options: &Options) -> Result<bool> {
    let program = programs()?.join("tailrace-chaos");
    let mut command = if geteuid().is_root() {
        // Disks that can be full are mounted where nobody else sees them, and are gone with the last process.
        let mut unshare = Command::new("unshare");
        unshare.arg("--mount").arg("--").arg(&program).arg("--disks");
        unshare
    } else {
        Command::new(&program)
    };
    let status = command.args(options.arguments()).status();
    Ok(status.with_context(|| format!("cannot start {}", program.display()))?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_passed_on() {
        let options =
            Options { seed: Some(7), minutes: Some(5), resume: true, quick: true, ..Options::default() };
        assert_eq!(options.arguments(), ["--seed=7", "--minutes=5", "--resume", "--quick"]);
        let options = Options { runs: Some(3), at_least_once: true, list: true, ..Options::default() };
        assert_eq!(options.arguments(), ["--runs=3", "--at-least-once", "--list"]);
    }
}
