//! The way to Postgres, against a real server and, for what no real server does on demand, a scripted one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod catalog;
mod encryption;
mod endings;
mod golden;
mod lease;
#[path = "../../protocol/tests/shared/listing.rs"]
mod listing;
mod refusals;
mod scripted;
#[path = "../shared/server_files.rs"]
mod server_files;
mod streaming;
mod support;
