//! Routing: an outbox row becomes a record for a topic, or a dead letter with its reason.
//!
//! Size, key and topic are checked here, before the producer sees a record, because a producer that refuses one record
//! in the middle of a key would let later ones pass.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use tailrace::event::v1::dead_letter::Reason;

use crate::dead_letter::{self, DeadLetterContext};
use crate::headers::{Arena, Headers, HeadersWriter};
use crate::record::{Record, header};
use crate::row::OutboxRow;
use crate::transaction::{CommitTime, EventPosition};

/// Where an event came from, and when.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// The event's identity.
    pub position: EventPosition,
    /// When its transaction was committed.
    pub committed_at: &'a CommitTime,
    /// When the relay decoded it, in milliseconds since 1970.
    pub decoded_at_ms: i64,
}

/// One rule: which events go to which topic. The first that matches counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    event_type: String,
    topic: Topic,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Topic {
    Fixed(Arc<str>),
    Template(String),
}

impl Route {
    /// `event_type` is exact, or ends with a `*` that stands for any rest. In `topic`, `{aggregate_type}`, `{event_type}`
    /// and `{event_name}` (the type without a trailing `.vN`) are filled in.
    pub fn new(event_type: &str, topic: &str) -> Self {
        let is_template = topic.contains('{');
        let topic =
            if is_template { Topic::Template(topic.to_owned()) } else { Topic::Fixed(Arc::from(topic)) };
        Self { event_type: event_type.to_owned(), topic }
    }

    /// The topic, if it is the same for every event.
    pub fn fixed_topic(&self) -> Option<&str> {
        match &self.topic {
            Topic::Fixed(topic) => Some(topic),
            Topic::Template(_) => None,
        }
    }

    /// Whether events of this route may be in the topic.
    pub fn may_write_to(&self, topic: &str) -> bool {
        match &self.topic {
            Topic::Fixed(fixed) => **fixed == *topic,
            Topic::Template(template) => may_make(template, topic),
        }
    }

    fn matches(&self, event_type: &str) -> bool {
        match self.event_type.strip_suffix('*') {
            Some(prefix) => event_type.starts_with(prefix),
            None => event_type == self.event_type,
        }
    }

    fn topic_for(&self, event_type: &str, aggregate_type: &str) -> Arc<str> {
        match &self.topic {
            Topic::Fixed(topic) => Arc::clone(topic),
            Topic::Template(template) => template
                .replace("{aggregate_type}", aggregate_type)
                .replace("{event_type}", event_type)
                .replace("{event_name}", without_version(event_type))
                .into(),
        }
    }
}

/// Whether the template, filled in with something, is the name.
fn may_make(template: &str, name: &str) -> bool {
    let Some((before, rest)) = template.split_once('{') else { return template == name };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    let Some(name) = name.strip_prefix(before) else { return false };
    name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| may_make(after, &name[at..]))
}

/// `users.created.v1` → `users.created`.
fn without_version(event_type: &str) -> &str {
    match event_type.rsplit_once(".v") {
        Some((name, version)) if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => event_type,
    }
}

/// Routes the rows of one source.
#[derive(Clone, Debug)]
pub struct Router {
    /// The rules, in the order they are tried.
    pub routes: Vec<Route>,
    /// The largest record that may be sent, in bytes on the wire.
    pub record_bytes_max: usize,
    /// What dead letters say of their origin, and where they go.
    pub dead_letters: DeadLetterContext,
}

impl Router {
    /// Kafka's own limit on the length of a topic's name.
    const TOPIC_CHARS_MAX: usize = 249;

    /// The record of a row: for its topic, or a dead letter.
    pub fn route(&self, row: OutboxRow, origin: &Origin<'_>, arena: &mut Arena) -> Record {
        let topic = self.topic(&row);
        let malformed = row.malformed;
        let unroutable = topic.is_none().then(|| unroutable(&row.event_type));
        let record = self.record(topic.clone().unwrap_or_else(|| Arc::from("")), row, origin, arena);
        if let Some(words) = malformed {
            return self.dead_letter(&record, Reason::Malformed, words);
        }
        if let Some(words) = unroutable {
            return self.dead_letter(&record, Reason::Unroutable, &words);
        }
        let size = record.wire_size();
        if size > self.record_bytes_max {
            let words = format!("the record has {size} bytes, the limit is {} bytes", self.record_bytes_max);
            return self.dead_letter(&record, Reason::TooLarge, &words);
        }
        record
    }

    /// The dead letter of a record that the broker refuses for its size although it passed the relay's own limit.
    pub fn refuse(&self, record: &Record, message: &str) -> Record {
        self.dead_letter(record, Reason::TooLarge, message)
    }

