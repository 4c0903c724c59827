//! The services, measured: writes next to `pgbench` with the same statement on the same server, reads, and everything else while
//! somebody tries passwords.
//!
//! ```text
//!   load (gRPC, here) ─▶ user-service, order-service ─┐
//!                                                     ├─▶ one Postgres
//!   pgbench, the same statement ──────────────────────┘
//! ```
//!
//! Load, services and database share the machine's processors, so a figure of the services contains the costs of the load.

mod calls;
mod load;
mod pgbench;
mod servers;
mod workloads;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use tailrace_runtime::{process, settings};
use user_service::config::{Cli, DEFAULTS};
use user_service::password::HashCost;
use user_service::token::Issuer;

use self::workloads::Workload;
use crate::machine::Machine;
use crate::store::Store;
use crate::table;

const PAIRS_MAX: i64 = 15;

/// The options of `services`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// What is measured; may be repeated, and is everything if left out.
    #[arg(long, value_enum, value_name = "NAME")]
    workload: Vec<Workload>,

    /// How many pairs of runs there are of each kind.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=PAIRS_MAX))]
    pairs: u32,

    /// How long a run is, in seconds, after one second that is not counted.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,

    /// Small and short, to see that everything works: the figures mean nothing.
    #[arg(long, conflicts_with = "docs")]
    quick: bool,

    /// Fill the table up with what was found before for the workloads that are left out.
    #[arg(long)]
    with_earlier: bool,

    /// Put the table into docs/.
    #[arg(long)]
    docs: bool,
}

impl Options {
    fn pairs(&self) -> u32 {
        if self.quick { 1 } else { self.pairs }
    }

    fn seconds(&self) -> u32 {
        if self.quick { 1 } else { self.seconds }
    }
}

/// Measures and reports.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let store = Store::new("services", options.quick);
    let chosen = if options.workload.is_empty() { Workload::all() } else { options.workload.clone() };
    for workload in &chosen {
        let machine = Machine::now();
        eprintln!("\n{} …", workload.name());
        let mut findings = workload.measure(options).await?;
        findings.machine = machine.line();
        store.write(&findings)?;
    }
    let shown = if options.with_earlier { Workload::all() } else { chosen };
    let table = table::markdown(&store.read(&shown)?);
    println!("\n{table}");
    if options.docs {
        store.refresh_docs(&table)?;
    }
    Ok(())
}

/// The user service as it is, but for hashes that cost nothing. Its settings come from the environment.
pub(crate) fn serve_users() -> ExitCode {
    let mut cli: Cli = match settings::parse_from(["user-service"], DEFAULTS) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    cli.config.hash_cost = HashCost::LEAST;
    let config = &cli.config;
    process::main("user-service", &config.process, |context| async move {
        let issuer = Issuer::from_settings(&config.tokens)?;
        let listener = process::listen("TAILRACE_LISTEN", config.grpc.listen).await?;
        user_service::run(config, issuer, listener, context).await
    })
}
