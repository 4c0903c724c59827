//! `cargo xtask chaos`: builds the relay as `up` does, then breaks everything around it with `tailrace-chaos`.
//!
//! What breaks and checks is a program of its own (`xtask/chaos`): it speaks Kafka, and this one stays quick to build.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::artefacts::programs;
use crate::tools::{self, Purpose};
use crate::workspace;

/// The seed of [`quick`].
const QUICK_SEED: &str = "1";

/// The options of `chaos`.
#[derive(Debug, Args)]
pub struct Options {
    /// The options of a series: `chaos -- --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    arguments: Vec<String>,
}

/// Builds and runs.
///
/// # Errors
///
/// When something is missing, cannot be built or cannot be started.
pub fn run(options: &Options) -> Result<ExitCode> {
    tools::check(Purpose::Run, false)?;
    let done = build()? && chaos(&options.arguments)?;
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One short run with a fixed seed, for the tests.
///
/// # Errors
///
/// When it finds something, or cannot be built or started.
pub fn quick() -> Result<()> {
    let arguments = ["--quick", "--seed", QUICK_SEED].map(str::to_owned);
    if build()? && chaos(&arguments)? {
        return Ok(());
    }
    bail!("see above; `cargo xtask chaos {}` does the same again", arguments.join(" "))
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

fn chaos(arguments: &[String]) -> Result<bool> {
    let program = programs()?.join("tailrace-chaos");
    let status = Command::new(&program).args(arguments).status();
    Ok(status.with_context(|| format!("cannot start {}", program.display()))?.success())
}
