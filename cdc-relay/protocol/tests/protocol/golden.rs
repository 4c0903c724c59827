//! What Postgres 14, 15 and 18 sent is read as what it meant.

use bytes::Bytes;
use replication_protocol::CopyData;
use replication_protocol::pgoutput::{Column, Message, Relation, ReplicaIdentity, Tuple};

use crate::listing::{EXPECTED, listing};
use crate::sessions::{BINARY, BINARY_14, BINARY_18, TEXT, bodies, messages};

#[test]
fn a_session_reads_as_the_statements_that_made_it() {
    for session in [BINARY_14, BINARY, TEXT, BINARY_18] {
        assert_eq!(listing(&messages(session)), EXPECTED);
    }
}

#[test]
fn only_servers_before_15_send_transactions_that_hold_nothing() {
    for (session, sends) in [(BINARY_14, true), (BINARY, false), (BINARY_18, false)] {
        assert_eq!(messages(session).len() > EXPECTED.len(), sends);
    }
}

#[test]
fn every_version_sends_the_same_rows() {
    let rows = |session| -> Vec<Vec<Column>> {
        let inserts = messages(session).into_iter().filter_map(|message| match message {
            Message::Insert(insert) => Some(columns(&insert.new)),
            Message::Begin(_)
            | Message::Commit(_)
            | Message::Origin(_)
            | Message::Relation(_)
            | Message::Type(_)
            | Message::Update(_)
            | Message::Delete(_)
            | Message::Truncate(_)
            | Message::Message(_)
            | Message::Unknown(_) => None,
        });
        inserts.collect()
    };
    let expected = rows(BINARY_14);
    assert_eq!(expected.len(), 5);
    assert_eq!(rows(BINARY_18), expected);
    assert_eq!(rows(BINARY)[0], expected[0]);
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
    for session in [BINARY_14, BINARY, BINARY_18] {
        check_commits(session);
    }
}

#[track_caller]
fn check_commits(session: &str) {
    let mut announced = None;
    let mut last_end = None;
    for message in messages(session) {
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
