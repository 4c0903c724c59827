//! The position: up to where a source's events are durably in Kafka, how it is recorded there, and whether it fits the
//! slot that Postgres keeps.
//!
//! ```text
//!   WAL  ──────┬───────────────┬──────────────────────┬──────────▶
//!              confirmed_flush ≤ resume_lsn            wal_end
//!              (slot)            (position record)
//! ```
//!
//! Pure: reading and writing the record is the sink's business, asking Postgres is the source's.

use replication_protocol::Lsn;
use serde::{Deserialize, Serialize};

use crate::planted::{self, Bug};

/// Everything before `resume_lsn` is in Kafka, and the first frames of the transaction in `partial`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The end of the last complete commit, or a `wal_end` heard while nothing was pending.
    #[serde(with = "lsn_text")]
    pub resume_lsn: Lsn,
    /// How far a transaction too large for one batch has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<Partial>,
}

impl Position {
    /// The position at the end of a commit.
    pub const fn at(resume_lsn: Lsn) -> Self {
        Self { resume_lsn, partial: None }
    }

    /// How many leading frames of the transaction with this `final_lsn` are already in Kafka.
    pub fn covered(&self, final_lsn: Lsn) -> Covered {
        let is_at = final_lsn == self.resume_lsn && planted::is(Bug::CoveredInclusive);
        if final_lsn < self.resume_lsn || is_at {
            return Covered::Whole;
        }
        match self.partial {
            Some(partial) if partial.final_lsn == final_lsn => Covered::Frames(partial.next_ordinal),
            _ => Covered::Frames(0),
        }
    }
}

/// What of a transaction is already in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covered {
    /// All of it.
    Whole,
    /// The first n frames.
    Frames(u64),
}

/// A transaction of which only the first frames are in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// BEGIN's `final_lsn`: with an ordinal it is the identity of an event.
    #[serde(with = "lsn_text")]
    pub final_lsn: Lsn,
    /// The ordinal of the first frame that is not in Kafka yet.
    pub next_ordinal: u64,
}

/// The record in `tailrace.position.SOURCE`; the last committed one counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionRecord {
    /// The source's configured name; also the record's key.
    pub source: String,
    /// `IDENTIFY_SYSTEM`'s system id.
    pub system_id: String,
    /// `IDENTIFY_SYSTEM`'s timeline.
    pub timeline: u32,
    /// The slot's name.
    pub slot: String,
    /// The position; `None` in a birth record, which says that the slot is about to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// How many times a relay has started on this source.
    pub epoch: u64,
    /// What decides how frames are counted.
    pub options: StreamOptions,
}

/// The options of the stream that change which frames there are, and so the ordinals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOptions {
    /// Whether logical messages are streamed.
    pub messages: bool,
}

/// Which database cluster answers, and along which history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The system id.
    pub system_id: String,
    /// The timeline.
    pub timeline: u32,
}

/// Compares the record with what the server says, after START_REPLICATION.
///
/// # Errors
/// Every difference that could mean lost or repeated events: the source stops, with both facts.
pub fn prove(
    record: Option<&PositionRecord>,
    identity: &Identity,
    slot: &str,
    confirmed_flush: Lsn,
    options: StreamOptions,
) -> Result<Position, Mismatch> {
    let record = record.ok_or_else(|| Mismatch::NoRecord { slot: slot.to_owned(), confirmed_flush })?;
    let position = record.position.ok_or_else(|| Mismatch::Unborn { slot: slot.to_owned() })?;
    if record.system_id != identity.system_id && !planted::is(Bug::SystemUnseen) {
        return Err(Mismatch::System {
            recorded: record.system_id.clone(),
            found: identity.system_id.clone(),
        });
    }
    if record.timeline != identity.timeline && !planted::is(Bug::TimelineUnseen) {
        return Err(Mismatch::Timeline { recorded: record.timeline, found: identity.timeline });
    }
    if record.slot != slot {
        return Err(Mismatch::Slot { recorded: record.slot.clone(), found: slot.to_owned() });
    }
    if confirmed_flush > position.resume_lsn && !planted::is(Bug::SlotAheadUnseen) {
        return Err(Mismatch::SlotAhead { from: position.resume_lsn, to: confirmed_flush });
    }
    if position.partial.is_some() && record.options != options {
        return Err(Mismatch::Options);
    }
    if planted::is(Bug::ResumeFromSlot) {
        return Ok(Position::at(confirmed_flush));
    }
    Ok(position)
}

