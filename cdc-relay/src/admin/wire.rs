//! What the relay knows, as the contract says it.

use tailrace::relay::v1::{DeadLetter, ReplicationSlot, Source, source};

use crate::board::{Board, Slot, State};
use crate::clock;
use crate::config::is_source_name;
use crate::dead_letter::timestamp;
use crate::parking::ParkedKey;
use crate::transaction::EventPosition;

/// The name of the dead letter at a position.
pub(super) fn dead_letter_name(source: &str, position: EventPosition) -> String {
    format!("sources/{source}/deadLetters/{}", position.to_string().replace('/', "-"))
}

/// The source and the position in such a name, spelt as [`dead_letter_name`] spells it.
pub(super) fn parse_dead_letter_name(name: &str) -> Option<(&str, EventPosition)> {
    let (source, position) = name.strip_prefix("sources/")?.split_once("/deadLetters/")?;
    let is_spelt = |byte: u8| byte == b'-' || byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
    if !is_source_name(source) || !position.bytes().all(is_spelt) {
        return None;
    }
    Some((source, position.replace('-', "/").parse().ok()?))
}

pub(super) fn dead_letter(source: &str, parked: ParkedKey) -> DeadLetter {
    let head = parked.head;
    DeadLetter {
        name: dead_letter_name(source, head.position),
        reason: head.reason.into(),
        message: head.message,
        position: head.position.to_string(),
        event_id: head.event_id,
        event_type: head.event_type,
        subject: head.subject,
        commit_time: Some(timestamp(head.committed_at_us)),
        waiting_events: i64::try_from(parked.events.saturating_sub(1)).unwrap_or(i64::MAX),
    }
}

pub(super) fn source(board: &Board) -> Source {
    let status = board.status();
    let now_us = clock::now().unix_us;
    let progress = status.progress;
    let lag = status.lag(now_us);
    Source {
        name: format!("sources/{}", board.source()),
        state: state(status.state).into(),
        problem: status.problem.clone(),
        position: progress.map_or_else(String::new, |progress| progress.durable.to_string()),
        wal_end: status.wal_end().to_string(),
        lag_bytes: i64::try_from(status.lag_bytes()).unwrap_or(i64::MAX),
        lag: Some(lag.into()),
        oldest_unpublished_time: progress.and_then(|progress| progress.oldest_committed_at_us).map(timestamp),
        in_flight_events: progress.map_or(0, |progress| progress.in_flight_events as i64),
        published_events: i64::try_from(status.published_events()).unwrap_or(i64::MAX),
        dead_letters: i64::try_from(status.dead_letters()).unwrap_or(i64::MAX),
        parked_keys: progress.map_or(0, |progress| progress.parked_keys as i64),
        retries: i64::try_from(status.retries).unwrap_or(i64::MAX),
        slot: status.slot.as_ref().map(slot),
    }
}

fn state(state: State) -> source::State {
    match state {
        State::Starting => source::State::Starting,
        State::Streaming => source::State::Streaming,
        State::Standby => source::State::Standby,
        State::Waiting => source::State::Waiting,
        State::Halted => source::State::Halted,
    }
}

fn slot(slot: &Slot) -> ReplicationSlot {
    let row = &slot.row;
    let text = |lsn: Option<replication_protocol::Lsn>| lsn.map_or_else(String::new, |lsn| lsn.to_string());
    ReplicationSlot {
        slot_name: slot.name.clone(),
        active: row.active,
        wal_status: row.wal_status.clone().unwrap_or_default(),
        confirmed_flush_lsn: text(row.confirmed_flush_lsn),
        restart_lsn: text(row.restart_lsn),
        retained_bytes: row.restart_lsn.map_or(0, |restart| slot.wal_end.bytes_since(restart) as i64),
        safe_wal_bytes: row.safe_wal_size_bytes,
        publication_covers_outbox: slot.publication_covers_outbox(),
    }
}