    /// Whether a record already is a dead letter.
    pub fn is_dead_letter(&self, record: &Record) -> bool {
        record.topic == self.dead_letters.topic
    }

    fn topic(&self, row: &OutboxRow) -> Option<Arc<str>> {
        let event_type = str::from_utf8(&row.event_type).ok()?;
        let aggregate_type = str::from_utf8(&row.aggregate_type).ok()?;
        let route = self.routes.iter().find(|route| route.matches(event_type))?;
        Some(route.topic_for(event_type, aggregate_type)).filter(|topic| is_topic_name(topic))
    }

    fn record(&self, topic: Arc<str>, row: OutboxRow, origin: &Origin<'_>, arena: &mut Arena) -> Record {
        Record {
            headers: self.headers(&row, origin, arena.headers()),
            topic,
            key: row.aggregate_id,
            value: row.payload,
            decoded_at_ms: origin.decoded_at_ms,
            committed_at_us: origin.committed_at.unix_us,
        }
    }

    fn headers(&self, row: &OutboxRow, origin: &Origin<'_>, mut to: HeadersWriter<'_>) -> Headers {
        let content_type = if row.payload_is_json { "application/json" } else { "application/octet-stream" };
        to.add(header::SPEC_VERSION, b"1.0");
        to.add(header::ID, &row.id);
        to.add(header::TYPE, &row.event_type);
        to.add(header::SOURCE, self.dead_letters.ce_source.as_bytes());
        to.add_parts(header::SUBJECT, &[&row.aggregate_type, b"/", &row.aggregate_id]);
        to.add(header::TIME, &origin.committed_at.text);
        to.add(header::CONTENT_TYPE, content_type.as_bytes());
        to.add_text(header::POSITION, origin.position);
        if let Some(owner) = &row.owner {
            to.add(header::OWNER, owner);
        }
        if let Some(version) = &row.aggregate_version {
            to.add(header::AGGREGATE_VERSION, version);
        }
        if let Some(json) = &row.headers {
            add_further(json, &mut to);
        }
        to.finish()
    }

    /// The seam for parking: a dead letter's key must hold back the later events of the key. Until keys are parked,
    /// they flow on.
    fn dead_letter(&self, record: &Record, reason: Reason, message: &str) -> Record {
        dead_letter::record(&self.dead_letters, record, reason, message)
    }
}

/// Names the type, shortened: what is no topic's name may be of any length.
fn unroutable(event_type: &[u8]) -> String {
    let name: String = String::from_utf8_lossy(event_type).chars().take(Router::TOPIC_CHARS_MAX).collect();
    format!("no route makes a valid topic of the event type {name:?}")
}

/// Kafka's rule for topic names.
fn is_topic_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= Router::TOPIC_CHARS_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The `headers` column: the members of a JSON object, `traceparent` among them. Strings are taken as they are, other
/// values as JSON text. Names that the relay writes itself are not taken, nor is anything that is no object.
fn add_further(json: &[u8], to: &mut HeadersWriter<'_>) {
    // What is no object has no members, and a column of type json is always well formed.
    let _ = serde_json::Deserializer::from_slice(json).deserialize_map(Members(to));
}

struct Members<'a, 'b>(&'a mut HeadersWriter<'b>);

impl<'de> Visitor<'de> for Members<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some((Text(name), value)) = members.next_entry::<Text<'de>, &'de RawValue>()? {
            if is_reserved(&name) || value.get() == "null" {
                continue;
            }
            match serde_json::from_str::<Text<'de>>(value.get()) {
                Ok(Text(text)) => self.0.add(&name, text.as_bytes()),
                Err(_) => self.0.add(&name, value.get().as_bytes()),
            }
        }
        Ok(())
    }
}

/// A JSON string, copied only if it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn is_reserved(name: &str) -> bool {
    name.is_empty()
        || name.starts_with("ce_")
        || name.starts_with("tailrace_")
        || name == header::CONTENT_TYPE
}

