//! A record of the users' topics becomes a change of what is known, or the reason why it cannot be read. Pure.

use serde::Deserialize;
use tailrace_runtime::resource;
use tailrace_topics::Record;

const COLLECTION: &str = "users";

/// Headers, as the relay writes them.
const ID: &str = "ce_id";
const TYPE: &str = "ce_type";
const VERSION: &str = "tailrace_aggregate_version";

/// The longest that is kept of a header of an event that cannot be read, in characters.
const KEPT_CHARACTERS_MAX: usize = 200;

/// What was read at an offset.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(super) offset: i64,
    pub(super) read: Read,
}

/// What a record tells.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Read {
    /// The user of that name has that version, and is deleted or not.
    Change { user: String, version: i64, deleted: bool },
    /// It cannot be read.
    Not { event_id: String, event_type: String, reason: Unreadable },
}

/// Why an event cannot be read. No word of its payload is in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the header {TYPE} is missing: the route must send the headers `cloudevents`")]
    NoType,
    #[error("its type is not known here")]
    UnknownType,
    #[error(
        "the header {VERSION} is missing or is no version: the route must send the headers `cloudevents`"
    )]
    NoVersion,
    #[error("it has no payload")]
    NoPayload,
    #[error("its payload is not JSON with the name of a user, at line {line}, column {column}")]
    Payload { line: usize, column: usize },
    #[error("`user` in its payload is no name of a user")]
    NoName,
}

/// What all three payloads have in common. A later version of them may have more.
#[derive(Deserialize)]
struct Payload {
    user: String,
}

impl Entry {
    pub(super) fn read(offset: i64, record: &Record<'_>) -> Self {
        let read = change(record).unwrap_or_else(|reason| {
            let kept =
                |name| record.header(name).unwrap_or_default().chars().take(KEPT_CHARACTERS_MAX).collect();
            Read::Not { event_id: kept(ID), event_type: kept(TYPE), reason }
        });
        Self { offset, read }
    }

    /// Whom it is about.
    pub(super) fn user(&self) -> Option<&str> {
        match &self.read {
            Read::Change { user, .. } => Some(user),
            Read::Not { .. } => None,
        }
    }
}

fn change(record: &Record<'_>) -> Result<Read, Unreadable> {
    let deleted = match record.header(TYPE).ok_or(Unreadable::NoType)? {
        "users.created.v1" | "users.updated.v1" => false,
        "users.deleted.v1" => true,
        _ => return Err(Unreadable::UnknownType),
    };
    let version = record.header(VERSION).and_then(|text| text.parse().ok()).filter(|version| *version > 0);
    let version = version.ok_or(Unreadable::NoVersion)?;
    let payload = record.value.ok_or(Unreadable::NoPayload)?;
    let payload: Payload = serde_json::from_slice(payload)
        .map_err(|error| Unreadable::Payload { line: error.line(), column: error.column() })?;
    if resource::id(COLLECTION, &payload.user).is_none() {
        return Err(Unreadable::NoName);
    }
    Ok(Read::Change { user: payload.user, version, deleted })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: &str = "users/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11";

    fn read(event_type: &str, version: &str, payload: Option<&str>) -> Read {
        let headers =
            vec![(ID, "1".as_bytes()), (TYPE, event_type.as_bytes()), (VERSION, version.as_bytes())];
        let headers = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let record = Record { value: payload.map(str::as_bytes), headers, ..Record::default() };
        Entry::read(7, &record).read
    }

    #[test]
    fn every_event_of_a_user_tells_whether_he_is_there() {
        let payload = format!(r#"{{"user":"{ADA}","nickname":"of a later version"}}"#);
        for (event_type, deleted) in
            [("users.created.v1", false), ("users.updated.v1", false), ("users.deleted.v1", true)]
        {
            let expected = Read::Change { user: ADA.to_owned(), version: 3, deleted };
            assert_eq!(read(event_type, "3", Some(&payload)), expected, "{event_type}");
        }
    }

    #[test]
    fn what_cannot_be_read_has_a_reason() {
        let good = format!(r#"{{"user":"{ADA}"}}"#);
        let check = |event_type: &str, version: &str, payload: Option<&str>, expected: Unreadable| {
            let Read::Not { event_id, event_type: kept, reason } = read(event_type, version, payload) else {
                panic!("{expected}: it was read");
            };
            assert_eq!((event_id.as_str(), kept.as_str(), reason), ("1", event_type, expected));
        };
        check("", "1", Some(&good), Unreadable::NoType);
        check("users.created.v2", "1", Some(&good), Unreadable::UnknownType);
        check("users.created.v1", "", Some(&good), Unreadable::NoVersion);
        check("users.created.v1", "0", Some(&good), Unreadable::NoVersion);
        check("users.created.v1", "one", Some(&good), Unreadable::NoVersion);
        check("users.created.v1", "1", None, Unreadable::NoPayload);
        check("users.created.v1", "1", Some("{"), Unreadable::Payload { line: 1, column: 1 });
        check("users.created.v1", "1", Some("{}"), Unreadable::Payload { line: 1, column: 2 });
        check("users.created.v1", "1", Some(r#"{"user":"users/1"}"#), Unreadable::NoName);
    }
}
