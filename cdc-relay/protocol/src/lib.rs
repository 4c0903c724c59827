//! Sans-IO reader and writer of Postgres' logical replication protocol.
//!
//! Bytes in, values out: no socket, no clock, no task. The caller reads from its socket into a buffer and asks
//! [`frame::split`] for whole frames; what a `CopyData` frame carries is peeled in two steps.
//!
//! ```text
//!  tag 'd'  length   body = one CopyData
//! ┌───────┬────────┬──────────────────────────────────────────────────────────┐
//! │ u8    │ u32    │ 'w' start u64  end u64  clock i64 │ pgoutput message     │  CopyData::XLogData
//! │       │        │ 'k' wal_end u64  clock i64  reply_requested u8           │  CopyData::PrimaryKeepalive
//! └───────┴────────┴──────────────────────────────────────────────────────────┘
//!   frame::split     CopyData::parse                     pgoutput::Message::parse
//! ```
//!
//! Every value is a slice of the buffer that was read, nothing is copied, and a row costs no allocation.
//! Input is hostile until parsed: whatever the bytes, the answer is a value or a [`ParseError`], never a panic.
//! A tag this crate does not know is a value too (`Unknown`), because newer servers may send it.
//!
//! Not here: start-up, authentication and queries (`postgres-protocol` has them), protocol versions 2 and later
//! (the server spills large transactions, so a client need not), and any decision about what to acknowledge.

pub mod copy_data;
mod error;
pub mod frame;
mod lsn;
pub mod pgoutput;
mod reader;
mod timestamp;

pub use copy_data::{CopyData, StandbyStatusUpdate};
pub use error::ParseError;
pub use lsn::{Lsn, LsnParseError};
pub use timestamp::PgTimestamp;
