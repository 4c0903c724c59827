//! Dead letters: an event that cannot be published, with its reason, as a record for the dead-letter topic.
//!
//! A dead letter goes out in the same Kafka transaction and at the same place in the order as the event would have.

use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tailrace::event::v1::{self as event, DeadLetter, dead_letter::Reason};

use crate::headers::Headers;
use crate::record::{HeaderSet, Record, header};

/// The largest piece of a payload that a dead letter carries, in bytes; a redrive reads the row again.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// The largest piece of a header or key that a dead letter carries, in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// How many headers a dead letter carries at most.
const HEADERS_MAX: usize = 32;

/// What dead letters of a source say of their origin.
#[derive(Clone, Debug)]
pub struct DeadLetterContext {
    /// The topic they go to.
    pub topic: Arc<str>,
    /// The CloudEvents source of every record.
    pub ce_source: String,
    source: String,
    table: String,
}

impl DeadLetterContext {
    /// For a source, its outbox table (`schema.table`) and the topic of dead letters.
    pub fn new(source: &str, table: &str, topic: &str) -> Self {
        Self {
            topic: Arc::from(topic),
            ce_source: format!("/tailrace/sources/{source}"),
            source: format!("sources/{source}"),
            table: table.to_owned(),
        }
    }
}

/// An event that cannot be published, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The event as it would have been published.
    pub record: Box<Record>,
    /// Why it is not.
    pub reason: Reason,
    /// The reason in words.
    pub message: String,
}

impl Refusal {
    /// The record for the topic of dead letters.
    pub fn dead_letter(&self, context: &DeadLetterContext) -> Record {
        let record = &*self.record;
        let letter = letter(context, record, self.reason, &self.message);
        let value = serde_json::to_vec(&letter).expect("a dead letter is representable as JSON");
        let kept = record.headers.iter().filter(|(name, _)| *name != header::CONTENT_TYPE).take(HEADERS_MAX);
        let kept = kept.map(|(name, value)| (clip_text(name), clip(value)));
        let headers: Headers = kept.chain([(header::CONTENT_TYPE, &b"application/json"[..])]).collect();
        Record {
            topic: Arc::clone(&context.topic),
            key: record.key.slice(..record.key.len().min(TEXT_BYTES_MAX)),
            value: Some(value.into()),
            headers,
            header_set: HeaderSet::CloudEvents,
            ..*record
        }
    }
}

fn letter(context: &DeadLetterContext, record: &Record, reason: Reason, message: &str) -> DeadLetter {
    let text = |name| record.headers.get(name).map_or_else(String::new, clipped);
    let payload = record.value.clone().unwrap_or_default();
    let aggregate_id = clipped(&record.key);
    let subject = text(header::SUBJECT);
    DeadLetter {
        reason: reason.into(),
        message: message.to_owned(),
        source: context.source.clone(),
        table: context.table.clone(),
        position: text(header::POSITION),
        event_id: text(header::ID),
        event_type: text(header::TYPE),
        aggregate_type: subject.rsplit_once('/').map_or_else(String::new, |(name, _)| name.to_owned()),
        aggregate_id,
        topic: record.topic.to_string(),
        headers: record.headers.iter().take(HEADERS_MAX).map(wire_header).collect(),
        payload: payload.slice(..payload.len().min(PAYLOAD_BYTES_MAX)).to_vec(),
        payload_size: i64::try_from(payload.len()).unwrap_or(i64::MAX),
        payload_sha256: hex(&Sha256::digest(&payload)),
        commit_time: Some(timestamp(record.committed_at_us)),
    }
}

fn wire_header((name, value): (&str, &[u8])) -> event::Header {
    event::Header { name: clip_text(name).to_owned(), value: clip(value).to_vec() }
}

fn clip(bytes: &[u8]) -> &[u8] {
    bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes)
}

fn clip_text(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

/// Text of bounded length.
pub(crate) fn clipped(bytes: &[u8]) -> String {
    String::from_utf8_lossy(clip(bytes)).into_owned()
}

/// A time as the contract writes it.
pub(crate) fn timestamp(unix_us: i64) -> pbjson_types::Timestamp {
    let nanos = i32::try_from(unix_us.rem_euclid(1_000_000) * 1_000).expect("below one second");
    pbjson_types::Timestamp { seconds: unix_us.div_euclid(1_000_000), nanos }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use replication_protocol::Lsn;

    use super::*;
    use crate::transaction::EventPosition;

    #[test]
    fn a_huge_event_makes_a_small_dead_letter_that_identifies_it() {
        let payload = vec![b'x'; 5_000_000];
        let whole = Record {
            topic: "users.created".into(),
            key: vec![b'k'; 100_000].into(),
            value: Some(payload.into()),
            headers: [(header::SUBJECT, &b"users/1"[..]), ("x-huge", &[b'h'; 2_000_000])]
                .into_iter()
                .collect(),
            header_set: HeaderSet::Minimal,
            position: EventPosition { final_lsn: Lsn::new(1), ordinal: 0 },
            decoded_at_ms: 5,
            committed_at_us: 1_500_000,
        };
        let context = DeadLetterContext::new("users", "public.outbox", "dead-letter");
        let refusal =
            Refusal { record: Box::new(whole), reason: Reason::TooLarge, message: "too large".into() };
        let dead = refusal.dead_letter(&context);
        assert!(dead.wire_size() < 200_000, "{} bytes", dead.wire_size());
        let letter: DeadLetter =
            serde_json::from_slice(dead.value.as_ref().expect("a value")).expect("a dead letter");
        assert_eq!(letter.payload_size, 5_000_000);
        assert_eq!(letter.payload.len(), PAYLOAD_BYTES_MAX);
        assert_eq!(letter.payload_sha256, hex(&Sha256::digest(vec![b'x'; 5_000_000])));
        assert_eq!(letter.aggregate_type, "users");
        assert_eq!(letter.commit_time, Some(pbjson_types::Timestamp { seconds: 1, nanos: 500_000_000 }));
    }
}
