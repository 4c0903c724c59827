//! An open loop: transactions are due at planned times, whether or not the ones before them are done.
//!
//! ```text
//!   due        0 ms   1 ms   2 ms   3 ms   …
//!   connection   a      b      c      a        each a thread with a connection of its own, late if it is busy
//! ```
//!
//! A commit is stamped when the client has its answer. Threads sleep until a transaction is due: a timer of a runtime
//! would be a millisecond coarse.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Builder;

use super::outbox::{Session, numbered_insert};

/// The first transaction is due so long after the threads are told.
const LEAD: Duration = Duration::from_millis(300);

/// A load.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// A database for each connection.
    pub(super) urls: Vec<String>,
    /// Transactions per second, all connections together.
    pub(super) rate: u32,
    /// Events per transaction.
    pub(super) rows: u32,
    /// Transactions in all.
    pub(super) count: u32,
    /// The number of the first event; the others follow.
    pub(super) first: u64,
}

/// One transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// The number of its first event.
    pub(super) first: u64,
    pub(super) due: Instant,
    /// When it was sent; later than it was due if its connection was busy.
    pub(super) begun: Instant,
    /// When the client had the answer of its commit.
    pub(super) committed: Instant,
}

impl Pace {
    /// When the transaction of that number is due, after the first.
    fn due(&self, transaction: u32) -> Duration {
        Duration::from_secs(1) * transaction / self.rate
    }

    /// The number of the first event of a transaction.
    fn number(&self, transaction: u32) -> u64 {
        self.first + u64::from(transaction) * u64::from(self.rows)
    }

    /// How many events it has.
    pub(super) fn events(&self) -> u64 {
        u64::from(self.count) * u64::from(self.rows)
    }

    /// Writes, and answers what was written, in order. Ends early when it is told to stop.
    pub(super) fn write(&self, stop: &AtomicBool) -> Result<Vec<Written>> {
        ensure!(!self.urls.is_empty(), "a load needs a connection");
        let begin = Instant::now() + LEAD;
        let shares = std::thread::scope(|scope| {
            let connections = 0..self.urls.len();
            let threads: Vec<_> = connections
                .map(|connection| scope.spawn(move || self.share(connection, begin, stop)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a writer does not panic"))
                .collect::<Vec<_>>()
        });
        let mut written = Vec::new();
        for share in shares {
            written.extend(share?);
        }
        written.sort_by_key(|transaction| transaction.first);
        Ok(written)
    }

    /// The transactions of one connection: every so many of all.
    fn share(&self, connection: usize, begin: Instant, stop: &AtomicBool) -> Result<Vec<Written>> {
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
        let session = runtime.block_on(Session::connect(&self.urls[connection]))?;
        let insert = runtime.block_on(session.client.prepare(&numbered_insert()))?;
        let mut written = Vec::new();
        for transaction in (connection as u32..self.count).step_by(self.urls.len()) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let due = begin + self.due(transaction);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let first = self.number(transaction);
            let (from, to) = (first.cast_signed(), (first + u64::from(self.rows) - 1).cast_signed());
            let begun = Instant::now();
            let done = runtime.block_on(session.client.execute(&insert, &[&from, &to]));
            let committed = Instant::now();
            done.context("a transaction failed")?;
            written.push(Written { first, due, begun, committed });
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_and_numbers_are_planned() {
        let pace = Pace { urls: Vec::new(), rate: 1_000, rows: 10, count: 60_000, first: 7 };
        assert_eq!(pace.due(0), Duration::ZERO);
        assert_eq!(pace.due(59_999), Duration::from_millis(59_999));
        assert_eq!((pace.number(0), pace.number(2)), (7, 27));
        assert_eq!(pace.events(), 600_000);
    }
}
