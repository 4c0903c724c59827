//! A release: a parked key becomes free again, event by event, in order.
//!
//! ```text
//!   ask ─▶ load a piece ─▶ publish it with its tombstones ─▶ more? ─▶ load …
//!               │                                              └─▶ free, or held by the next that cannot be published
//!               └─▶ the head still cannot be published: nothing changes
//! ```
//!
//! Each piece is one Kafka transaction, so a crash leaves the key parked from where the release had come. Events that
//! arrive meanwhile are parked behind the others.

use crate::parking::{Head, ParkedKey, Parking, ParkingKey, Waiting};
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::router::Router;
use crate::transaction::EventPosition;

/// What is to become of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is tried again.
    Redrive,
    /// It is given up.
    Discard,
}

/// How a release ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// The head, or all that was parked, is through.
    Done {
        /// How many events were published.
        published: u64,
        /// What holds the key now, if anything does.
        next: Option<ParkedKey>,
    },
    /// The head still cannot be published; nothing has changed.
    StillRefused(String),
    /// No key is held by such an event.
    NotFound,
}

/// The release under way.
#[derive(Debug)]
pub(crate) struct Release {
    key: ParkingKey,
    /// What becomes of the head; `None` once it is through.
    action: Option<Action>,
    published: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The next piece must be read.
    Wanted,
    /// It is being read.
    Loading,
    /// It is there; the event at this position is known to be refused by the broker.
    Loaded(Vec<Waiting>, Option<(EventPosition, String)>),
    /// It is being published.
    InFlight(Vec<Waiting>, Tally),
}

/// What a piece changes once it is committed.
#[derive(Clone, Debug, Default)]
struct Tally {
    gone: u64,
    published: u64,
    next: Option<Head>,
}

impl Release {
    /// Begins with the key that is held by the event at this position.
    pub(crate) fn begin(parking: &Parking, position: EventPosition, action: Action) -> Option<Self> {
        let (key, _) = parking.held_by(position)?;
        Some(Self { key: key.clone(), action: Some(action), published: 0, stage: Stage::Wanted })
    }

    /// Whether the next piece must be read.
    pub(crate) fn is_wanting(&self) -> bool {
        matches!(self.stage, Stage::Wanted)
    }

    /// Whether a piece is there to be published.
    pub(crate) fn is_loaded(&self) -> bool {
        matches!(self.stage, Stage::Loaded(..))
    }

    /// Notes that it is being read, and tells of which key.
    pub(crate) fn read(&mut self) -> ParkingKey {
        self.stage = Stage::Loading;
        self.key.clone()
    }

    /// Takes the next piece: the first events of the key, in order.
    pub(crate) fn loaded(&mut self, piece: Vec<Waiting>) {
        self.stage = Stage::Loaded(piece, None);
    }

    /// The records to publish, once a piece is there.
    pub(crate) fn publish(
        &mut self,
        parking: &Parking,
        router: &Router,
    ) -> Option<Result<Vec<Record>, Released>> {
        let Stage::Loaded(piece, refused) = &mut self.stage else { return None };
        let (piece, refused) = (std::mem::take(piece), refused.take());
        match self.build(&piece, refused.as_ref(), parking, router) {
            // Nothing of the key is in the topic yet: it is still on its way there.
            Ok((records, _)) if records.is_empty() => {
                self.stage = Stage::Wanted;
                None
            }
            Ok((records, tally)) => {
                self.stage = Stage::InFlight(piece, tally);
                Some(Ok(records))
            }
            Err(words) => Some(Err(Released::StillRefused(words))),
        }
    }

    fn build(
        &self,
        piece: &[Waiting],
        refused: Option<&(EventPosition, String)>,
        parking: &Parking,
        router: &Router,
    ) -> Result<(Vec<Record>, Tally), String> {
        let mut records = Vec::with_capacity(piece.len() * 2);
        let mut tally = Tally::default();
        for (index, waiting) in piece.iter().enumerate() {
            let action = self.action.filter(|_| index == 0);
            let tombstone = parking.tombstone(&self.key, &waiting.record);
            if action == Some(Action::Discard) {
                records.push(tombstone);
                tally.gone += 1;
                continue;
            }
            let mut routed = router.route_again(waiting.clone());
            if let (Ok(record), Some((position, message))) = (&routed, refused)
                && record.position == *position
            {
                routed = Err(router.refuse(record.clone(), message));
            }
            match routed {
                Ok(record) => {
                    records.push(record);
                    if !planted::is(Bug::TombstoneForgotten) {
                        records.push(tombstone);
                    }
                    tally.gone += 1;
                    tally.published += 1;
                }
                Err(refusal) if action.is_some() => return Err(refusal.message),
                Err(refusal) => {
                    records.push(refusal.dead_letter(&router.dead_letters));
                    records.push(parking.parked_again(&self.key, waiting, &refusal));
                    tally.next = Some(Head::of(&refusal));
                    break;
                }
            }
        }
        Ok((records, tally))
    }

    /// Takes note that the piece is in Kafka. Returns the end of the release, unless more is to be read.
    pub(crate) fn committed(&mut self, parking: &mut Parking) -> Option<Released> {
        let Stage::InFlight(_, tally) = std::mem::replace(&mut self.stage, Stage::Wanted) else {
            return None;
        };
        self.action = None;
        self.published += tally.published;
        let is_stopped = tally.next.is_some();
        parking.released(&self.key, tally.gone, tally.next);
        (is_stopped || parking.get(&self.key).is_none()).then(|| self.done(parking))
    }

    /// Takes note that the broker refuses one of the piece's records.
    pub(crate) fn refused(&mut self, position: EventPosition, message: &str) {
        if let Stage::InFlight(piece, _) = &mut self.stage {
            self.stage = Stage::Loaded(std::mem::take(piece), Some((position, message.to_owned())));
        }
    }

    /// The key that is being released.
    pub(crate) fn key(&self) -> &ParkingKey {
        &self.key
    }

    /// The end, as it stands now.
    pub(crate) fn done(&self, parking: &Parking) -> Released {
        Released::Done { published: self.published, next: parking.get(&self.key).cloned() }
    }
}
