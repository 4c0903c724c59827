//! `cargo xtask fuzz`: searches for bytes that break one of the relay's parsers.
//!
//! The program is built as all else is, so nothing is compiled twice; only the parsers' own crates are compiled once
//! more, with counted branches (`cdc-relay/fuzz/instrument.sh`). What is found to reach new branches is kept in
//! `.tailrace/fuzz`, what breaks something in `.tailrace/fuzz/findings`.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::artefacts::programs;
use crate::workspace;

const PROGRAM: &str = "relay-fuzz";
/// Longer inputs find nothing that shorter ones do not.
const INPUT_BYTES_MAX: u32 = 8_192;
const MEMORY_MB_MAX: u32 = 1_024;

/// The options of `fuzz`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How long each target is searched.
    #[arg(long, default_value_t = 60)]
    pub seconds: u32,

    /// This target alone: a folder of `cdc-relay/fuzz/corpus`.
    pub target: Option<String>,
}

/// Builds and searches.
///
/// # Errors
///
/// When it cannot be built or started, or there is no such target.
pub fn run(options: &Options) -> Result<ExitCode> {
    let corpus = workspace::root().join("cdc-relay/fuzz/corpus");
    let mut targets = Vec::new();
    for entry in fs::read_dir(&corpus).context("cannot read the corpus")? {
        targets.push(entry?.file_name().to_string_lossy().into_owned());
    }
    targets.sort();
    if let Some(target) = &options.target {
        if !targets.contains(target) {
            bail!("no target {target}: there are {}", targets.join(", "));
        }
        targets = vec![target.clone()];
    }
    build()?;
    let mut broken = Vec::new();
    for target in targets {
        if !search(&target, options.seconds)? {
            broken.push(target);
        }
    }
    if broken.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("broken: {}; see {}", broken.join(", "), findings().display());
    Ok(ExitCode::FAILURE)
}

fn build() -> Result<()> {
    let build = Command::new("cargo")
        .current_dir(workspace::root())
        .env("RUSTC_WORKSPACE_WRAPPER", workspace::root().join("cdc-relay/fuzz/instrument.sh"))
        .args(["build", "--workspace", "--locked", "--bin", PROGRAM, "--features", "relay-fuzz/fuzzing"])
        .status();
    if !build.context("cannot start cargo")?.success() {
        bail!("the fuzzer cannot be built");
    }
    Ok(())
}

fn findings() -> std::path::PathBuf {
    workspace::data().join("fuzz/findings")
}

/// Searches one target, and says in a line how far it came. False if something broke.
fn search(target: &str, seconds: u32) -> Result<bool> {
    let found = workspace::data().join("fuzz").join(target);
    let log = workspace::data().join("fuzz").join(format!("{target}.log"));
    fs::create_dir_all(&found)?;
    fs::create_dir_all(findings())?;
    let output = Command::new(programs()?.join(PROGRAM))
        .env("TAILRACE_FUZZ_TARGET", target)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MB_MAX}"))
        .arg(format!("-artifact_prefix={}/{target}-", findings().display()))
        .args(["-print_final_stats=1", "-timeout=5"])
        .args([&found, &workspace::root().join("cdc-relay/fuzz/corpus").join(target)])
        .output()
        .context("cannot start the fuzzer")?;
    let text = String::from_utf8_lossy(&output.stderr);
    fs::write(&log, text.as_bytes())?;
    let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map_or("?", str::trim);
    let executions = number("stat::number_of_executed_units:");
    let branches = text.lines().rev().find_map(|line| line.split_once("cov: ")?.1.split(' ').next());
    let inputs = fs::read_dir(&found)?.count();
    let end = if output.status.success() { "nothing broke" } else { "BROKEN" };
    println!(
        "{target:12} {executions:>11} executions, {:>6} branches, {inputs:>5} inputs kept: {end}",
        branches.unwrap_or("?")
    );
    if !output.status.success() {
        eprintln!(
            "{}",
            text.lines()
                .filter(|line| line.contains("panicked") || line.contains("ERROR"))
                .collect::<Vec<_>>()
                .join("\n")
        );
    }
    Ok(output.status.success())
}
