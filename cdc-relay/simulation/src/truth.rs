//! The checker: what must hold whenever Kafka commits, whenever the slot is acknowledged, and at the end.

use std::collections::{BTreeMap, BTreeSet};

use cdc_relay::EventPosition;
use cdc_relay::position::{Partial, Position};
use cdc_relay::record::{Record, header};
use replication_protocol::Lsn;

use crate::kafka::{DEAD_LETTERS, Kafka, PARKED};
use crate::postgres::{Change, Entry, Row};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Parked,
    Published,
    Discarded,
    /// A dead letter without a key to park.
    Dead,
}

/// What readers with `read_committed` have seen so far.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    committed: BTreeMap<u64, (Row, EventPosition)>,
    by_position: BTreeMap<(u64, u64), u64>,
    fates: BTreeMap<u64, Fate>,
    /// What was delivered without a transaction: it may come again until its position is recorded.
    delivered: BTreeSet<u64>,
    /// How many entries of the log are known here.
    known: usize,
    /// How many entries are known to be in Kafka whole.
    settled: usize,
    durable: Option<Position>,
    /// Heads that an operator may have discarded.
    pub(crate) discards: BTreeSet<(u64, u64)>,
    pub(crate) was_anything_parked: bool,
}

impl Truth {
    /// Nothing is published, and the position is where the slot was made.
    pub(crate) fn new(birth: Option<Position>) -> Self {
        Self { durable: birth, ..Self::default() }
    }

    /// Learns what Postgres has committed since.
    pub(crate) fn learn(&mut self, log: &[Entry]) {
        for entry in log.get(self.known..).unwrap_or_default() {
            let changes = entry.changes.as_deref().unwrap_or_default();
            for (ordinal, change) in (0_u64..).zip(changes) {
                if let Change::Outbox(row) = change {
                    let position = EventPosition { final_lsn: Lsn::new(entry.lsn), ordinal };
                    self.committed.insert(row.id, (*row, position));
                    self.by_position.insert((entry.lsn, ordinal), row.id);
                }
            }
        }
        self.known = log.len();
    }

    /// A payload as the outbox table holds it.
    pub(crate) fn payload(&self, event_id: &str) -> Option<Vec<u8>> {
        let id: u64 = event_id.strip_prefix('e')?.parse().ok()?;
        self.committed.get(&id).map(|(row, _)| row.payload().into_bytes())
    }

    /// A Kafka transaction was committed.
    pub(crate) fn transaction(&mut self, records: &[Record], position: &Position) -> Result<(), String> {
        for record in records {
            match &*record.topic {
                DEAD_LETTERS => self.dead_letter(record)?,
                PARKED => self.parked(record)?,
                _ => self.event(record)?,
            }
        }
        if let Some(before) = &self.durable
            && rank(position) < rank(before)
        {
            return Err(format!("the position went back from {before:?} to {position:?}"));
        }
        self.durable = Some(*position);
        Ok(())
    }

    /// A record was delivered without a transaction; `is_stale` by a relay that has lost the source. Tells whether it was
    /// there already.
    pub(crate) fn delivered(&mut self, record: &Record, is_stale: bool) -> Result<bool, String> {
        if &*record.topic == PARKED {
            return self.parked(record).map(|()| false);
        }
        let (row, _) = self.find(record)?;
        let is_repeat = self.fates.contains_key(&row.id);
        if is_repeat && is_stale {
            return Ok(true);
        }
        match &*record.topic {
            DEAD_LETTERS => self.dead_letter(record)?,
            _ => self.event(record)?,
        }
        self.delivered.insert(row.id);
        Ok(is_repeat)
    }

    pub(crate) fn has_delivered(&self) -> bool {
        !self.delivered.is_empty()
    }

    /// Whether an event may come once more: it was delivered, and its position is not recorded.
    fn may_repeat(&self, id: u64, position: EventPosition) -> bool {
        let at = self.durable.unwrap_or(Position::at(Lsn::ZERO));
        let is_inside = |partial: &Partial| {
            partial.final_lsn == position.final_lsn && position.ordinal < partial.next_ordinal
        };
        let is_recorded = position.final_lsn < at.resume_lsn || at.partial.as_ref().is_some_and(is_inside);
        self.delivered.contains(&id) && !is_recorded
    }

    pub(crate) fn durable(&self) -> Option<Position> {
        self.durable
    }

    fn find(&self, record: &Record) -> Result<(Row, EventPosition), String> {
        let id = record.headers.get(header::ID).and_then(|id| str::from_utf8(id).ok());
        let id = id.and_then(|id| id.strip_prefix('e')?.parse::<u64>().ok());
        let row = id.and_then(|id| self.committed.get(&id)).copied();
        row.ok_or_else(|| format!("{:?} in {} was never committed", record.position, record.topic))
    }

