//! The command line of `cdc-relay`.

use std::path::PathBuf;
use std::process::ExitCode;

use cdc_relay::config::Config;
use cdc_relay::dead_letters::{self, DeadLetters};
use clap::{Parser, Subcommand};
use tailrace_runtime::auth::Verifier;
use tailrace_runtime::process::{self, Misconfigured};
use tailrace_runtime::settings::{self, AuthSettings, GrpcSettings, ProcessSettings};
use tailrace_runtime::{grpc, probe, process::Context};

const NAME: &str = "cdc-relay";
const DEFAULTS: &[(&str, &str)] = &[("listen", "127.0.0.1:5003"), ("ops_listen", "127.0.0.1:9103")];

/// Publishes the events of outbox tables from Postgres' write-ahead log to Kafka, exactly once.
#[derive(Parser)]
#[command(name = NAME, version)]
struct Cli {
    /// The configuration file: Kafka, sources and routes, in TOML; `${NAME}` in a value stands for an environment variable.
    #[arg(long, env = "TAILRACE_RELAY_CONFIG", value_name = "FILE", default_value = "relay.toml")]
    config: PathBuf,

    /// Checks every setting and the configuration file, asks nobody, and ends.
    #[arg(long)]
    check_config: bool,

    #[command(flatten)]
    process: ProcessSettings,
    #[command(flatten)]
    grpc: GrpcSettings,
    #[command(flatten)]
    auth: AuthSettings,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Publishes until told to stop; the default.
    Run,
    /// Makes topics, slots and first positions where they are missing. Before the services' first write; safe to repeat.
    Init,
    /// Shows and releases the events that could not be published, and what waits behind them.
    DeadLetters(DeadLetters),
    /// Asks the running relay's ops port whether it is ready; exit code 0 if it is.
    Probe,
}

fn main() -> ExitCode {
    let cli: Cli = settings::parse(DEFAULTS);
    match cli.command {
        Some(Command::Probe) => {
            return process::exit_code(NAME, probe::ready(cli.process.ops_listen).map_err(Into::into));
        }
        Some(Command::DeadLetters(asked)) => {
            return process::command(NAME, &cli.process, dead_letters::run(asked, variable));
        }
        Some(Command::Run | Command::Init) | None => {}
    }
    let config = Config::load(&cli.config, variable)
        .unwrap_or_else(|error| settings::refuse::<Cli>(&Misconfigured::new(error.to_string())));
    if let Err(problem) = grpc::check(&cli.grpc).and_then(|()| Verifier::check(&cli.auth)) {
        settings::refuse::<Cli>(&problem);
    }
    if cli.check_config {
        return process::configuration_ok();
    }
    match cli.command {
        Some(Command::Init) => process::command(NAME, &cli.process, async move {
            cdc_relay::init::run(&config).await?;
            Ok(())
        }),
        _ => process::main(NAME, &cli.process, |context: Context| async move {
            let verifier = Verifier::connect(&cli.auth)?;
            let listener = process::listen("TAILRACE_LISTEN", cli.grpc.listen).await?;
            cdc_relay::run(config, &cli.grpc, verifier, listener, context).await
        }),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the file names its own variables, and a token is no argument, so clap cannot read them"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
