//! The way to Postgres: every socket to it is opened below this module, and nothing here decides anything.
//!
//! ```text
//!  options ─► socket (TCP, TLS) ─► startup (parameters, SCRAM) ─► connection (commands) ─► stream (both-way copy)
//!  options ─► catalog (ordinary connection through tokio-postgres: what the slot, table and publication look like)
//!                └─► lease (session lock: one relay per source)
//! ```
//!
//! The replication connection is our own because `tokio-postgres` cannot ask for `replication=database` and does not
//! know the copy-both mode. Bodies of `CopyData` frames leave here unread; `replication-protocol` reads them.
//! What to acknowledge and when, when to connect again, and what a frame means is the caller's business.

mod backend;
pub mod catalog;
pub mod connection;
pub mod error;
pub mod lease;
pub mod options;
mod policy;
mod quote;
mod socket;
mod startup;
pub mod stream;
mod tls;
mod wire;

pub use catalog::{Catalog, PublicationCoverage, SlotRow};
pub use connection::{CreatedSlot, ReplicationConnection, StreamOptions, SystemIdentity};
pub use error::{SourceError, SourceErrorKind};
pub use lease::{Candidate, Lease};
pub use options::{ReplicationOptions, Secret, TlsMode};
pub use stream::{FrameReader, ReplicationStream, StatusWriter};

/// Reads a frame's body as each of the kinds that start-up and commands expect; for the fuzzer, which knows no other way.
#[doc(hidden)]
pub fn read_as_every_frame(body: &bytes::Bytes) {
    backend::server_message(body.clone());
    backend::loss_in_notice(body.clone());
    // What is wanted is that none of them panics.
    let _ = backend::authentication(body.clone());
    let _ = backend::backend_pid(body.clone());
    let _ = backend::parameter(body.clone());
    let _ = backend::row(body.clone());
}
