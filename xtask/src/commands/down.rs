//! `cargo xtask down`: asks the `up` of a folder to stop, and waits until it has.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};

use crate::native::until;
use crate::stack::lock::Lock;
use crate::workspace;

const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// The options of `down`.
#[derive(Debug, Args)]
pub struct Options {
    /// The folder of the stack.
    #[arg(long, value_name = "FOLDER", default_value_os_t = workspace::data())]
    dir: PathBuf,
}

/// Stops the stack of a folder.
///
/// # Errors
///
/// When it may not be signalled, or does not stop.
pub fn run(options: &Options) -> Result<ExitCode> {
    // The processes of a runner that is gone died with it, so there is never anything else to stop.
    let Some(holder) = Lock::holder(&options.dir) else {
        eprintln!("Tailrace does not run");
        return Ok(ExitCode::SUCCESS);
    };
    let pid = i32::try_from(holder).ok().and_then(Pid::from_raw).context("the lock names no process")?;
    kill_process(pid, Signal::TERM).with_context(|| format!("cannot stop process {holder}"))?;
    match until(STOP_TIMEOUT, || Lock::holder(&options.dir).is_none().then_some(())) {
        Some(()) => Ok(ExitCode::SUCCESS),
        None => {
            bail!("process {holder} has not stopped after {} s: kill -9 {holder}", STOP_TIMEOUT.as_secs())
        }
    }
}
