//! The order service on real Postgres: its API and its life as a process.

mod access;
mod cancelling;
mod hostile;
mod kafka;
mod once;
mod orders;
mod process;
mod projection;
mod proxy;
mod rules;
mod support;
mod trouble;
