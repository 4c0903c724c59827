//! `cargo xtask`: starts Tailrace on this machine and checks the project. See `cargo xtask --help`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::commands::{
    bench, chaos, contract, down, fuzz, generate, logs, simulate, status, test, tidy, token, up,
};

/// Starts Tailrace on this machine, without Docker, and checks the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build and start everything; Ctrl-C stops it.
    Up(up::Options),
    /// What runs, where, and how it is.
    Status(status::Options),
    /// Stop what `up` started.
    Down(down::Options),
    /// Print logs.
    Logs(logs::Options),
    /// Print an access token: `TOKEN=$(cargo xtask token)`.
    Token(token::Options),
    /// Every check and test, in order, until one fails.
    Test(test::Options),
    /// Measure a release build: `relay`, `latency` or `up`.
    Bench(bench::Options),
    /// Break everything under load, at random moments, and compare outbox and topics afterwards.
    Chaos(chaos::Options),
    /// Run the relay's engine through schedules of faults, on a simulated clock.
    Simulate(simulate::Options),
    /// Search for bytes that break one of the relay's parsers.
    Fuzz(fuzz::Options),
    /// Everything that is made of the contract and kept here: the SDKs' code, the reference, the schemas of events.
    Generate(generate::Options),
    /// The files of a release that tell the contract: a protoset and the protos.
    Contract(contract::Options),
    /// The checks of style that lints cannot do.
    Tidy,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Up(options) => up::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Down(options) => down::run(&options),
        Command::Logs(options) => logs::run(&options),
        Command::Token(options) => token::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Chaos(options) => chaos::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Contract(options) => contract::run(&options),
        Command::Generate(options) => generate::run(&options),
        Command::Tidy => tidy::run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
