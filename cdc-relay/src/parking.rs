//! Parked keys: an event that cannot be published holds back the later events of its aggregate, and no others.
//!
//! ```text
//!   routed record ──▶ key parked? ──no──▶ publish
//!   refusal ────────▶     │ yes            ▲
//!        │                ▼                │ release: redriven or discarded
//!        │         tailrace.parked.SOURCE ─┘   AGGREGATE ␀ POSITION ─▶ ParkedEvent, then a tombstone
//!        └──▶ dead-letter
//! ```
//!
//! What waits lies in a compacted topic and is written in the same Kafka transactions as everything else, so a key that
//! is parked is parked for the next relay too. In memory there is one entry for each parked key, however much waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tailrace::event::v1::{self as event, dead_letter::Reason};
use tailrace::relay::v1::{ParkedEvent, parked_event::LeftOut};

use crate::dead_letter::{DeadLetterContext, Refusal, timestamp};
use crate::headers::Headers;
use crate::planted::{self, Bug};
use crate::record::{HeaderSet, Record, header};
use crate::transaction::EventPosition;

/// A longer aggregate name is known by its hash: it is part of a record's key.
const NAME_BYTES_MAX: usize = 1024;

/// The keys of one source that are parked.
#[derive(Clone, Debug)]
pub struct Parking {
    topic: Arc<str>,
    record_bytes_max: usize,
    keys_max: usize,
    keys: HashMap<ParkingKey, ParkedKey>,
}

/// The name of an aggregate, `type/id`, as it is part of a record's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ParkingKey(Bytes);

/// A parked key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedKey {
    /// The event that cannot be published.
    pub head: Head,
    /// How many events are parked, the head included.
    pub events: u64,
}

/// The event that holds a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its identity.
    pub position: EventPosition,
    /// Why it cannot be published.
    pub reason: Reason,
    /// The reason in words.
    pub message: String,
    /// The outbox row's id.
    pub event_id: String,
    /// The event's type.
    pub event_type: String,
    /// The aggregate.
    pub subject: String,
    /// When its transaction was committed, in microseconds since 1970.
    pub committed_at_us: i64,
}

/// More keys are parked than may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} keys are parked, as many as may be: see `cdc-relay dead-letters list`; the cause is likely one missing route. \
     Mend it and start again, or raise parked_keys_max"
)]
pub struct TooManyParked(usize);

impl ParkingKey {
    /// The key of a record's aggregate. `None` if the row names none: then there is no order to keep.
    pub fn of(record: &Record) -> Option<Self> {
        let subject = record.headers.get(header::SUBJECT)?;
        if record.key.is_empty() || subject.starts_with(b"/") {
            return None;
        }
        Some(Self(match subject.len() {
            ..=NAME_BYTES_MAX => Bytes::copy_from_slice(subject),
            _ => Bytes::copy_from_slice(&Sha256::digest(subject)),
        }))
    }

    /// The key of the parked event's record.
    fn record_key(&self, position: EventPosition) -> Bytes {
        [&self.0, &b"\0"[..], position.to_string().as_bytes()].concat().into()
    }

    /// The position of the event whose record has this key, if it is of this aggregate.
    pub fn position_in(&self, record_key: &[u8]) -> Option<EventPosition> {
        Self::parse(record_key).filter(|(key, _)| key == self).map(|(_, position)| position)
    }

    /// The parts of such a key.
    fn parse(record_key: &[u8]) -> Option<(Self, EventPosition)> {
        let at = record_key.iter().rposition(|byte| *byte == 0)?;
        let (name, position) = (record_key.get(..at)?, record_key.get(at + 1..)?);
        let position = str::from_utf8(position).ok()?.parse().ok()?;
        Some((Self(Bytes::copy_from_slice(name)), position))
    }
}

impl Parking {
    /// With nothing parked.
    pub fn new(topic: &str, record_bytes_max: usize, keys_max: usize) -> Self {
        Self { topic: Arc::from(topic), record_bytes_max, keys_max, keys: HashMap::new() }
    }

    /// With what the topic holds.
    pub fn with(mut self, scan: Scan) -> Self {
        self.keys = scan.finish();
        self
    }

