//! The batch that is being built: records in commit order, and how many of them belong to complete commits.
//!
//! ```text
//!   records   [ commit 1 ][ commit 2 ][ open transaction …
//!                                     ▲ committed_len, with the position of commit 2
//! ```

use crate::planted::{self, Bug};
use crate::position::Position;
use crate::record::{Batch, Record};

/// Records that wait for the batch in flight to end.
#[derive(Debug, Default)]
pub(crate) struct Building {
    records: Vec<Record>,
    bytes: usize,
    committed_len: usize,
    position: Option<Position>,
}

impl Building {
    /// Adds a record of the open transaction.
    pub(crate) fn push(&mut self, record: Record) {
        self.bytes += record.memory_size();
        self.records.push(record);
    }

    /// Ends the open transaction: everything so far is complete at this position. Positions never go back.
    pub(crate) fn commit(&mut self, position: Position) {
        self.committed_len = self.records.len();
        let is_later = self.position.is_none_or(|last| position.resume_lsn > last.resume_lsn);
        if is_later || planted::is(Bug::PositionGoesBack) {
            self.position = Some(position);
        }
    }

    /// Takes the complete commits, with the position of the last.
    pub(crate) fn take_committed(&mut self) -> Option<Batch> {
        let position = self.position?;
        let len = if planted::is(Bug::OpenTaken) { self.records.len() } else { self.committed_len };
        let tail = self.records.split_off(len);
        let records = std::mem::replace(&mut self.records, tail);
        self.committed_len = 0;
        self.recount();
        Some(Batch::new(records, position))
    }

    /// Takes everything, the open transaction's part included.
    pub(crate) fn take_all(&mut self, position: Position) -> Batch {
        self.bytes = 0;
        self.committed_len = 0;
        Batch::new(std::mem::take(&mut self.records), position)
    }

    /// Puts other records in the place of each, as when its key is parked or free again.
    pub(crate) fn rewrite<E>(
        &mut self,
        mut replace: impl FnMut(Record, &mut Vec<Record>) -> Result<(), E>,
    ) -> Result<(), E> {
        let open_from = self.committed_len;
        let mut rewritten = Vec::with_capacity(self.records.len());
        for (index, record) in std::mem::take(&mut self.records).into_iter().enumerate() {
            replace(record, &mut rewritten)?;
            if index + 1 == open_from {
                self.committed_len = rewritten.len();
            }
        }
        self.records = rewritten;
        self.recount();
        Ok(())
    }

    /// The records that wait, in order.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    /// The position at the end of the last complete commit.
    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    /// What the records cost in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many records wait.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// How many of them belong to complete commits.
    pub(crate) fn committed_len(&self) -> usize {
        self.committed_len
    }

    /// The oldest record that waits.
    pub(crate) fn first(&self) -> Option<&Record> {
        self.records.first()
    }

    fn recount(&mut self) {
        self.bytes = self.records.iter().map(Record::memory_size).sum();
    }
}
