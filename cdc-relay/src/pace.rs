//! Whether a batch goes out at once, or waits for company because the source is behind.
//!
//! A Kafka transaction costs broker and relay the same whatever is in it, and its time is taken from the server that sends. So small
//! transactions make the next ones small, and a backlog is drained at half the speed that large ones reach. What is late already may
//! wait a little: until there is half a buffer of it, or the interval since the batch before is over. What is not late never waits.
//!
//! How late the source is, is told by the server's clock alone: when it sent a commit, less when that was made.

use std::time::{Duration, Instant};

use replication_protocol::PgTimestamp;

/// When the next batch goes out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    lag_min: Duration,
    interval: Duration,
    bytes_enough: usize,
    is_behind: bool,
    handed_over_at: Option<Instant>,
}

impl Pace {
    /// Nothing waits unless commits come later than `lag_min`, and nothing longer than `interval`.
    pub(crate) fn new(lag_min: Duration, interval: Duration, buffer_bytes_max: usize) -> Self {
        Self { lag_min, interval, bytes_enough: buffer_bytes_max / 2, is_behind: false, handed_over_at: None }
    }

    /// Takes note of a commit: when it was made, and when the server sent it.
    pub(crate) fn committed(&mut self, committed_at_us: i64, sent_at: PgTimestamp) {
        let lag_us = sent_at.unix_micros().saturating_sub(committed_at_us);
        self.is_behind = u128::try_from(lag_us).is_ok_and(|lag_us| lag_us >= self.lag_min.as_micros());
    }

    /// Takes note that a batch was handed over.
    pub(crate) fn handed_over(&mut self, now: Instant) {
        self.handed_over_at = Some(now);
    }

    /// How long so many bytes of complete commits wait, if they do.
    pub(crate) fn waits_until(&self, bytes: usize) -> Option<Instant> {
        let waits = self.is_behind && bytes < self.bytes_enough;
        self.handed_over_at.filter(|_| waits).map(|at| at + self.interval)
    }
}
