//! What Postgres 15 sent is read as what it meant.

use bytes::Bytes;
use replication_protocol::CopyData;
use replication_protocol::pgoutput::{Column, Message, Relation, ReplicaIdentity, Tuple};

use crate::sessions::{BINARY, TEXT, bodies, messages};

#[test]
fn a_session_reads_as_the_statements_that_made_it() {
    let expected = [
        "Begin",
        "Relation outbox",
        "Insert",
        "Commit", // one row
        "Begin",
        "Insert",
        "Insert",
        "Message outbox hello",
        "Commit",                  // two rows and a message
        "Message beat  (outside)", // not transactional
        "Begin",
        "Type colour",
        "Relation other",
        "Insert",
        "Commit", // another table
        "Begin",
        "Update",
        "Commit", // neither key nor large value changed
        "Begin",
        "Update old",
        "Commit", // the key changed
        "Begin",
        "Type colour",
        "Relation other",
        "Update old",
        "Commit", // replica identity full
        "Begin",
        "Delete",
        "Commit", //
        "Begin",
        "Type colour",
        "Relation other",
        "Relation outbox",
        "Truncate 2",
        "Commit", //
        "Begin",
        "Origin elsewhere 0/ABCDEF",
        "Relation outbox",
        "Insert",
        "Commit", // replayed from elsewhere
    ];
    for session in [BINARY, TEXT] {
        assert_eq!(messages(session).iter().map(summary).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_relation_names_its_columns_types_and_key() {
    let messages = messages(BINARY);
    let outbox = relation(&messages, "outbox");
    assert_eq!(outbox.namespace, "public");
    assert_eq!(outbox.replica_identity, ReplicaIdentity::Default);
    let columns: Vec<_> =
        outbox.columns.iter().map(|column| (column.key, &*column.name, column.type_oid)).collect();
    assert_eq!(
        columns,
        [
            (true, "id", 2950),
            (false, "aggregate_type", 25),
            (false, "aggregate_version", 20),
            (false, "payload", 114),
            (false, "headers", 114),
        ]
    );
    assert!(outbox.columns.iter().all(|column| column.type_modifier == -1));
}

#[test]
fn a_binary_row_is_the_bytes_of_the_send_functions() {
    let id = b"\0\0\0\0\0\0\x70\0\x80\0\0\0\0\0\0\x01";
    assert_eq!(
        columns(&first_insert(BINARY)),
        [
            Column::Binary(Bytes::from_static(id)),
            Column::Binary(Bytes::from_static(b"users")),
            Column::Binary(Bytes::from_static(b"\0\0\0\0\0\0\0\x01")),
            Column::Binary(Bytes::from_static("{\"name\": \"Zoë\"}".as_bytes())),
            Column::Null,
        ]
    );
}

#[test]
fn a_text_row_is_text() {
    let text = |value: &'static str| Column::Text(Bytes::from_static(value.as_bytes()));
    assert_eq!(
        columns(&first_insert(TEXT)),
        [
            text("00000000-0000-7000-8000-000000000001"),
            text("users"),
            text("1"),
            text("{\"name\": \"Zoë\"}"),
            Column::Null,
        ]
    );
}

#[test]
fn a_large_value_that_did_not_change_is_not_sent() {
    let update = messages(BINARY)
        .into_iter()
        .find_map(|message| if let Message::Update(update) = message { Some(update) } else { None })
        .unwrap();
    assert_eq!(update.old, None);
    assert_eq!(columns(&update.new)[1..], [Column::Null, Column::Unchanged]);
}

#[test]
fn a_commit_ends_after_the_place_its_begin_announced_and_commits_rise() {
    let mut announced = None;
    let mut last_end = None;
    for message in messages(BINARY) {
        if let Message::Begin(begin) = message {
            announced = Some(begin);
        } else if let Message::Commit(commit) = message {
            let begin = announced.take().unwrap();
            assert_eq!((commit.commit_lsn, commit.commit_time), (begin.final_lsn, begin.commit_time));
            assert!(commit.end_lsn > commit.commit_lsn);
            assert!(last_end.is_none_or(|end| begin.final_lsn >= end));
            last_end = Some(commit.end_lsn);
        }
    }
    assert!(last_end.is_some());
}

#[test]
fn a_commit_time_is_the_servers_clock() {
    // The last transaction was written with this origin timestamp: 2026-01-02 03:04:05 UTC.
    let commit = messages(BINARY).pop().unwrap();
    let Message::Commit(commit) = commit else { panic!("the session ends with {commit:?}") };
    assert_eq!(commit.commit_time.unix_micros(), 1_767_323_045_000_000);
}

#[test]
fn a_keepalive_reaches_the_end_of_the_last_commit() {
    let last = CopyData::parse(bodies(BINARY).pop().unwrap()).unwrap();
    let CopyData::PrimaryKeepalive(keepalive) = last else { panic!("the session ends with {last:?}") };
    let Some(Message::Commit(commit)) = messages(BINARY).pop() else { panic!("no commit at the end") };
    assert_eq!(keepalive.wal_end, commit.end_lsn);
    assert!(!keepalive.reply_requested);
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
            let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            let place = if message.transactional { "" } else { " (outside)" };
            format!("Message {} {}{place}", text(&message.prefix), text(&message.content))
        }
        Message::Unknown(tag) => format!("Unknown {tag}"),
    }
}

fn relation<'m>(messages: &'m [Message], name: &str) -> &'m Relation {
    messages
        .iter()
        .filter_map(|message| if let Message::Relation(relation) = message { Some(relation) } else { None })
        .find(|relation| relation.name == name)
        .unwrap()
}

fn first_insert(session: &str) -> Tuple {
    messages(session)
        .into_iter()
        .find_map(|message| if let Message::Insert(insert) = message { Some(insert.new) } else { None })
        .unwrap()
}

fn columns(tuple: &Tuple) -> Vec<Column> {
    assert_eq!(tuple.columns().len(), tuple.len());
    tuple.into_iter().collect()
}
