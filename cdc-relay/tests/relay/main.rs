//! The relay on real Postgres and real Kafka, as a process of its own.

mod at_least_once;
mod bad_starts;
mod dead_letters;
mod exactly_once;
mod first_contact;
mod forgotten;
mod hardened;
mod link;
mod neighbours;
mod operator;
mod parking;
mod policies;
mod process;
mod restarts;
#[path = "../shared/server_files.rs"]
mod server_files;
mod support;
mod takeover;
mod unknown_outcomes;
mod writer;
