//! Routing: an outbox row becomes a record for a topic, or a dead letter with its reason.
//!
//! Size, key and topic are checked here, before the producer sees a record, because a producer that refuses one record
//! in the middle of a key would let later ones pass.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use tailrace::event::v1::dead_letter::Reason;

use crate::dead_letter::{self, DeadLetterContext};
use crate::record::{Header, Record, header};
use crate::row::OutboxRow;
use crate::transaction::EventPosition;

/// Where an event came from, and when.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The event's identity.
    pub position: EventPosition,
    /// When its transaction was committed, in microseconds since 1970.
    pub committed_at_us: i64,
    /// When the relay decoded it, in milliseconds since 1970.
    pub decoded_at_ms: i64,
}

/// One rule: which events go to which topic. The first that matches counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The event type; a `*` at the end stands for any rest.
    pub event_type: String,
    /// The topic; `{aggregate_type}`, `{event_type}` and `{event_name}` (the type without a trailing `.vN`) are filled in.
    pub topic: String,
}

impl Route {
    fn matches(&self, event_type: &str) -> bool {
        match self.event_type.strip_suffix('*') {
            Some(prefix) => event_type.starts_with(prefix),
            None => event_type == self.event_type,
        }
    }

    fn topic_for(&self, event_type: &str, aggregate_type: &str) -> Arc<str> {
        if !self.topic.contains('{') {
            return Arc::from(self.topic.as_str());
        }
        let topic = self
            .topic
            .replace("{aggregate_type}", aggregate_type)
            .replace("{event_type}", event_type)
            .replace("{event_name}", without_version(event_type));
        Arc::from(topic)
    }

    /// The topic, if it is the same for every event.
    pub fn fixed_topic(&self) -> Option<&str> {
        (!self.topic.contains('{')).then_some(self.topic.as_str())
    }
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
    pub fn route(&self, row: OutboxRow, origin: &Origin) -> Record {
        let topic = self.topic(&row);
        let malformed = row.malformed;
        let unroutable = topic.is_none().then(|| unroutable(&row.event_type));
        let record = self.record(topic.clone().unwrap_or_else(|| Arc::from("")), row, origin);
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

    fn record(&self, topic: Arc<str>, row: OutboxRow, origin: &Origin) -> Record {
        let content_type = if row.payload_is_json { "application/json" } else { "application/octet-stream" };
        let subject = [&*row.aggregate_type, b"/", &*row.aggregate_id].concat();
        let mut headers = Vec::with_capacity(12);
        let mut add =
            |name: &'static str, value: Bytes| headers.push(Header { name: Cow::Borrowed(name), value });
        add(header::SPEC_VERSION, Bytes::from_static(b"1.0"));
        add(header::ID, row.id);
        add(header::TYPE, row.event_type);
        add(header::SOURCE, self.dead_letters.ce_source.clone());
        add(header::SUBJECT, subject.into());
        add(header::TIME, rfc3339(origin.committed_at_us).into());
        add(header::CONTENT_TYPE, Bytes::from_static(content_type.as_bytes()));
        add(header::POSITION, origin.position.to_string().into());
        if let Some(owner) = row.owner {
            add(header::OWNER, owner);
        }
        if let Some(version) = row.aggregate_version {
            add(header::AGGREGATE_VERSION, version);
        }
        if let Some(json) = row.headers {
            headers.extend(further_headers(&json));
        }
        Record {
            topic,
            key: row.aggregate_id,
            value: row.payload,
            headers,
            decoded_at_ms: origin.decoded_at_ms,
            committed_at_us: origin.committed_at_us,
        }
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
fn further_headers(json: &[u8]) -> Vec<Header> {
    let members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(json).unwrap_or_default();
    members
        .into_iter()
        .filter(|(name, value)| !is_reserved(name) && !value.is_null())
        .map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Header { name: Cow::Owned(name), value: text.into() }
        })
        .collect()
}

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
    use replication_protocol::Lsn;
    use tailrace::event::v1::DeadLetter;

    use super::*;

    fn router() -> Router {
        Router {
            routes: vec![
                Route { event_type: "users.created.v1".into(), topic: "users.created".into() },
                Route { event_type: "orders.*".into(), topic: "{event_name}".into() },
                Route { event_type: "any.*".into(), topic: "{aggregate_type}.events".into() },
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

    fn origin() -> Origin {
        Origin {
            position: EventPosition { final_lsn: Lsn::new(0x16B_3748), ordinal: 3 },
            committed_at_us: 1_700_000_000_123_456,
            decoded_at_ms: 1_700_000_000_125,
        }
    }

    #[track_caller]
    fn check_topic(event_type: &str, aggregate_type: &str, expected: &str) {
        let row = OutboxRow { aggregate_type: Bytes::from(aggregate_type.to_owned()), ..row(event_type) };
        assert_eq!(&*router().route(row, &origin()).topic, expected, "{event_type}");
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
            headers: Some(r#"{"traceparent":"00-ab","n":1,"ce_id":"forged","gone":null}"#.into()),
            ..row("users.created.v1")
        };
        let record = router().route(row, &origin());
        let headers: Vec<(&str, &str)> = record
            .headers
            .iter()
            .map(|header| (&*header.name, str::from_utf8(&header.value).expect("text")))
            .collect();
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
            ]
        );
        assert_eq!((&*record.key, record.value.as_deref()), (&b"42"[..], Some(&b"{\"a\":  1}"[..])));
    }

    #[test]
    fn a_record_over_the_limit_is_a_dead_letter_that_says_so() {
        let big = OutboxRow { payload: Some(vec![b'x'; 3_000].into()), ..row("users.created.v1") };
        let record = router().route(big, &origin());
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
        let record = router().route(row, &origin());
        let letter: DeadLetter =
            serde_json::from_slice(record.value.as_ref().expect("a value")).expect("a dead letter");
        assert_eq!((letter.reason(), letter.aggregate_id.as_str()), (Reason::Malformed, "42"));
    }
}
