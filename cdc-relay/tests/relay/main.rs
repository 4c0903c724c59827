//! The relay on real Postgres and real Kafka, as a process of its own.

mod at_least_once;
mod bad_starts;
mod dead_letters;
mod exactly_once;
mod first_contact;
mod forgotten;
mod operator;
mod parking;
mod process;
mod support;
mod writer;