    /// How many keys are parked.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is parked.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The parked keys, those with the oldest heads first.
    pub fn list(&self) -> Vec<ParkedKey> {
        let mut keys: Vec<_> = self.keys.values().cloned().collect();
        keys.sort_by_key(|key| key.head.position);
        keys
    }

    /// The key that is held by the event at this position.
    pub fn held_by(&self, position: EventPosition) -> Option<(&ParkingKey, &ParkedKey)> {
        self.keys.iter().find(|(_, parked)| parked.head.position == position)
    }

    /// The state of a key.
    pub fn get(&self, key: &ParkingKey) -> Option<&ParkedKey> {
        self.keys.get(key)
    }

    /// Takes a routed row and hands on what is to be written for it: itself, its dead letter, its parked form.
    pub(crate) fn admit(
        &mut self,
        routed: Result<Record, Refusal>,
        context: &DeadLetterContext,
        mut write: impl FnMut(Record),
    ) -> Result<(), TooManyParked> {
        let key = match &routed {
            Ok(_) if self.keys.is_empty() || planted::is(Bug::ParkedPasses) => None,
            Ok(record) => ParkingKey::of(record),
            Err(refusal) => ParkingKey::of(&refusal.record),
        };
        let position =
            routed.as_ref().map_or_else(|refusal| refusal.record.position, |record| record.position);
        // A batch may hold events from before the head, which was refused as it was read: they are not held back.
        let is_behind =
            |parked: &&mut ParkedKey| parked.head.position < position || planted::is(Bug::EarlierParked);
        if let Some(key) = &key
            && let Some(parked) = self.keys.get_mut(key).filter(is_behind)
        {
            parked.events += 1;
            let record = routed.unwrap_or_else(|refusal| *refusal.record);
            write(self.parked(key, &record, None));
            return Ok(());
        }
        match (routed, key) {
            (Ok(record), _) => write(record),
            (Err(refusal), None) => write(refusal.dead_letter(context)),
            (Err(refusal), Some(key)) => {
                write(refusal.dead_letter(context));
                write(self.parked(&key, &refusal.record, Some(&refusal)));
                self.hold(key, Head::of(&refusal))?;
            }
        }
        Ok(())
    }

    /// Parks a key, or puts an earlier event at its head.
    fn hold(&mut self, key: ParkingKey, head: Head) -> Result<(), TooManyParked> {
        if let Some(parked) = self.keys.get_mut(&key) {
            parked.events += 1;
            parked.head = head;
            return Ok(());
        }
        if self.keys.len() >= self.keys_max {
            return Err(TooManyParked(self.keys.len()));
        }
        self.keys.insert(key, ParkedKey { head, events: 1 });
        Ok(())
    }

    /// Whether a record is the parked form of an event.
    pub(crate) fn is_parked(&self, record: &Record) -> bool {
        record.topic == self.topic
    }

