//! The statements behind the recorded sessions, and how a session reads.

use bytes::Bytes;
use replication_protocol::pgoutput::Message;

/// What a session of the statements reads as, empty transactions aside.
pub(crate) const EXPECTED: &[&str] = &[
    // one row
    "Begin",
    "Relation outbox",
    "Insert",
    "Commit",
    // two rows and a message
    "Begin",
    "Insert",
    "Insert",
    "Message outbox hello",
    "Commit",
    // not transactional
    "Message beat  (outside)",
    // another table
    "Begin",
    "Type colour",
    "Relation other",
    "Insert",
    "Commit",
    // neither key nor large value changed
    "Begin",
    "Update",
    "Commit",
    // the key changed
    "Begin",
    "Update old",
    "Commit",
    // replica identity full
    "Begin",
    "Type colour",
    "Relation other",
    "Update old",
    "Commit",
    "Begin",
    "Delete",
    "Commit",
    "Begin",
    "Type colour",
    "Relation other",
    "Relation outbox",
    "Truncate 2",
    "Commit",
    // replayed from elsewhere
    "Begin",
    "Origin elsewhere 0/ABCDEF",
    "Relation outbox",
    "Insert",
    "Commit",
];

/// The messages in words, without transactions that hold nothing: servers before 15 send them.
pub(crate) fn listing<'m>(messages: impl IntoIterator<Item = &'m Message>) -> Vec<String> {
    let mut listing: Vec<String> = Vec::new();
    for message in messages {
        let is_empty =
            matches!(message, Message::Commit(_)) && listing.last().is_some_and(|last| last == "Begin");
        if is_empty {
            listing.pop();
        } else {
            listing.push(summary(message));
        }
    }
    listing
}

fn summary(message: &Message) -> String {
    match message {
        Message::Begin(_) => "Begin".into(),
        Message::Commit(_) => "Commit".into(),
        Message::Origin(origin) => format!("Origin {} {}", origin.name, origin.commit_lsn),
        Message::Relation(relation) => format!("Relation {}", relation.name),
        Message::Type(named) => format!("Type {}", named.name),
        Message::Insert(_) => "Insert".into(),
        Message::Update(update) => if update.old.is_some() { "Update old" } else { "Update" }.into(),
        Message::Delete(_) => "Delete".into(),
        Message::Truncate(truncate) => format!("Truncate {}", truncate.relation_oids.len()),
        Message::Message(message) => {
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
            let place = if message.transactional { "" } else { " (outside)" };
            format!("Message {} {}{place}", text(&message.prefix), text(&message.content))
        }
        Message::Unknown(tag) => format!("Unknown {tag}"),
    }
}
