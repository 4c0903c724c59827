//! What the engine does with keys that are parked: parks them on a broker's refusal, and releases them.

use super::{Batch, Engine, EngineError};
use crate::dead_letter::Refusal;
use crate::parking::{ParkingKey, Waiting};
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::release::{Action, Release, Released};
use crate::transaction::EventPosition;

impl Engine {
    /// Asks for the release of the key that is held by the event at this position. One at a time; the answer is a command.
    pub fn release(&mut self, position: EventPosition, action: Action) {
        self.release = Release::begin(&self.parking, position, action);
        if self.release.is_none() {
            self.answer = Some(Released::NotFound);
        }
    }

    /// Takes the parked events that were asked for.
    pub fn handle_parked(&mut self, piece: Vec<Waiting>) {
        if let Some(release) = &mut self.release {
            release.loaded(piece);
        }
    }

    /// The batch with dead letters for what the broker refuses. From there on the keys are parked, in what waits as well.
    pub(super) fn without_refused(
        &mut self,
        batch: &Batch,
        indexes: &[usize],
        message: &str,
    ) -> Result<Batch, EngineError> {
        let mut records = Vec::with_capacity(batch.records.len() + indexes.len());
        for (index, record) in batch.records.iter().cloned().enumerate() {
            let is_refused = indexes.contains(&index);
            if is_refused && planted::is(Bug::RefusedDropped) {
                continue;
            }
            let routed = if !is_refused {
                Ok(record)
            } else if self.is_event(&record) {
                Err(self.router.refuse(record, message))
            } else {
                let parked = Some(&record).filter(|record| self.parking.is_parked(record));
                let smaller = parked.and_then(|record| self.parking.smaller(record));
                records.push(smaller.ok_or_else(|| EngineError::DeadLetterRefused(message.to_owned()))?);
                continue;
            };
            self.admit(routed, &mut records)?;
        }
        let mut building = std::mem::take(&mut self.building);
        building.rewrite(|record, to| self.admit(Ok(record), to))?;
        self.building = building;
        Ok(Batch { records, ..batch.clone() })
    }

    /// Takes a record that was made before: an event may have to be parked now, all else stays what it is.
    fn admit(&mut self, routed: Result<Record, Refusal>, to: &mut Vec<Record>) -> Result<(), EngineError> {
        match routed {
            Ok(record) if !self.is_event(&record) => to.push(record),
            routed => self.parking.admit(routed, &self.router.dead_letters, |record| to.push(record))?,
        }
        Ok(())
    }

    /// Whether a record is neither a dead letter nor the parked form of an event.
    fn is_event(&self, record: &Record) -> bool {
        !self.router.is_dead_letter(record) && !self.parking.is_parked(record)
    }

    /// The key whose next piece is to be read, if any of it is in the topic already.
    pub(super) fn piece_to_read(&mut self) -> Option<ParkingKey> {
        let release = self.release.as_mut().filter(|release| release.is_wanting())?;
        let parked = self.parking.get(release.key())?.events;
        let here = self.building.records().iter();
        let here = here.filter(|record| self.parking.is_parked_of(release.key(), record)).count();
        (parked > here as u64).then(|| release.read())
    }

    /// The next piece of the release under way, if it is there. It carries the position, so that must be recorded first.
    pub(super) fn release_batch(&mut self) -> Option<Batch> {
        if !self.is_recorded() {
            return None;
        }
        match self.release.as_mut()?.publish(&self.parking, &self.router)? {
            Ok(records) => Some(Batch::new(records, self.durable)),
            Err(end) => {
                self.end_release(end);
                None
            }
        }
    }

    pub(super) fn release_committed(&mut self) -> Result<(), EngineError> {
        let Some(release) = &mut self.release else { return Ok(()) };
        match release.committed(&mut self.parking) {
            Some(end) => self.end_release(end),
            None => self.free_what_waits()?,
        }
        Ok(())
    }

    pub(super) fn release_refused(
        &mut self,
        batch: &Batch,
        indexes: &[usize],
        message: &str,
    ) -> Result<(), EngineError> {
        let refused =
            indexes.iter().filter_map(|index| batch.records.get(*index)).min_by_key(|record| record.position);
        let refused = refused.filter(|record| self.is_event(record));
        let refused = refused.ok_or_else(|| EngineError::DeadLetterRefused(message.to_owned()))?;
        if let Some(release) = &mut self.release {
            release.refused(refused.position, message);
        }
        Ok(())
    }

    /// Ends a release once nothing of its key is left but here: that becomes events again where it stands. Otherwise
    /// a key that is written to without pause would never be free.
    fn free_what_waits(&mut self) -> Result<(), EngineError> {
        let Some(key) = self.release.as_ref().map(|release| release.key().clone()) else { return Ok(()) };
        let is_of_key = |record: &&Record| self.parking.is_parked_of(&key, record);
        let waiting: Vec<_> = self.building.records().iter().filter(is_of_key).collect();
        let is_all = self.parking.get(&key).is_some_and(|parked| parked.events == waiting.len() as u64);
        if !is_all || waiting.iter().any(|record| self.parking.unpark(record).is_none()) {
            return Ok(());
        }
        self.parking.free(&key);
        let mut building = std::mem::take(&mut self.building);
        building.rewrite(|record, to| {
            let event = Some(&record).filter(|record| self.parking.is_parked_of(&key, record));
            match event.and_then(|record| self.parking.unpark(record)) {
                Some(waiting) => self.admit(self.router.route_again(waiting), to),
                None => {
                    to.push(record);
                    Ok(())
                }
            }
        })?;
        self.building = building;
        if let Some(release) = self.release.take() {
            self.answer = Some(release.done(&self.parking));
        }
        Ok(())
    }

    fn end_release(&mut self, end: Released) {
        self.release = None;
        self.answer = Some(end);
    }
}
