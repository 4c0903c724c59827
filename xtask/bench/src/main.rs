//! Measures Tailrace on this machine. Started by `cargo xtask bench`, which builds everything first.
//!
//! Each measurement starts servers of its own on free ports, prints a table and writes the same as JSON into
//! `.tailrace/bench/`. Figures move from machine to machine: what counts is the ratio to a measured ceiling of the
//! same run, or a span that a person notices.

#![expect(clippy::print_stdout, reason = "the answer of a command goes to standard output")]

mod latency;
mod machine;
mod relay;
mod report;
mod start;
mod statistics;
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
    /// How long an order takes from its commit to a subscriber and to the page.
    Latency(latency::Options),
    /// How long `cargo xtask up` takes in a clean clone, and when everything is built.
    Up(start::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().measurement {
        Measurement::Relay(options) => relay::run(&options).await,
        Measurement::Latency(options) => latency::run(&options).await,
        Measurement::Up(options) => start::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
