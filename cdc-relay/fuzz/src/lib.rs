//! Every parser of the relay, as something that takes bytes and must not panic; and what is read twice must be the same.
//!
//! `cargo xtask fuzz` searches for bytes that break one of them. The unit test takes the ones that are kept in `corpus/`.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use cdc_relay::EventPosition;
use cdc_relay::config::Config;
use cdc_relay::dead_letter::DeadLetterContext;
use cdc_relay::engine::{Command, Engine, EngineSettings, Now, Table};
use cdc_relay::headers::Arena;
use cdc_relay::parking::{Parking, Scan, Waiting};
use cdc_relay::position::{Position, PositionRecord};
use cdc_relay::record::{HeaderSet, Outcome};
use cdc_relay::router::{Origin, Route, Router, rfc3339};
use cdc_relay::row::{ColumnNames, OutboxRow};
use cdc_relay::source::read_as_every_frame;
use replication_protocol::pgoutput::{Message, Tuple};
use replication_protocol::{CopyData, Lsn, frame};
use tailrace::event::v1::DeadLetter;

/// Something that reads bytes from outside.
#[derive(Debug)]
pub struct Target {
    /// Its name, which is also that of its folder in `corpus/`.
    pub name: &'static str,
    /// Reads.
    pub take: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "frame", take: frames },
    Target { name: "copy-data", take: copy_data },
    Target { name: "pgoutput", take: pgoutput },
    Target { name: "server", take: |data| read_as_every_frame(&Bytes::copy_from_slice(data)) },
    Target { name: "engine", take: engine },
    Target { name: "headers", take: headers },
    Target { name: "lsn", take: lsn },
    Target { name: "position", take: position },
    Target { name: "parked", take: parked },
    Target { name: "dead-letter", take: dead_letter },
    Target { name: "config", take: config },
    Target { name: "url", take: url },
];

const FRAME_BYTES_MAX: usize = 1 << 20;

fn frames(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    let mut left = buffer.len();
    while let Ok(Some(frame)) = frame::split(&mut buffer, FRAME_BYTES_MAX) {
        assert!(buffer.len() < left && frame.body.len() < left, "a frame is cut off");
        left = buffer.len();
    }
}

fn copy_data(data: &[u8]) {
    if let Ok(CopyData::XLogData(piece)) = CopyData::parse(Bytes::copy_from_slice(data)) {
        pgoutput(&piece.data);
    }
}

fn pgoutput(data: &[u8]) {
    match Message::parse(Bytes::copy_from_slice(data)) {
        Ok(Message::Insert(insert)) => columns(&insert.new),
        Ok(Message::Update(update)) => columns(&update.new),
        Ok(
            Message::Begin(_)
            | Message::Commit(_)
            | Message::Origin(_)
            | Message::Relation(_)
            | Message::Type(_)
            | Message::Delete(_)
            | Message::Truncate(_)
            | Message::Message(_)
            | Message::Unknown(_),
        )
        | Err(_) => {}
    }
}

fn columns(tuple: &Tuple) {
    assert_eq!(tuple.columns().count(), tuple.len());
}

fn router() -> Router {
    Router {
        routes: vec![
            Route::new("a.*", "{event_name}").with_headers(HeaderSet::Debezium),
            Route::new("*", "{aggregate_type}"),
        ],
        record_bytes_max: 10_000,
        dead_letters: DeadLetterContext::new("users", "public.outbox", "dead-letter"),
    }
}

