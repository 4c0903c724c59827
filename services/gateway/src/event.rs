//! A Kafka record becomes an [`Entry`]: the event encoded once, with what subscriptions ask about it beside.
//!
//! Nothing is validated here: a record without CloudEvents headers is an event with empty attributes, because a
//! watcher must see what lies in the topic.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use pbjson_types::Timestamp;
use prost::{Message as _, encoding::WireType};
use tailrace::event::v1::{Event, Header};
use tailrace_topics::{Partition, Record};

/// The header that names the user who may see an event.
const OWNER: &str = "tailrace_owner";

/// The field number of `WatchResponse.event`.
const EVENT_FIELD: u32 = 2;

/// What an entry costs beside its bytes: the struct, its owner and its place in the ring.
const ENTRY_OVERHEAD_BYTES: usize = 192;

/// An event of one partition, shared by all who watch it.
#[derive(Debug)]
pub struct Entry {
    /// Its offset.
    pub offset: i64,
    /// Its commit time, or the record's CreateTime when it names none; in microseconds since 1970.
    pub commit_time_us: i64,
    /// The user who may see it; `None` means operators only.
    pub owner: Option<Box<str>>,
    /// The field `event` of a `WatchResponse`, encoded with its tag.
    pub encoded: Bytes,
}

impl Entry {
    /// Encodes the record that lies at `offset` of `partition` and was received at `received`.
    pub fn encode(partition: &Partition, offset: i64, record: &Record<'_>, received: SystemTime) -> Self {
        let commit_time = record.header("ce_time").and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let event = Event {
            id: record.header("ce_id").unwrap_or_default().to_owned(),
            r#type: record.header("ce_type").unwrap_or_default().to_owned(),
            source: record.header("ce_source").unwrap_or_default().to_owned(),
            subject: record.header("ce_subject").unwrap_or_default().to_owned(),
            content_type: record.header("content-type").unwrap_or_default().to_owned(),
            payload: Bytes::copy_from_slice(record.value.unwrap_or_default()),
            topic: partition.topic.to_string(),
            partition: partition.number,
            offset,
            key: Bytes::copy_from_slice(record.key.unwrap_or_default()),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| Header { name: (*name).to_owned(), value: value.to_vec() })
                .collect(),
            commit_time: commit_time
                .map(|time| Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }),
            relay_time: record.create_time_ms.map(|ms| from_system_time(from_millis(ms))),
            gateway_time: Some(from_system_time(received)),
        };
        Self {
            offset,
            commit_time_us: commit_time.map_or_else(
                || record.create_time_ms.unwrap_or_default() * 1000,
                |time| time.as_microsecond(),
            ),
            owner: owner(record),
            encoded: as_response_field(&event),
        }
    }

    /// What the entry costs in memory.
    pub fn size_bytes(&self) -> usize {
        self.encoded.len() + ENTRY_OVERHEAD_BYTES
    }
}

/// The wire form of a moment.
pub fn from_system_time(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Nanoseconds are below a thousand million and the seconds of any real clock fit.
    Timestamp { seconds: since.as_secs().cast_signed(), nanos: since.subsec_nanos().cast_signed() }
}

fn from_millis(ms: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

/// The first header of that name, if it is text.
/// The owner, if the record names exactly one: with two nobody can tell who may see it.
fn owner(record: &Record<'_>) -> Option<Box<str>> {
    let mut owners = record.headers.iter().filter(|(name, _)| *name == OWNER);
    let (_, value) = owners.next()?;
    if owners.next().is_some() || value.is_empty() {
        return None;
    }
    std::str::from_utf8(value).ok().map(Box::from)
}

fn as_response_field(event: &Event) -> Bytes {
    let length = event.encoded_len();
    let mut bytes = BytesMut::with_capacity(length + 8);
    prost::encoding::encode_key(EVENT_FIELD, WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(length as u64, &mut bytes);
    event.encode_raw(&mut bytes);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use tailrace::stream::v1::{WatchResponse, watch_response::Message};

    use super::*;

    fn decoded(entry: &Entry) -> Event {
        let response = WatchResponse::decode(entry.encoded.clone()).expect("a whole response");
        match response.message {
            Some(Message::Event(event)) => event,
            other => panic!("not an event: {other:?}"),
        }
    }

    fn record() -> Record<'static> {
        Record {
            key: Some(b"7"),
            value: Some(br#"{"a":1}"#),
            create_time_ms: Some(1_700_000_000_123),
            headers: vec![
                ("ce_id", b"id-1"),
                ("ce_type", b"users.created.v1"),
                ("ce_source", b"/tailrace/sources/users"),
                ("ce_subject", b"users/7"),
                ("ce_time", b"2026-11-22T10:00:00.000042Z"),
                ("content-type", b"application/json"),
                ("tailrace_owner", b"users/7"),
                ("x", b"1"),
                ("x", b"\xff"),
            ],
        }
    }

    #[test]
    fn a_record_becomes_an_event_with_all_its_headers() {
        let entry = Entry::encode(&Partition::new("users.created", 3), 41, &record(), from_millis(5));
        let event = decoded(&entry);
        assert_eq!(event.id, "id-1");
        assert_eq!(event.r#type, "users.created.v1");
        assert_eq!(event.source, "/tailrace/sources/users");
        assert_eq!(event.subject, "users/7");
        assert_eq!(event.content_type, "application/json");
        assert_eq!((event.topic.as_str(), event.partition, event.offset), ("users.created", 3, 41));
        assert_eq!((event.key.as_ref(), event.payload.as_ref()), (&b"7"[..], &br#"{"a":1}"#[..]));
        assert_eq!(event.headers.len(), 9);
        assert_eq!(event.headers[8].value, b"\xff");
        assert_eq!(event.commit_time.map(|time| time.nanos), Some(42_000));
        assert_eq!(
            event.relay_time.map(|time| (time.seconds, time.nanos)),
            Some((1_700_000_000, 123_000_000))
        );
        assert_eq!(event.gateway_time.map(|time| time.nanos), Some(5_000_000));
        assert_eq!(entry.commit_time_us % 1_000_000, 42);
        assert_eq!(entry.owner.as_deref(), Some("users/7"));
    }

    #[test]
    fn a_record_without_headers_is_for_operators_and_ordered_by_its_create_time() {
        let record = Record { create_time_ms: Some(2), ..Record::default() };
        let entry = Entry::encode(&Partition::new("t", 0), 0, &record, from_millis(0));
        assert_eq!((entry.owner.as_deref(), entry.commit_time_us), (None, 2000));
        assert_eq!(decoded(&entry).commit_time, None);
    }

    #[test]
    fn two_owners_are_no_owner() {
        let mut record = record();
        record.headers.push(("tailrace_owner", b"users/8"));
        assert_eq!(Entry::encode(&Partition::new("t", 0), 0, &record, from_millis(0)).owner, None);
    }
}
