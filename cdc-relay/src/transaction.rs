//! The open transaction of the stream: which frame is which event, and which of them are already in Kafka.
//!
//! ```text
//!   BEGIN final_lsn ── insert 0 ── insert 1 ── … ── COMMIT end_lsn
//!         └ identity of an event: (final_lsn, ordinal); end_lsn is not known until the end
//! ```

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use replication_protocol::Lsn;

use crate::planted::{self, Bug};
use crate::position::{Covered, Partial, Position};

/// A transaction between BEGIN and COMMIT.
#[derive(Debug)]
pub(crate) struct Transaction {
    final_lsn: Lsn,
    committed_at: CommitTime,
    next_ordinal: u64,
    covered: Covered,
}

impl Transaction {
    /// Opens the transaction that BEGIN announces; `durable` decides what of it is already in Kafka.
    pub(crate) fn begin(final_lsn: Lsn, committed_at: CommitTime, durable: &Position) -> Self {
        Self { final_lsn, committed_at, next_ordinal: 0, covered: durable.covered(final_lsn) }
    }

    /// Counts a frame. Every insert and every message counts, before anything is filtered, so that a changed route or
    /// table shifts no identity. `None` if the frame is already in Kafka.
    pub(crate) fn count(&mut self) -> Option<EventPosition> {
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        let covered = match self.covered {
            Covered::Whole => true,
            Covered::Frames(frames) => ordinal < frames,
        };
        (!covered).then_some(EventPosition { final_lsn: self.final_lsn, ordinal })
    }

    /// When the transaction was committed.
    pub(crate) fn committed_at(&self) -> &CommitTime {
        &self.committed_at
    }

    /// The commit's place in the log.
    pub(crate) fn final_lsn(&self) -> Lsn {
        self.final_lsn
    }

    /// How far the transaction has come, for a batch that ends inside it.
    pub(crate) fn partial(&self) -> Partial {
        let less = u64::from(planted::is(Bug::PartialOneLess));
        Partial { final_lsn: self.final_lsn, next_ordinal: self.next_ordinal - less }
    }
}

/// When a transaction was committed.
#[derive(Clone, Debug)]
pub struct CommitTime {
    /// In microseconds since 1970.
    pub unix_us: i64,
    /// As RFC 3339 has it: written once for all events of the transaction.
    pub text: Bytes,
}

/// The identity of an event, and its order: `final_lsn/ordinal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPosition {
    /// BEGIN's `final_lsn`.
    pub final_lsn: Lsn,
    /// The frame's number in its transaction.
    pub ordinal: u64,
}

impl FromStr for EventPosition {
    type Err = EventPositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (final_lsn, ordinal) = text.rsplit_once('/').ok_or(EventPositionError)?;
        let final_lsn = final_lsn.parse().map_err(|_| EventPositionError)?;
        Ok(Self { final_lsn, ordinal: ordinal.parse().map_err(|_| EventPositionError)? })
    }
}

/// Text that is no event's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the position of an event, such as 0/16B3748/0")]
pub struct EventPositionError;

impl fmt::Display for EventPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.final_lsn, self.ordinal)
    }
}
