//! Real servers on this machine: Postgres and Kafka, each a child process in a folder of its own.
//!
//! Whatever is started here dies with the process that started it, even when that is killed: each child is
//! started through `setpriv --pdeathsig`, by a thread that lives as long as the process (see [`child`]).
//! Everything listens on loopback only. Nothing here is shared between two runs but the cache of downloads.

pub mod account;
pub mod child;
pub mod kafka;
pub mod port;
pub mod postgres;
pub mod scratch;

mod download;
mod init_sql;

use std::time::{Duration, Instant};

pub use download::jars;
pub use init_sql::{dev_database, script as dev_database_script};
pub use kafka::{Kafka, KafkaOptions};
pub use port::{Port, PortLease};
pub use postgres::{POSTGRES_VARIABLE, Postgres, PostgresOptions};
pub use scratch::Scratch;

/// How often a condition is looked at while it is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `condition` gives a value, at most as long as `deadline`.
pub(crate) fn until<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if start.elapsed() >= deadline {
            return None;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
