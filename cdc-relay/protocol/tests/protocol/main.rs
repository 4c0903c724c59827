//! The reader against what a real server sent, and against what no server would send.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod golden;
mod hostile;
#[path = "../shared/listing.rs"]
mod listing;
mod sessions;
