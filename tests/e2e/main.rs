//! The whole system on real parts: Postgres, Kafka, the four programs as processes, callers over gRPC.
//!
//! The programs and the page are not built here: `cargo xtask test` builds them first, and so does
//! `cargo build --workspace --bins`. Tests that break nothing share one system; one that kills something has its own.

mod away;
mod browser;
mod changes;
mod dead_letters;
mod documents;
mod first_light;
mod relay_killed;
mod roles;
mod schemas;
mod sdks;
mod secrets;
mod support;
mod token;
mod visibility;
