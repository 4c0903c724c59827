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
//! The table, its daily partitions and the publication are made by [`migrate`]; [`upkeep`] keeps [`PARTITION_DAYS_AHEAD`]
//! days of partitions ahead and is to be called at least daily. Old partitions are not dropped yet: that needs the slot's
//! confirmed position and comes with retention.

mod event;
mod request;
mod schema;
mod write;

pub use event::{Event, EventError};
pub use request::{Remembered, Request, remembered};
pub use schema::{MigrateError, PARTITION_DAYS_AHEAD, REQUEST_RETENTION_HOURS, migrate, migrated, upkeep};
pub use write::{Write, WriteError, append};
