//! Routing: an outbox row becomes a record for a topic, or a dead letter with its reason.
//!
//! Size, key and topic are checked here, before the producer sees a record, because a producer that refuses one record
//! in the middle of a key would let later ones pass.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use tailrace::event::v1::dead_letter::Reason;
use tailrace::relay::v1::parked_event::LeftOut;

use crate::dead_letter::{DeadLetterContext, Refusal};
use crate::headers::{Arena, Headers, HeadersWriter};
use crate::parking::Waiting;
use crate::record::{HeaderSet, Record, header};
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
    header_set: HeaderSet,
    topic_properties: BTreeMap<String, String>,
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
        Self {
            event_type: event_type.to_owned(),
            topic,
            header_set: HeaderSet::default(),
            topic_properties: BTreeMap::new(),
        }
    }

    /// Sends its events with these headers.
    #[must_use]
    pub fn with_headers(self, header_set: HeaderSet) -> Self {
        Self { header_set, ..self }
    }

    /// Has its topic made with these properties, such as `retention.ms`.
    #[must_use]
    pub fn with_topic_properties(self, topic_properties: BTreeMap<String, String>) -> Self {
        Self { topic_properties, ..self }
    }

    /// What its topic is made with, beside what is usual in the cluster.
    pub fn topic_properties(&self) -> &BTreeMap<String, String> {
        &self.topic_properties
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

    /// The record of a row, or why it cannot be published.
    ///
    /// # Errors
    /// If the row cannot be read, no route fits, or it is too large.
    pub fn route(&self, row: OutboxRow, origin: &Origin<'_>, arena: &mut Arena) -> Result<Record, Refusal> {
        let malformed = row.malformed;
        let record = self.record(row, origin, arena);
        match malformed {
            None => self.publishable(record),
            Some(words) => Err(refusal(record, Reason::Malformed, words.to_owned())),
        }
    }

    /// Routes an event that was parked, under the rules of now.
    ///
    /// # Errors
    /// If it still cannot be published.
    pub fn route_again(&self, waiting: Waiting) -> Result<Record, Refusal> {
        let Waiting { record, reason, left_out, payload_size, .. } = waiting;
        match (reason, left_out) {
            (Reason::Malformed, _) => {
                let words = "the row cannot be read: write the event anew and discard this one";
                return Err(refusal(record, reason, words.into()));
            }
            (_, LeftOut::Unspecified) => {}
            (_, LeftOut::Row) => {
                let words =
                    "its key or headers are too large to be kept: write the event anew and discard this one";
                return Err(refusal(record, Reason::TooLarge, words.into()));
            }
            (_, LeftOut::Payload) => {
                let words = format!(
                    "its payload of {payload_size} bytes is not to be had from the outbox table as it was"
                );
                return Err(refusal(record, Reason::TooLarge, words));
            }
        }
        let event_type = record.headers.get(header::TYPE).unwrap_or_default();
        let subject = record.headers.get(header::SUBJECT).unwrap_or_default();
        // The aggregate's id may hold anything, so the type ends where the id with its slash begins.
        let aggregate_type =
            subject.get(..subject.len().saturating_sub(record.key.len() + 1)).unwrap_or_default();
        let (topic, header_set) = self.target(event_type, aggregate_type).unwrap_or_default();
        self.publishable(Record { topic, header_set, ..record })
    }

    fn publishable(&self, record: Record) -> Result<Record, Refusal> {
        if record.topic.is_empty() {
            let message = unroutable(record.headers.get(header::TYPE).unwrap_or_default());
            return Err(refusal(record, Reason::Unroutable, message));
        }
        let size = record.wire_size();
        if size > self.record_bytes_max {
            let message =
                format!("the record has {size} bytes, the limit is {} bytes", self.record_bytes_max);
            return Err(refusal(record, Reason::TooLarge, message));
        }
        Ok(record)
    }

    /// What a broker's refusal makes of a record: it is too large, although it passed the relay's own limit.
    pub fn refuse(&self, record: Record, message: &str) -> Refusal {
        refusal(record, Reason::TooLarge, message.to_owned())
    }

    /// Whether a record already is a dead letter.
    pub fn is_dead_letter(&self, record: &Record) -> bool {
        record.topic == self.dead_letters.topic
    }

    fn target(&self, event_type: &[u8], aggregate_type: &[u8]) -> Option<(Arc<str>, HeaderSet)> {
        let event_type = str::from_utf8(event_type).ok()?;
        let aggregate_type = str::from_utf8(aggregate_type).ok()?;
        let route = self.routes.iter().find(|route| route.matches(event_type))?;
        let topic = route.topic_for(event_type, aggregate_type);
        is_topic_name(&topic).then_some((topic, route.header_set))
    }

    /// Without a topic if no route makes one.
    fn record(&self, row: OutboxRow, origin: &Origin<'_>, arena: &mut Arena) -> Record {
        let (topic, header_set) = self.target(&row.event_type, &row.aggregate_type).unwrap_or_default();
        Record {
            headers: self.headers(&row, origin, arena.headers()),
            header_set,
            topic,
            key: row.aggregate_id,
            value: row.payload,
            position: origin.position,
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
}

fn refusal(record: Record, reason: Reason, message: String) -> Refusal {
    Refusal { record: Box::new(record), reason, message }
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
            if header::is_reserved(&name) || value.get() == "null" {
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

/// A time as CloudEvents wants it, to the microsecond.
pub fn rfc3339(unix_us: i64) -> String {
    jiff::Timestamp::from_microsecond(unix_us)
        .map_or_else(|_| unix_us.to_string(), |time| format!("{time:.6}"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use replication_protocol::Lsn;

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

    fn routed(row: OutboxRow) -> Result<Record, Refusal> {
        let unix_us = 1_700_000_000_123_456;
        let origin = Origin {
            position: EventPosition { final_lsn: Lsn::new(0x16B_3748), ordinal: 3 },
            committed_at: &CommitTime { unix_us, text: rfc3339(unix_us).into() },
            decoded_at_ms: 1_700_000_000_125,
        };
        router().route(row, &origin, &mut Arena::default())
    }

    #[track_caller]
    fn check_topic(event_type: &str, aggregate_type: &str, expected: Option<&str>) {
        let row = OutboxRow { aggregate_type: Bytes::from(aggregate_type.to_owned()), ..row(event_type) };
        let routed = routed(row);
        match expected {
            Some(topic) => assert_eq!(&*routed.expect("a route").topic, topic, "{event_type}"),
            None => {
                let refusal = routed.expect_err("no route");
                assert_eq!(
                    (refusal.reason, &*refusal.record.topic),
                    (Reason::Unroutable, ""),
                    "{event_type}"
                );
            }
        }
    }

    #[test]
    fn the_first_matching_route_names_the_topic() {
        check_topic("users.created.v1", "users", Some("users.created"));
        check_topic("orders.created.v12", "orders", Some("orders.created"));
        check_topic("orders.created.vip", "orders", Some("orders.created.vip"));
        check_topic("any.thing", "shipments", Some("shipments.events"));
    }

    #[test]
    fn what_no_route_takes_or_makes_no_topic_name_is_a_dead_letter() {
        check_topic("users.created.v2", "users", None);
        check_topic("any.thing", "a b", None);
        check_topic("orders.ä", "orders", None);
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
        let record = routed(row).expect("a route");
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

    #[track_caller]
    fn check_sent(set: HeaderSet, expected: &[&str], size: usize) {
        let row = OutboxRow {
            id: "0192f0c1-7d3a-7000-8000-000000000001".into(),
            aggregate_id: "0192f0c1-7d3a-7000-8000-00000000002a".into(),
            owner: Some("users/0192f0c1-7d3a-7000-8000-00000000002a".into()),
            aggregate_version: Some("7".into()),
            headers: Some(
                r#"{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","id":"forged"}"#
                    .into(),
            ),
            ..row("users.created.v1")
        };
        let mut record = routed(row).expect("a route");
        let whole = record.wire_size();
        record.header_set = set;
        let sent: Vec<&str> = record.sent_headers().map(|(name, _)| name).collect();
        assert_eq!(sent, expected, "{set:?}");
        let header_bytes: usize = record.sent_headers().map(|(name, value)| name.len() + value.len()).sum();
        assert_eq!(header_bytes, size, "{set:?}");
        assert!(record.wire_size() <= whole, "{set:?}");
    }

    #[test]
    fn a_header_set_sends_these_headers_in_so_many_bytes() {
        let all = [
            "ce_specversion",
            "ce_id",
            "ce_type",
            "ce_source",
            "ce_subject",
            "ce_time",
            "content-type",
            "tailrace_position",
            "tailrace_owner",
            "tailrace_aggregate_version",
            "traceparent",
            "id",
        ];
        check_sent(HeaderSet::CloudEvents, &all, 412);
        check_sent(HeaderSet::Debezium, &["id", "eventType", "traceparent"], 129);
        check_sent(HeaderSet::Minimal, &["ce_id", "ce_type", "traceparent", "id"], 138);
    }

    #[test]
    fn an_event_that_was_parked_is_sent_with_the_headers_of_its_route_and_kept_with_all() {
        let mut router = router();
        router.routes[0] = Route::new("users.created.v1", "users.created").with_headers(HeaderSet::Minimal);
        let mut record = routed(row("users.created.v1")).expect("a route");
        record.topic = Arc::from("");
        let refusal = refusal(record, Reason::Unroutable, "no route".into());
        assert!(
            refusal.dead_letter(&router.dead_letters).sent_headers().any(|(name, _)| name == header::SUBJECT)
        );
        let parking = crate::parking::Parking::new("parked", 100_000, 10);
        let key = crate::parking::ParkingKey::of(&refusal.record).expect("an aggregate");
        let parked = parking.parked(&key, &refusal.record, Some(&refusal));
        let again = router.route_again(parking.unpark(&parked).expect("all of it")).expect("a route now");
        let sent: Vec<&str> = again.sent_headers().map(|(name, _)| name).collect();
        assert_eq!(sent, ["ce_id", "ce_type"]);
    }

    #[test]
    fn a_record_over_the_limit_is_refused_and_says_so() {
        let big = OutboxRow { payload: Some(vec![b'x'; 3_000].into()), ..row("users.created.v1") };
        let refusal = routed(big).expect_err("too large");
        assert_eq!((refusal.reason, &*refusal.record.topic), (Reason::TooLarge, "users.created"));
        assert!(refusal.message.contains("the limit is 2000 bytes"), "{}", refusal.message);
    }

    #[test]
    fn a_malformed_row_is_refused_with_what_could_be_read() {
        let row = OutboxRow { malformed: Some("the event id is null or empty"), ..row("users.created.v1") };
        let refusal = routed(row).expect_err("malformed");
        assert_eq!((refusal.reason, &refusal.record.key[..]), (Reason::Malformed, &b"42"[..]));
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