    /// Whether a record is the parked form of an event of this key.
    pub(crate) fn is_parked_of(&self, key: &ParkingKey, record: &Record) -> bool {
        self.is_parked(record)
            && record.key.strip_prefix(&key.0[..]).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// The event that a record is the parked form of, if all of it is there.
    pub(crate) fn unpark(&self, record: &Record) -> Option<Waiting> {
        let waiting = Waiting::parse(&record.key, record.value.as_deref()?)?;
        (waiting.left_out == LeftOut::Unspecified).then_some(waiting)
    }

    /// The parked form with the payload left out, for a broker that takes less than the settings say. `None` if it
    /// cannot be made smaller.
    pub(crate) fn smaller(&self, record: &Record) -> Option<Record> {
        let mut event = ParkedEvent::decode(record.value.as_deref()?).ok()?;
        match event.left_out() {
            LeftOut::Unspecified => leave_payload_out(&mut event),
            LeftOut::Payload => leave_row_out(&mut event),
            LeftOut::Row => return None,
        }
        Some(Record { value: Some(event.encode_to_vec().into()), ..record.clone() })
    }

    /// What says that an event is parked no longer.
    pub(crate) fn tombstone(&self, key: &ParkingKey, record: &Record) -> Record {
        let key = key.record_key(record.position);
        Record {
            topic: Arc::clone(&self.topic),
            key,
            value: None,
            headers: Headers::default(),
            ..record.clone()
        }
    }

    /// The parked form of an event; `refusal` if it is the head of its key.
    pub(crate) fn parked(&self, key: &ParkingKey, record: &Record, refusal: Option<&Refusal>) -> Record {
        self.encode(key, record, parked_event(record, refusal))
    }

    /// The parked form of an event that was parked before and is the head of its key now.
    pub(crate) fn parked_again(&self, key: &ParkingKey, waiting: &Waiting, refusal: &Refusal) -> Record {
        let mut event = parked_event(&waiting.record, Some(refusal));
        if waiting.left_out != LeftOut::Unspecified {
            event.set_left_out(waiting.left_out);
            event.payload_size = i64::try_from(waiting.payload_size).unwrap_or(i64::MAX);
            event.payload_sha256.clone_from(&waiting.payload_sha256);
        }
        self.encode(key, &waiting.record, event)
    }

    /// As a record, without what would make it too large.
    fn encode(&self, key: &ParkingKey, record: &Record, mut event: ParkedEvent) -> Record {
        let fits = |event: &ParkedEvent| event.encoded_len() + NAME_BYTES_MAX * 2 <= self.record_bytes_max;
        if !fits(&event) {
            leave_payload_out(&mut event);
        }
        if !fits(&event) {
            leave_row_out(&mut event);
        }
        Record {
            topic: Arc::clone(&self.topic),
            key: key.record_key(record.position),
            value: Some(event.encode_to_vec().into()),
            headers: Headers::default(),
            ..*record
        }
    }

    /// Counts events that a release has published or discarded; `next` holds the key now.
    pub(crate) fn released(&mut self, key: &ParkingKey, events: u64, next: Option<Head>) {
        let Some(parked) = self.keys.get_mut(key) else { return };
        parked.events = parked.events.saturating_sub(events);
        if let Some(next) = next {
            parked.head = next;
        }
        if parked.events == 0 {
            self.keys.remove(key);
        }
    }

    /// Forgets a key: what of it is left is about to be published.
    pub(crate) fn free(&mut self, key: &ParkingKey) {
        self.keys.remove(key);
    }
}

impl Head {
    /// The head that a refusal makes.
    pub(crate) fn of(refusal: &Refusal) -> Self {
        Self::new(&refusal.record, refusal.reason, refusal.message.clone())
    }

    fn without_reason(position: EventPosition) -> Self {
        Self {
            position,
            reason: Reason::Unspecified,
            message: "the topic of parked events does not tell why".to_owned(),
            event_id: String::new(),
            event_type: String::new(),
            subject: String::new(),
            committed_at_us: 0,
        }
    }

    fn new(record: &Record, reason: Reason, message: String) -> Self {
        let text = |name| record.headers.get(name).map_or_else(String::new, crate::dead_letter::clipped);
        Self {
            position: record.position,
            reason,
            message,
            event_id: text(header::ID),
            event_type: text(header::TYPE),
            subject: text(header::SUBJECT),
            committed_at_us: record.committed_at_us,
        }
    }
}

fn parked_event(record: &Record, refusal: Option<&Refusal>) -> ParkedEvent {
    let payload = record.value.as_deref().unwrap_or_default();
    let headers = record.headers.iter();
    ParkedEvent {
        key: record.key.to_vec(),
        headers: headers
            .map(|(name, value)| event::Header { name: name.to_owned(), value: value.to_vec() })
            .collect(),
        payload: record.value.as_ref().map(|value| value.to_vec()),
        left_out: LeftOut::Unspecified.into(),
        payload_size: i64::try_from(payload.len()).unwrap_or(i64::MAX),
        payload_sha256: Sha256::digest(payload).to_vec(),
        decode_time: Some(timestamp(record.decoded_at_ms.saturating_mul(1_000))),
        commit_time: Some(timestamp(record.committed_at_us)),
        reason: refusal.map_or(Reason::Unspecified, |refusal| refusal.reason).into(),
        message: refusal.map_or_else(String::new, |refusal| refusal.message.clone()),
    }
}

fn leave_payload_out(event: &mut ParkedEvent) {
    event.payload = None;
    event.set_left_out(LeftOut::Payload);
}

/// The few headers that tell which event it was are short or cut.
fn leave_row_out(event: &mut ParkedEvent) {
    leave_payload_out(event);
    event.set_left_out(LeftOut::Row);
    event.key.truncate(NAME_BYTES_MAX);
    event.headers.retain(|header| {
        matches!(&*header.name, header::ID | header::TYPE | header::SUBJECT | header::POSITION)
    });
    for header in &mut event.headers {
        header.value.truncate(NAME_BYTES_MAX);
    }
}

/// A parked event as it comes back from the topic.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The record to be, but for its topic, and without what was left out.
    pub record: Record,
    /// What was left out.
    pub left_out: LeftOut,
    /// The size of the whole payload, in bytes.
    pub payload_size: usize,
    /// The SHA-256 of the whole payload.
    pub payload_sha256: Vec<u8>,
    /// Why it could not be published, if it is the head of its key.
    pub reason: Reason,
    message: String,
}

