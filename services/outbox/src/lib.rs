//! The outbox: an event is written in the same Postgres transaction as the entity that it tells about, so neither exists
//! without the other. The relay reads committed events from the log; nothing here publishes or deletes one.
//!
//! Two ways to write, and both make the rule a matter of types:
//!
//! ```text
//! append(&Transaction, &Event)           inside a transaction of the caller; never over a pool or a bare connection
//! Write::of(insert).execute(client, &Event)   entity + event in ONE statement: one round trip, atomic, nothing to roll back
//! ```
//!
//! A statement is prepared once for each connection, then sent as one flight (bind, execute, sync), so the second way costs exactly one network round
//! trip. It is preferred to a pipelined BEGIN … COMMIT, which costs the same but leaves a connection inside a
//! transaction when its caller is cancelled half-way.
//!
//! The table, its daily partitions and the publication are made by [`migrate`], which also gives the role of the service what
//! it needs; [`upkeep`] keeps [`PARTITION_DAYS_AHEAD`] days of partitions ahead, and [`retire`] drops old ones.

mod event;
mod partitions;
mod request;
mod rights;
mod schema;
mod write;

pub use event::{Event, EventError};
pub use partitions::{PARTITION_DAYS_AHEAD, Retired, retire};
pub use request::{Remembered, Request, remembered};
pub use rights::Right;
pub use schema::{MigrateError, REQUEST_RETENTION_HOURS, Service, migrate, migrated, upkeep};
pub use write::{Write, WriteError, append};
