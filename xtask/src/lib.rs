//! The native runner: real Postgres, real Kafka and the processes of Tailrace on one machine, without Docker,
//! for `cargo xtask up` and for every test that needs a server.
//!
//! It runs on Linux. It does not know what the processes do: it starts them as anybody would, through their
//! command line, and talks to them over their public interfaces.

#![expect(clippy::print_stdout, reason = "the answer of a command goes to standard output")]

pub mod artefacts;
pub mod commands;
pub mod contract;
pub mod native;
pub mod progress;
pub mod settings;
pub mod signals;
pub mod stack;
pub mod toolchains;
pub mod tools;
pub mod workspace;