    fn event(&mut self, record: &Record) -> Result<(), String> {
        let (row, position) = self.find(record)?;
        let name = format!("event e{} at {position}", row.id);
        if record.position != position {
            return Err(format!("{name} was published as {}", record.position));
        }
        if record.headers.get(header::POSITION) != Some(position.to_string().as_bytes()) {
            return Err(format!("{name} has another position in its header"));
        }
        if record.value.as_deref() != Some(row.payload().as_bytes()) {
            return Err(format!("{name} was published with another payload"));
        }
        if row.key.map(|key| format!("k{key}").into_bytes()).as_deref() != Some(&*record.key) {
            return Err(format!("{name} was published with another key"));
        }
        match self.fates.insert(row.id, Fate::Published) {
            None | Some(Fate::Parked) => Ok(()),
            Some(Fate::Published) if self.may_repeat(row.id, position) => Ok(()),
            Some(fate) => Err(format!("{name} was published although it was {fate:?} already")),
        }
    }

    fn dead_letter(&mut self, record: &Record) -> Result<(), String> {
        let (row, position) = self.find(record)?;
        if row.key.is_some() {
            return Ok(());
        }
        match self.fates.insert(row.id, Fate::Dead) {
            None => Ok(()),
            Some(Fate::Dead) if self.may_repeat(row.id, position) => Ok(()),
            Some(fate) => Err(format!("e{} at {position} became a dead letter after {fate:?}", row.id)),
        }
    }

    fn parked(&mut self, record: &Record) -> Result<(), String> {
        let position = record.position;
        let place = (position.final_lsn.as_u64(), position.ordinal);
        let id = *self.by_position.get(&place).ok_or_else(|| format!("nothing is at {position}"))?;
        let fate = self.fates.get(&id).copied();
        let next = match (record.value.is_some(), fate) {
            (true, None | Some(Fate::Parked)) => Fate::Parked,
            (false, Some(Fate::Published)) => Fate::Published,
            (false, Some(Fate::Parked)) if self.discards.contains(&place) => Fate::Discarded,
            (is_value, fate) => {
                let what = if is_value { "parked" } else { "released" };
                return Err(format!("e{id} at {position} was {what} although it was {fate:?}"));
            }
        };
        self.was_anything_parked = true;
        self.fates.insert(id, next);
        Ok(())
    }

    /// The slot is being told that everything before `flush` is safe.
    pub(crate) fn acknowledge(&mut self, flush: u64, log: &[Entry]) -> Result<(), String> {
        let durable = self.durable.map_or(0, |position| position.resume_lsn.as_u64());
        if flush > durable {
            return Err(format!("{flush:X} was acknowledged, and the durable position is {durable:X}"));
        }
        while let Some(entry) = log.get(self.settled).filter(|entry| entry.end <= flush) {
            self.is_settled(entry).map_err(|lost| format!("{flush:X} was acknowledged, but {lost}"))?;
            self.settled += 1;
        }
        Ok(())
    }

    fn is_settled(&self, entry: &Entry) -> Result<(), String> {
        for (ordinal, change) in entry.changes.as_deref().unwrap_or_default().iter().enumerate() {
            if let Change::Outbox(row) = change
                && !self.fates.contains_key(&row.id)
            {
                return Err(format!("e{} at {:X}/{ordinal} is not in Kafka", row.id, entry.lsn));
            }
        }
        Ok(())
    }

    /// After healing: everything is there and in order, what is there again aside.
    pub(crate) fn finish(&self, log: &[Entry], kafka: &Kafka) -> Result<(), String> {
        for entry in log {
            self.is_settled(entry)?;
        }
        let parked = self.fates.iter().find(|(_, fate)| **fate == Fate::Parked);
        if let Some((id, _)) = parked {
            return Err(format!("e{id} is still parked"));
        }
        for (name, records) in kafka.event_logs() {
            let mut last = BTreeMap::new();
            let mut seen = BTreeSet::new();
            for record in records.filter(|record| seen.insert(record.position)) {
                // A released key may come later than others of its partition.
                let key = if self.was_anything_parked { record.key.clone() } else { bytes::Bytes::new() };
                if let Some(before) = last.insert(key, record.position)
                    && before >= record.position
                {
                    return Err(format!("{} follows {before} in {name}", record.position));
                }
            }
        }
        Ok(())
    }
}

fn rank(position: &Position) -> (u64, u64, u64) {
    let partial = position.partial;
    (
        position.resume_lsn.as_u64(),
        partial.map_or(0, |partial| partial.final_lsn.as_u64()),
        partial.map_or(0, |partial| partial.next_ordinal),
    )
}