impl Waiting {
    /// Reads a record of the topic.
    pub fn parse(record_key: &[u8], value: &[u8]) -> Option<Self> {
        let (_, position) = ParkingKey::parse(record_key)?;
        let event = ParkedEvent::decode(value).ok()?;
        let (reason, left_out) = (event.reason(), event.left_out());
        let headers = event.headers.iter().map(|header| (header.name.as_str(), &header.value[..]));
        let record = Record {
            topic: Arc::from(""),
            headers: headers.collect(),
            header_set: HeaderSet::CloudEvents,
            key: event.key.into(),
            value: event.payload.map(Into::into),
            decoded_at_ms: event.decode_time.as_ref().map_or(0, unix_us) / 1_000,
            committed_at_us: event.commit_time.as_ref().map_or(0, unix_us),
            position,
        };
        let payload_size = usize::try_from(event.payload_size).unwrap_or(usize::MAX);
        Some(Self {
            record,
            left_out,
            payload_size,
            payload_sha256: event.payload_sha256,
            reason,
            message: event.message,
        })
    }

    /// The outbox row's id.
    pub fn event_id(&self) -> Option<&str> {
        self.record.headers.get(header::ID).and_then(|id| str::from_utf8(id).ok())
    }

    /// Puts in the payload that was left out, if this is the one.
    pub fn complete(&mut self, payload: Vec<u8>) {
        if payload.len() == self.payload_size && *Sha256::digest(&payload) == *self.payload_sha256 {
            self.record.value = Some(payload.into());
            self.left_out = LeftOut::Unspecified;
        }
    }
}

fn unix_us(time: &pbjson_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1_000)
}

/// Learns from the topic's records, in their order, what is parked.
#[derive(Debug, Default)]
pub struct Scan(HashMap<ParkingKey, BTreeMap<EventPosition, Option<Box<Head>>>>);

impl Scan {
    /// Takes the next record. What is not ours is passed over.
    pub fn take(&mut self, record_key: &[u8], value: Option<&[u8]>) {
        let Some((key, position)) = ParkingKey::parse(record_key) else { return };
        let Some(value) = value else {
            if let Some(events) = self.0.get_mut(&key) {
                events.remove(&position);
            }
            return;
        };
        let Some(waiting) = Waiting::parse(record_key, value) else { return };
        let is_head = waiting.reason != Reason::Unspecified;
        let head = is_head.then(|| Box::new(Head::new(&waiting.record, waiting.reason, waiting.message)));
        self.0.entry(key).or_default().insert(position, head);
    }

    /// Whether nothing is parked.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeMap::is_empty)
    }

    fn finish(self) -> HashMap<ParkingKey, ParkedKey> {
        let keys = self.0.into_iter().filter_map(|(key, events)| {
            let count = events.len() as u64;
            let (position, head) = events.into_iter().next()?;
            // The first was parked with its reason, and a release puts the next in its place in one transaction.
            let head = head.map_or_else(|| Head::without_reason(position), |head| *head);
            Some((key, ParkedKey { head, events: count }))
        });
        keys.collect()
    }
}
