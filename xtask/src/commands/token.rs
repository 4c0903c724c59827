//! `cargo xtask token`: an access token of the stack that runs, for `TOKEN=$(cargo xtask token)`.
//!
//! `tailrace-demo` signs in: it speaks gRPC, and this program stays quick to build.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::artefacts::programs;
use crate::stack::lock::Lock;
use crate::stack::state::State;
use crate::workspace;

/// The options of `token`.
#[derive(Debug, Args)]
pub struct Options {
    /// The account; the demo account, an operator, without it.
    #[arg(long)]
    email: Option<String>,

    /// Its password; the demo account's without it, which all seeded accounts share.
    #[arg(long)]
    password: Option<String>,

    /// Fail unless the account is an operator's.
    #[arg(long)]
    operator: bool,

    /// The folder of the stack.
    #[arg(long, env = "TAILRACE_DIR", value_name = "FOLDER", default_value_os_t = workspace::data())]
    dir: PathBuf,
}

/// Prints the token, and nothing else, on standard output.
///
/// # Errors
///
/// When no stack runs, or the account cannot sign in.
pub fn run(options: &Options) -> Result<ExitCode> {
    let Some(state) = State::load(&options.dir) else {
        match Lock::holder(&options.dir) {
            Some(pid) => bail!("Tailrace is starting (process {pid}): try again when it is ready"),
            None => bail!("Tailrace does not run: `cargo xtask up` starts it"),
        }
    };
    let users = state.entries.iter().find(|entry| entry.name == "user-service");
    let mut demo = Command::new(programs()?.join("tailrace-demo"));
    demo.env("TAILRACE_USER_SERVICE_URL", &users.context("a stack has a user-service")?.url);
    demo.env("TAILRACE_DEMO_EMAIL", &state.demo_email).env("TAILRACE_DEMO_PASSWORD", &state.demo_password);
    demo.arg("token").args(options.operator.then_some("--operator"));
    for (name, value) in [("--email", &options.email), ("--password", &options.password)] {
        demo.args(value.iter().map(|value| format!("{name}={value}")));
    }
    let status = demo.status().context("cannot start tailrace-demo: `cargo xtask up` builds it")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