/// A time as CloudEvents wants it, to the microsecond.
pub fn rfc3339(unix_us: i64) -> String {
    jiff::Timestamp::from_microsecond(unix_us)
        .map_or_else(|_| unix_us.to_string(), |time| format!("{time:.6}"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use replication_protocol::Lsn;
    use tailrace::event::v1::DeadLetter;

    use super::*;

    fn router() -> Router {
        Router {
            routes: vec![
                Route::new("users.created.v1", "users.created"),
                Route::new("orders.*", "{event_name}"),
                Route::new("any.*", "{aggregate_type}.events"),
            ],
            record_bytes_max: 2_000,
            dead_letters: DeadLetterContext::new("users", "public.outbox", "dead-letter"),
        }
    }

    fn row(event_type: &str) -> OutboxRow {
        OutboxRow {
            id: "e1".into(),
            aggregate_type: "users".into(),
            aggregate_id: "42".into(),
            event_type: Bytes::from(event_type.to_owned()),
            payload: Some("{\"a\":  1}".into()),
            payload_is_json: true,
            ..OutboxRow::default()
        }
    }

    fn routed(row: OutboxRow) -> Record {
        let unix_us = 1_700_000_000_123_456;
        let origin = Origin {
            position: EventPosition { final_lsn: Lsn::new(0x16B_3748), ordinal: 3 },
            committed_at: &CommitTime { unix_us, text: rfc3339(unix_us).into() },
            decoded_at_ms: 1_700_000_000_125,
        };
        router().route(row, &origin, &mut Arena::default())
    }

    #[track_caller]
    fn check_topic(event_type: &str, aggregate_type: &str, expected: &str) {
        let row = OutboxRow { aggregate_type: Bytes::from(aggregate_type.to_owned()), ..row(event_type) };
        assert_eq!(&*routed(row).topic, expected, "{event_type}");
    }

    #[test]
    fn the_first_matching_route_names_the_topic() {
        check_topic("users.created.v1", "users", "users.created");
        check_topic("orders.created.v12", "orders", "orders.created");
        check_topic("orders.created.vip", "orders", "orders.created.vip");
        check_topic("any.thing", "shipments", "shipments.events");
    }

    #[test]
    fn what_no_route_takes_or_makes_no_topic_name_is_a_dead_letter() {
        check_topic("users.created.v2", "users", "dead-letter");
        check_topic("any.thing", "a b", "dead-letter");
        check_topic("orders.ä", "orders", "dead-letter");
    }

    #[test]
    fn a_record_is_a_cloudevent_with_its_position() {
        let row = OutboxRow {
            owner: Some("users/42".into()),
            aggregate_version: Some("7".into()),
            headers: Some(
                r#"{"n":1,"traceparent":"00-ab","q\"":"\u00e4","ce_id":"forged","gone":null}"#.into(),
            ),
            ..row("users.created.v1")
        };
        let record = routed(row);
        let headers: Vec<(&str, &str)> =
            record.headers.iter().map(|(name, value)| (name, str::from_utf8(value).expect("text"))).collect();
        assert_eq!(
            headers,
            [
                ("ce_specversion", "1.0"),
                ("ce_id", "e1"),
                ("ce_type", "users.created.v1"),
                ("ce_source", "/tailrace/sources/users"),
                ("ce_subject", "users/42"),
                ("ce_time", "2023-11-14T22:13:20.123456Z"),
                ("content-type", "application/json"),
                ("tailrace_position", "0/16B3748/3"),
                ("tailrace_owner", "users/42"),
                ("tailrace_aggregate_version", "7"),
                ("n", "1"),
                ("traceparent", "00-ab"),
                ("q\"", "ä"),
            ]
        );
        assert_eq!((&*record.key, record.value.as_deref()), (&b"42"[..], Some(&b"{\"a\":  1}"[..])));
    }

    #[test]
    fn a_record_over_the_limit_is_a_dead_letter_that_says_so() {
        let big = OutboxRow { payload: Some(vec![b'x'; 3_000].into()), ..row("users.created.v1") };
        let record = routed(big);
        assert_eq!(&*record.topic, "dead-letter");
        let letter: DeadLetter =
            serde_json::from_slice(record.value.as_ref().expect("a value")).expect("a dead letter");
        assert_eq!(letter.reason(), Reason::TooLarge);
        assert_eq!((letter.topic.as_str(), letter.payload_size), ("users.created", 3_000));
        assert!(letter.message.contains("the limit is 2000 bytes"), "{}", letter.message);
    }

    #[test]
    fn a_malformed_row_is_a_dead_letter_with_what_could_be_read() {
        let row = OutboxRow { malformed: Some("the event id is null or empty"), ..row("users.created.v1") };
        let record = routed(row);
        let letter: DeadLetter =
            serde_json::from_slice(record.value.as_ref().expect("a value")).expect("a dead letter");
        assert_eq!((letter.reason(), letter.aggregate_id.as_str()), (Reason::Malformed, "42"));
    }

    #[test]
    fn a_route_tells_which_topics_its_events_may_be_in() {
        for (topic, name, expected) in [
            ("users.created", "users.created", true),
            ("users.created", "users.created.old", false),
            ("{aggregate_type}.events", "users.events", true),
            ("{aggregate_type}.events", "users.events.old", false),
            ("cdc.{aggregate_type}.{event_name}", "cdc.users.users.created", true),
            ("cdc.{aggregate_type}.{event_name}", "other.users.created", false),
            ("{event_name}", "anything", true),
        ] {
            assert_eq!(Route::new("*", topic).may_write_to(name), expected, "{topic} {name}");
        }
    }
}
