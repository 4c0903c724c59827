//! What the relay hands to Kafka: records, and batches of them with the position they carry the topics to.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use crate::headers::Headers;
use crate::position::Position;
use crate::transaction::EventPosition;

/// One Kafka record. Cheap to clone: the bytes are shared with the frame they came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic; the partition follows from the key.
    pub topic: Arc<str>,
    /// The aggregate id.
    pub key: Bytes,
    /// The payload, byte for byte; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in the order they are written.
    pub headers: Headers,
    /// Which of them are sent.
    pub header_set: HeaderSet,
    /// The identity of the event.
    pub position: EventPosition,
    /// When the relay decoded the event, in milliseconds since 1970 (the record's CreateTime).
    pub decoded_at_ms: i64,
    /// When the event's transaction was committed, in microseconds since 1970.
    pub committed_at_us: i64,
}

impl Record {
    /// What one record costs the broker beside the bytes of its own: an upper bound of Kafka's framing.
    const FRAMING_BYTES: usize = 96;

    /// The size of the record on the wire, in bytes, rounded up.
    pub fn wire_size(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        Self::FRAMING_BYTES + self.key.len() + value + self.sent_headers_size()
    }

    /// The headers as they are sent.
    pub fn sent_headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let set = self.header_set;
        self.headers.iter().filter_map(move |(name, value)| Some((set.sent_name(name)?, value)))
    }

    /// As much as [`Headers::size`] says, of those that are sent.
    fn sent_headers_size(&self) -> usize {
        match self.header_set {
            HeaderSet::CloudEvents => self.headers.size(),
            HeaderSet::Debezium | HeaderSet::Minimal => self
                .sent_headers()
                .map(|(name, value)| Headers::PREFIX_BYTES + name.len() + value.len())
                .sum(),
        }
    }

    /// What the record costs in memory while it waits, in bytes.
    pub fn memory_size(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        Self::FRAMING_BYTES + self.key.len() + value + self.headers.size() + size_of::<Self>()
    }
}

/// Which headers an event is sent with. They cost the broker as much as payload does.
///
/// The relay itself always has all of them: what is parked or a dead letter is kept with all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeaderSet {
    /// CloudEvents' binary mode, the position, owner and version, and the row's own headers.
    #[default]
    CloudEvents,
    /// `id` and `eventType`, as Debezium's outbox event router writes them, and the row's own headers.
    Debezium,
    /// `ce_id` and `ce_type`, and the row's own headers.
    Minimal,
}

impl HeaderSet {
    /// The name under which a header is sent; `None` if it is left out.
    fn sent_name(self, name: &str) -> Option<&str> {
        match (self, name) {
            (Self::CloudEvents, _) | (Self::Minimal, header::ID | header::TYPE) => Some(name),
            (Self::Debezium, header::ID) => Some(header::DEBEZIUM_ID),
            (Self::Debezium, header::TYPE) => Some(header::DEBEZIUM_TYPE),
            // Two headers of one name would leave it to the reader which one counts.
            (Self::Debezium, header::DEBEZIUM_ID | header::DEBEZIUM_TYPE) => None,
            (Self::Debezium | Self::Minimal, _) => Some(name).filter(|name| !header::is_reserved(name)),
        }
    }
}

/// The names of the headers that every record carries.
pub mod header {
    /// CloudEvents: the version of the specification.
    pub const SPEC_VERSION: &str = "ce_specversion";
    /// CloudEvents: the outbox row's id.
    pub const ID: &str = "ce_id";
    /// CloudEvents: the event's type.
    pub const TYPE: &str = "ce_type";
    /// CloudEvents: the relay's source.
    pub const SOURCE: &str = "ce_source";
    /// CloudEvents: the aggregate.
    pub const SUBJECT: &str = "ce_subject";
    /// CloudEvents: the commit time.
    pub const TIME: &str = "ce_time";
    /// The media type of the value.
    pub const CONTENT_TYPE: &str = "content-type";
    /// The event's position, `final_lsn/ordinal`.
    pub const POSITION: &str = "tailrace_position";
    /// The user who may see the event.
    pub const OWNER: &str = "tailrace_owner";
    /// The aggregate's version.
    pub const AGGREGATE_VERSION: &str = "tailrace_aggregate_version";
    /// Debezium: the outbox row's id.
    pub const DEBEZIUM_ID: &str = "id";
    /// Debezium: the event's type.
    pub const DEBEZIUM_TYPE: &str = "eventType";

    /// Whether only the relay itself writes a header of this name.
    pub fn is_reserved(name: &str) -> bool {
        name.is_empty() || name.starts_with("ce_") || name.starts_with("tailrace_") || name == CONTENT_TYPE
    }
}

/// Records in commit order, and the position that is true once they are in Kafka: one Kafka transaction, if events are
/// delivered exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The records; empty when only the position moves.
    pub records: Vec<Record>,
    /// The position that the transaction carries along.
    pub position: Position,
    /// Send every record in a request of its own, so that a refusal names the one it means.
    pub one_by_one: bool,
    /// Records and position are there together or not at all, even where events are delivered at least once.
    pub is_atomic: bool,
}

impl Batch {
    /// Records to be sent together, and the position behind them.
    pub(crate) fn new(records: Vec<Record>, position: Position) -> Self {
        Self { records, position, one_by_one: false, is_atomic: false }
    }
}

/// How a batch, or the recording of a position, ended. Anything else is unknown, and the source starts again from its position.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Records and position are in Kafka.
    Committed,
    /// The records are in Kafka, their position is not yet.
    Delivered,
    /// The position that was to be recorded is in Kafka.
    Recorded,
    /// The broker refuses these records for what they are (too large); a transaction was aborted for it.
    Refused {
        /// Indexes into the batch's records.
        indexes: Vec<usize>,
        /// The broker's words.
        message: String,
    },
}
