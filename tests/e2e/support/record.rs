//! An event as it lies in a topic, whether Kafka or the gateway told us of it.

use std::collections::BTreeMap;

use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use tailrace::event::v1::Event;

/// What a Kafka consumer and a subscriber of the gateway must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) payload: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Record {
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name} in {self:?}"))
    }

    /// The id of the outbox row.
    pub(crate) fn id(&self) -> &str {
        self.header("ce_id")
    }

    pub(crate) fn version(&self) -> i64 {
        self.header("tailrace_aggregate_version").parse().expect("a number")
    }

    /// Where the row stands in the write-ahead log: its transaction's commit, and its place in there.
    pub(crate) fn position(&self) -> (u64, u64) {
        let text = self.header("tailrace_position");
        let (lsn, ordinal) = text.rsplit_once('/').expect("final_lsn/ordinal");
        (parse_lsn(lsn), ordinal.parse().expect("a number"))
    }
}

impl From<&BorrowedMessage<'_>> for Record {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: text(message.key().unwrap_or_default()),
            payload: text(message.payload().unwrap_or_default()),
            headers: headers
                .map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default())))
                .collect(),
        }
    }
}

impl From<&Event> for Record {
    fn from(event: &Event) -> Self {
        Self {
            topic: event.topic.clone(),
            partition: event.partition,
            offset: event.offset,
            key: text(&event.key),
            payload: text(&event.payload),
            headers: event.headers.iter().map(|header| (header.name.clone(), text(&header.value))).collect(),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// A position in the write-ahead log from its text, such as `0/16B3748`.
#[track_caller]
pub(crate) fn parse_lsn(text: &str) -> u64 {
    let half = |digits| u64::from_str_radix(digits, 16).expect("hexadecimal digits");
    let (high, low) = text.split_once('/').unwrap_or_else(|| panic!("{text:?} is no position"));
    half(high) << 32 | half(low)
}
