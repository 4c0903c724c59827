//! `cargo xtask bench`: builds everything as it is delivered, then measures it with `tailrace-bench`.
//!
//! What measures is a program of its own (`xtask/bench`): it speaks gRPC and Kafka, and this one stays quick to build.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::artefacts::{PROGRAMS, build_page, programs};
use crate::progress::Progress;
use crate::tools::{self, Purpose};
use crate::workspace;

/// The options of `bench`.
#[derive(Debug, Args)]
pub struct Options {
    /// `relay`, `latency` or `up`, then its options: `bench relay --help` lists them.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "MEASUREMENT")]
    arguments: Vec<String>,
}

/// Builds and measures.
///
/// # Errors
///
/// When something is missing, cannot be built or cannot be started.
pub fn run(options: &Options) -> Result<ExitCode> {
    tools::check(Purpose::Test, false)?;
    build_page(Progress::on_terminal())?;
    let packages = PROGRAMS.iter().chain([&"tailrace-bench"]).flat_map(|program| ["--package", program]);
    let build = Command::new("cargo")
        .current_dir(workspace::root())
        .args(["build", "--release", "--locked", "--bins"])
        .args(packages)
        .status();
    if !build.context("cannot start cargo")?.success() {
        return Ok(ExitCode::FAILURE);
    }
    // Not `cargo run`: asked for one package alone, cargo would choose other features and build everything again.
    let program = program()?;
    let status = Command::new(&program).args(&options.arguments).status();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Beside the folder of this program, which is of the other profile.
fn program() -> Result<PathBuf> {
    let own = programs()?;
    Ok(own.parent().context("a profile's folder stands in the target folder")?.join("release/tailrace-bench"))
}
