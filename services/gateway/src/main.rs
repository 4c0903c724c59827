//! The gateway's process.

use std::process::ExitCode;

use gateway::{
    Listeners,
    config::{Cli, Command, DEFAULTS, Settings},
};
use tailrace_runtime::{
    auth::Verifier,
    probe,
    process::{self, Context},
    settings,
};

const NAME: &str = "gateway";

fn main() -> ExitCode {
    let cli: Cli = settings::parse(&DEFAULTS);
    if let Some(Command::Probe) = cli.command {
        return process::exit_code(NAME, probe::ready(cli.settings.process.ops_listen).map_err(Into::into));
    }
    if let Err(problem) = cli.settings.check() {
        settings::refuse::<Cli>(&problem);
    }
    if cli.check_config {
        return process::configuration_ok();
    }
    let process_settings = cli.settings.process.clone();
    process::main(NAME, &process_settings, |context| run(cli.settings, context))
}

async fn run(settings: Settings, context: Context) -> anyhow::Result<()> {
    let web = match settings.web.listen()? {
        Some(address) => Some(process::listen("TAILRACE_WEB_LISTEN", address).await?),
        None => None,
    };
    let listeners = Listeners { grpc: process::listen("TAILRACE_LISTEN", settings.grpc.listen).await?, web };
    let verifier = Verifier::connect(&settings.auth)?;
    gateway::run(settings, verifier, listeners, context).await
}
