//! The relay on real Postgres and real Kafka, as a process of its own.

mod at_least_once;
mod bad_starts;
#[path = "../shared/certificates.rs"]
mod certificates;
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
mod support;
mod takeover;
mod unknown_outcomes;
mod writer;