/// Why record and slot do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A slot, but no record.
    #[error(
        "slot {slot} exists (confirmed {confirmed_flush}) but the position topic holds no record of it: it is not known \
         which events are in Kafka; if this is a first start, drop the slot and run `cdc-relay init`"
    )]
    NoRecord {
        /// The slot.
        slot: String,
        /// What it has confirmed.
        confirmed_flush: Lsn,
    },
    /// `init` was interrupted.
    #[error("the making of slot {slot} was interrupted: run `cdc-relay init` again")]
    Unborn {
        /// The slot.
        slot: String,
    },
    /// Another cluster.
    #[error("the position belongs to database system {recorded}, but the server is system {found}")]
    System {
        /// As recorded.
        recorded: String,
        /// As found.
        found: String,
    },
    /// Another history of the same cluster.
    #[error(
        "the position belongs to timeline {recorded}, but the server is on timeline {found}: a standby was promoted or \
         a backup restored, and events may differ"
    )]
    Timeline {
        /// As recorded.
        recorded: u32,
        /// As found.
        found: u32,
    },
    /// Another slot.
    #[error("the position belongs to slot {recorded}, but the source is configured with slot {found}")]
    Slot {
        /// As recorded.
        recorded: String,
        /// As found.
        found: String,
    },
    /// The slot moved without us.
    #[error("the slot went forward without the relay: events between {from} and {to} are not in Kafka")]
    SlotAhead {
        /// Our position.
        from: Lsn,
        /// The slot's.
        to: Lsn,
    },
    /// Counting would differ inside a half-published transaction.
    #[error(
        "the stream options changed while a large transaction is half published: restore them until it is through"
    )]
    Options,
}

/// An LSN as text, `0/16B3748`, as Postgres prints it.
mod lsn_text {
    use replication_protocol::Lsn;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(lsn: &Lsn, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(lsn)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Lsn, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(position: Option<Position>) -> PositionRecord {
        PositionRecord {
            source: "users".into(),
            system_id: "7".into(),
            timeline: 1,
            slot: "tailrace_users".into(),
            position,
            epoch: 3,
            options: StreamOptions::default(),
        }
    }

    fn at(lsn: u64) -> Position {
        Position::at(Lsn::new(lsn))
    }

    #[track_caller]
    fn check(record: Option<PositionRecord>, confirmed: u64, expected: Result<Position, &str>) {
        let identity = Identity { system_id: "7".into(), timeline: 1 };
        let found = prove(
            record.as_ref(),
            &identity,
            "tailrace_users",
            Lsn::new(confirmed),
            StreamOptions::default(),
        );
        match expected {
            Ok(position) => assert_eq!(found, Ok(position)),
            Err(words) => {
                let error = found.expect_err("the facts do not fit").to_string();
                assert!(error.contains(words), "{error:?} does not say {words:?}");
            }
        }
    }

    #[test]
    fn a_slot_at_or_behind_the_position_is_safe_and_one_ahead_is_a_gap() {
        check(Some(record(Some(at(100)))), 100, Ok(at(100)));
        check(Some(record(Some(at(100)))), 40, Ok(at(100)));
        check(Some(record(Some(at(100)))), 101, Err("between 0/64 and 0/65"));
    }

    #[test]
    fn a_slot_without_a_record_stops() {
        check(None, 100, Err("no record"));
        check(Some(record(None)), 100, Err("init"));
    }

    #[test]
    fn another_system_timeline_or_slot_stops() {
        check(Some(PositionRecord { system_id: "8".into(), ..record(Some(at(1))) }), 1, Err("system 8"));
        check(Some(PositionRecord { timeline: 2, ..record(Some(at(1))) }), 1, Err("timeline 2"));
        check(Some(PositionRecord { slot: "other".into(), ..record(Some(at(1))) }), 1, Err("slot other"));
    }

    #[test]
    fn changed_options_stop_only_inside_a_half_published_transaction() {
        let options = StreamOptions { messages: true };
        let partial =
            Position { partial: Some(Partial { final_lsn: Lsn::new(120), next_ordinal: 5 }), ..at(100) };
        check(Some(PositionRecord { options, ..record(Some(at(100))) }), 100, Ok(at(100)));
        check(Some(PositionRecord { options, ..record(Some(partial)) }), 100, Err("options changed"));
    }

    #[test]
    fn a_transaction_is_covered_iff_its_commit_began_before_the_position() {
        let partial =
            Position { partial: Some(Partial { final_lsn: Lsn::new(120), next_ordinal: 5 }), ..at(100) };
        for (position, final_lsn, expected) in [
            (at(100), 99, Covered::Whole),
            (at(100), 100, Covered::Frames(0)),
            (partial, 120, Covered::Frames(5)),
            (partial, 121, Covered::Frames(0)),
        ] {
            assert_eq!(position.covered(Lsn::new(final_lsn)), expected, "{position:?} {final_lsn}");
        }
    }

    #[test]
    fn the_record_reads_as_it_was_written() {
        let partial = Partial { final_lsn: Lsn::new(0x1_0000_0120), next_ordinal: 5 };
        for record in [
            record(None),
            record(Some(at(100))),
            record(Some(Position { partial: Some(partial), ..at(0x1_0000_0100) })),
        ] {
            let text = serde_json::to_string(&record).expect("a record is JSON");
            assert_eq!(
                serde_json::from_str::<PositionRecord>(&text).expect("what was written"),
                record,
                "{text}"
            );
        }
    }
}
