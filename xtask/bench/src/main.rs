//! Measures Tailrace on this machine. Started by `cargo xtask bench`, which builds everything first.
//!
//! Each measurement starts servers of its own on free ports, prints a table and writes the same as JSON into
//! `.tailrace/bench/`. Figures move from machine to machine: what counts is the ratio to a measured ceiling of the
//! same run, or a span that a person notices.

#![expect(clippy::print_stdout, reason = "the answer of a command goes to standard output")]

mod findings;
mod latency;
mod machine;
mod relay;
mod report;
mod services;
mod start;
mod statistics;
mod store;
mod table;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench", about, long_about = None)]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Subcommand)]
enum Measurement {
    /// The relay: drains next to pg_recvlogical, latency, crashes, many sources.
    Relay(relay::Options),
    /// The user and order services: next to pgbench with the same SQL, reads, and under a flood of wrong passwords.
    Services(services::Options),
    /// How long an order takes from its commit to a subscriber and to the page.
    Latency(latency::Options),
    /// How long `cargo xtask up` takes in a clean clone, and when everything is built.
    Up(start::Options),
    /// The user service with hashes that cost nothing, for `services`.
    #[command(hide = true)]
    ServeUsers,
}

fn main() -> ExitCode {
    let measurement = Arguments::parse().measurement;
    // A process like the service: it has its own runtime.
    if let Measurement::ServeUsers = measurement {
        return services::serve_users();
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(measure(measurement)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(measurement: Measurement) -> anyhow::Result<()> {
    match measurement {
        Measurement::Relay(options) => relay::run(&options).await,
        Measurement::Services(options) => services::run(&options).await,
        Measurement::Latency(options) => latency::run(&options).await,
        Measurement::Up(options) => start::run(&options),
        Measurement::ServeUsers => Ok(()),
    }
}
