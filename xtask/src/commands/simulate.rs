//! `cargo xtask simulate`: builds the simulation of the relay's engine and runs it.
//!
//! It is built as the tests are, so that nothing is compiled twice. With `--planted` it is built once more with the
//! planted bugs, beside everything else: no other program has them.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::artefacts::programs;
use crate::workspace;

/// The program, and the feature that only it has.
const PROGRAM: &str = "relay-simulation";
const PLANTED_FEATURE: &str = "relay-simulation/planted-bugs";

/// The options of `simulate`, and of the program behind it.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Run this schedule alone and print its trace.
    #[arg(long)]
    pub seed: Option<u64>,

    /// How many schedules: 20 000, if not said.
    #[arg(long)]
    pub schedules: Option<u64>,

    /// The first seed: 0, if not said.
    #[arg(long)]
    pub first: Option<u64>,

    /// Plant one bug after the other, and count the schedules until it is caught.
    #[arg(long)]
    pub planted: bool,

    /// With `--planted`: only this bug; with `--seed` too, the trace of that schedule.
    #[arg(long, value_name = "NAME", requires = "planted")]
    pub bug: Option<String>,
}

impl Options {
    fn arguments(&self) -> Vec<String> {
        let numbers = [("--seed", self.seed), ("--schedules", self.schedules), ("--first", self.first)];
        let numbers = numbers.into_iter().filter_map(|(name, number)| Some(format!("{name}={}", number?)));
        let bug = self.bug.as_ref().map(|name| format!("--bug={name}"));
        numbers.chain(self.planted.then(|| "--planted".to_owned())).chain(bug).collect()
    }
}

/// Builds and runs.
///
/// # Errors
///
/// When it cannot be built or started.
pub fn run(options: &Options) -> Result<ExitCode> {
    let features: &[&str] = if options.planted { &["--features", PLANTED_FEATURE] } else { &[] };
    let build = Command::new("cargo")
        .current_dir(workspace::root())
        .args(["build", "--workspace", "--locked", "--bin", PROGRAM])
        .args(features)
        .status();
    if !build.context("cannot start cargo")?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let program = programs()?.join(PROGRAM);
    let status = Command::new(&program).args(options.arguments()).status();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_passed_on() {
        let options = Options { schedules: Some(9), planted: true, ..Options::default() };
        assert_eq!(options.arguments(), ["--schedules=9", "--planted"]);
    }
}