/// A stream of frames, each behind two bytes of length.
fn engine(data: &[u8]) {
    let settings = EngineSettings {
        buffer_bytes_max: 4_096,
        status_interval: std::time::Duration::from_secs(10),
        status_interval_min: std::time::Duration::ZERO,
        idle_position_interval: std::time::Duration::ZERO,
        silence_max: std::time::Duration::from_secs(60),
        catch_up_lag: std::time::Duration::from_millis(250),
        catch_up_interval: std::time::Duration::from_millis(50),
    };
    let table = Table { schema: "public".into(), name: "outbox".into() };
    let now = Now { monotonic: Instant::now(), unix_us: 1_700_000_000_000_000 };
    let parking = Parking::new("tailrace.parked.users", 10_000, 4);
    let start = Position::at(Lsn::new(1));
    let mut engine = Engine::new(settings, router(), table, ColumnNames::default(), start, parking, now);
    let mut rest = data;
    while let Some(([high, low], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (body, after) = after.split_at(length);
        rest = after;
        if engine.handle_copy_data(now, Bytes::copy_from_slice(body)).is_err() {
            return;
        }
        while let Some(command) = engine.poll_command(now) {
            let outcome = match command {
                Command::Publish(_) => Outcome::Committed,
                Command::Record(_) => Outcome::Recorded,
                Command::SendStatus(_) | Command::ReadParked(_) | Command::AnswerRelease(_) => continue,
            };
            engine.handle_outcome(now, outcome).expect("everything is committed");
        }
    }
}

/// The column of further headers, and a payload beside it.
fn headers(data: &[u8]) {
    let unix_us = 1_700_000_000_000_000;
    let origin = Origin {
        position: EventPosition { final_lsn: Lsn::new(7), ordinal: 0 },
        committed_at: &cdc_relay::CommitTime { unix_us, text: rfc3339(unix_us).into() },
        decoded_at_ms: 1,
    };
    let row = OutboxRow {
        id: "1".into(),
        aggregate_type: "things".into(),
        aggregate_id: "1".into(),
        event_type: "a.b".into(),
        headers: Some(Bytes::copy_from_slice(data)),
        ..OutboxRow::default()
    };
    let routed = router().route(row, &origin, &mut Arena::default());
    let record = routed.unwrap_or_else(|refusal| *refusal.record);
    assert!(record.headers.get("ce_id") == Some(b"1"), "nothing overwrites the relay's own headers");
    assert!(record.sent_headers().filter(|(name, _)| *name == "id").count() <= 1);
}

fn lsn(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(lsn) = text.parse::<Lsn>() {
        assert_eq!(lsn.to_string().parse(), Ok(lsn));
    }
    if let Ok(position) = text.parse::<EventPosition>() {
        assert_eq!(position.to_string().parse(), Ok(position));
    }
}

fn position(data: &[u8]) {
    let Ok(record) = serde_json::from_slice::<PositionRecord>(data) else { return };
    let written = serde_json::to_vec(&record).expect("a position record is representable as JSON");
    assert_eq!(serde_json::from_slice::<PositionRecord>(&written).ok(), Some(record));
}

/// Key and value of a record in the topic of parked events; the first byte is the key's length.
fn parked(data: &[u8]) {
    let Some((length, rest)) = data.split_first() else { return };
    let (key, value) = rest.split_at(usize::from(*length).min(rest.len()));
    let mut scan = Scan::default();
    scan.take(key, Some(value));
    let parking = Parking::new("tailrace.parked.users", 10_000, 4).with(scan);
    if let Some(waiting) = Waiting::parse(key, value) {
        assert_eq!(parking.len(), 1);
        let _ = router().route_again(waiting);
    }
}

fn dead_letter(data: &[u8]) {
    let Ok(letter) = serde_json::from_slice::<DeadLetter>(data) else { return };
    let Ok(written) = serde_json::to_vec(&letter) else { return };
    assert_eq!(serde_json::from_slice::<DeadLetter>(&written).ok(), Some(letter));
}

fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    // Those name files, which would be read.
    if !text.contains("_file") {
        check_config(text);
    }
}

fn url(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let text = serde_json::to_string(text).expect("a string is representable as JSON");
    // JSON's strings are TOML's, but for a character that TOML does not take.
    if !text.contains('\u{7f}') {
        check_config(&format!(
            "[kafka]\nbootstrap_servers = \"a:1\"\n[[source]]\nname = \"a\"\nurl = {text}\nslot = \"a\"\n\
             publication = \"a\"\n[[route]]\nevent_type = \"*\"\ntopic = \"a\"\n"
        ));
    }
}

fn check_config(text: &str) {
    if let Err(error) = Config::parse(text, |name| Some(name.to_owned())) {
        let words = error.to_string();
        assert!(!words.contains('\n'), "{words:?} is more than one line");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_kept_is_taken() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        let named: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        let folders =
            fs::read_dir(&corpus).expect("the corpus").map(|entry| entry.expect("a folder").file_name());
        assert_eq!(folders.map(|name| name.into_string().expect("text")).collect::<BTreeSet<_>>(), named);
        for target in TARGETS {
            let files = fs::read_dir(corpus.join(target.name)).expect("its folder");
            let taken =
                files.map(|file| (target.take)(&fs::read(file.expect("a file").path()).expect("its bytes")));
            assert!(taken.count() > 0, "{} has no corpus", target.name);
        }
    }
}
