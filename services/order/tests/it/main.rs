//! The order service on real Postgres: its API and its life as a process.

mod orders;
mod process;
mod support;
