//! Boot of the user service: which command, with which settings.

use std::process::ExitCode;

use tailrace_runtime::{probe, process, settings};
use tikv_jemallocator::Jemalloc;
use user_service::{
    config::{Cli, Command, DEFAULTS, OperatorCommand},
    keygen, operator, run,
    token::Issuer,
};

/// A call makes many small things on one thread and drops them on another: with it a core serves a tenth more of them.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const NAME: &str = "user-service";

fn main() -> ExitCode {
    let cli: Cli = settings::parse(DEFAULTS);
    let config = &cli.config;
    if cli.check_config {
        return match config.check() {
            Ok(()) => process::configuration_ok(),
            Err(problem) => process::exit_code(NAME, Err(problem.into())),
        };
    }
    match cli.command {
        None => process::main(NAME, &config.process, |context| async move {
            let issuer = Issuer::from_settings(&config.tokens)?;
            let listener = process::listen("TAILRACE_LISTEN", config.grpc.listen).await?;
            run(config, issuer, listener, context).await
        }),
        Some(Command::Migrate) => process::command(NAME, &config.process, user_service::migrate(config)),
        Some(Command::Probe) => {
            process::exit_code(NAME, probe::ready(config.process.ops_listen).map_err(Into::into))
        }
        Some(Command::Keygen { out }) => process::exit_code(NAME, keygen(&out).map_err(Into::into)),
        Some(Command::Operator { command: OperatorCommand::Grant { email } }) => {
            process::command(NAME, &config.process, operator::grant(config, email))
        }
    }
}
