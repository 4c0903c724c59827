//! What was committed arrives, once acknowledged does not come again, and nothing falls in between.

use bytes::Bytes;
use cdc_relay::source::{ReplicationConnection, SourceErrorKind, StreamOptions};
use replication_protocol::pgoutput::Column;
use replication_protocol::{CopyData, Lsn};

use crate::support::{DEADLINE, PUBLICATION, Server, eventually, soon, start, status};

#[tokio::test]
async fn committed_rows_arrive_whole_and_in_order_and_rolled_back_ones_do_not() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    database.execute("insert into outbox values (1, '{\"a\":  1}')").await;
    database.execute("begin; insert into outbox values (2, '{}'); rollback").await;
    database.execute("begin; insert into outbox values (3, '{}'), (4, null); commit").await;

    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    let first = tail.transaction().await.unwrap();
    assert_eq!(first.numbers, [1]);
    assert_eq!(
        first.payloads,
        [Column::Binary(Bytes::from_static(b"{\"a\":  1}"))],
        "json is passed as written"
    );
    let second = tail.transaction().await.unwrap();
    assert_eq!(second.numbers, [3, 4]);
    assert_eq!(second.payloads[1], Column::Null);
    assert!(second.commit.commit_lsn >= first.commit.end_lsn);
    // Written while the stream is open.
    database.execute("insert into outbox values (5, '{}')").await;
    assert_eq!(tail.transaction().await.unwrap().numbers, [5]);
    tail.finish(Lsn::ZERO).await;
    database.drop_slot().await;
}

#[tokio::test]
async fn a_slot_can_be_made_and_streamed_on_one_connection() {
    let database = Server::shared().await.database().await;
    let mut connection = database.connect().await;
    connection.create_slot(&database.slot, DEADLINE).await.unwrap();
    let mut tail = start(connection, &database.slot, PUBLICATION, Lsn::ZERO).await.unwrap();
    database.execute("insert into outbox values (1, '{}')").await;
    assert_eq!(tail.transaction().await.unwrap().numbers, [1]);
    tail.finish(Lsn::ZERO).await;
    database.drop_slot().await;
}

#[tokio::test]
async fn the_end_of_a_commit_acknowledges_it_and_not_the_next() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    for number in 1..=3 {
        database.execute(&format!("insert into outbox values ({number}, '{{}}')")).await;
    }
    for number in 1..=3 {
        let mut tail = database.start(Lsn::ZERO).await.unwrap();
        let transaction = tail.transaction().await.unwrap();
        assert_eq!(transaction.numbers, [number], "neither repeated nor lost");
        tail.finish(transaction.commit.end_lsn).await;
        assert_eq!(database.confirmed().await, transaction.commit.end_lsn);
    }
    database.drop_slot().await;
}

#[tokio::test]
async fn the_start_of_a_commit_does_not_acknowledge_it() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    database.execute("insert into outbox values (1, '{}')").await;
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    let first = tail.transaction().await.unwrap();
    tail.finish(first.commit.commit_lsn).await;
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    assert_eq!(tail.transaction().await.unwrap().commit, first.commit);
    tail.finish(Lsn::ZERO).await;
    database.drop_slot().await;
}

#[tokio::test]
async fn the_place_asked_for_leaves_out_what_is_before_it_and_cannot_go_back() {
    let database = Server::shared().await.database().await;
    let created = database.create_slot().await;
    database.execute("insert into outbox values (1, '{}')").await;
    database.execute("insert into outbox values (2, '{}')").await;
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    let first = tail.transaction().await.unwrap();
    tail.finish(Lsn::ZERO).await;
    assert!(database.confirmed().await < first.commit.end_lsn, "a flush of zero moves nothing");

    let mut tail = database.start(first.commit.end_lsn).await.unwrap();
    let second = tail.transaction().await.unwrap();
    assert_eq!(second.numbers, [2]);
    tail.finish(second.commit.end_lsn).await;

    // The server forwards a place before the confirmed one without saying so.
    let mut tail = database.start(created).await.unwrap();
    database.execute("insert into outbox values (3, '{}')").await;
    assert_eq!(tail.transaction().await.unwrap().numbers, [3]);
    tail.finish(Lsn::ZERO).await;
    database.drop_slot().await;
}

#[tokio::test]
async fn a_status_is_taken_while_the_stream_goes_on() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    database.execute("insert into outbox values (1, '{}')").await;
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    let end_lsn = tail.transaction().await.unwrap().commit.end_lsn;
    tail.stream.writer.send_status(status(end_lsn, false)).await.unwrap();
    assert!(tail.stream.writer.is_idle());
    eventually("the slot has moved", async || database.confirmed().await == end_lsn).await;
    database.execute("insert into outbox values (2, '{}')").await;
    assert_eq!(tail.transaction().await.unwrap().numbers, [2]);
    tail.finish(Lsn::ZERO).await;
    database.drop_slot().await;
}

#[tokio::test]
async fn a_keepalive_that_is_asked_for_comes_and_reaches_the_end() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    database.execute("insert into outbox values (1, '{}')").await;
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    let end_lsn = tail.transaction().await.unwrap().commit.end_lsn;
    tail.stream.writer.send_status(status(end_lsn, true)).await.unwrap();
    assert!(tail.keepalive().await.wal_end >= end_lsn);
    tail.finish(end_lsn).await;
    database.drop_slot().await;
}

#[tokio::test]
async fn the_last_of_several_queued_states_is_the_one_that_is_sent() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    database.execute("insert into outbox values (1, '{}')").await;
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    let commit = tail.transaction().await.unwrap().commit;
    tail.stream.writer.queue(status(commit.commit_lsn, false));
    tail.stream.writer.queue(status(commit.end_lsn, true));
    tail.stream.writer.flush().await.unwrap();
    tail.keepalive().await;
    eventually("the slot has moved", async || database.confirmed().await == commit.end_lsn).await;
    tail.finish(commit.end_lsn).await;
    database.drop_slot().await;
}

#[tokio::test]
async fn logical_messages_come_when_asked_for_and_only_then() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    let emit = "begin; select pg_logical_emit_message(true, 'mine', 'x'); insert into outbox values (1, '{}'); commit";
    database.execute(emit).await;
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    assert_eq!(tail.transaction().await.unwrap().prefixes, ["mine"]);
    tail.finish(Lsn::ZERO).await;

    let options = StreamOptions { messages: false };
    let connection = database.connect().await;
    let mut stream =
        connection.start_replication(&database.slot, PUBLICATION, Lsn::ZERO, options).await.unwrap();
    let mut tags = Vec::new();
    while tags.last() != Some(&b'C') {
        let mut bodies = Vec::new();
        soon(stream.reader.next_frames(&mut bodies)).await.unwrap().unwrap();
        tags.extend(bodies.into_iter().filter_map(plugin_tag));
    }
    assert_eq!(tags, b"BRIC");
    stream.finish(status(Lsn::ZERO, false), DEADLINE).await.unwrap();
    database.drop_slot().await;
}

#[tokio::test]
async fn a_row_larger_than_any_read_arrives_whole() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    database.execute("insert into outbox values (1, to_json(repeat('x', 3000000)))").await;
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    let transaction = tail.transaction().await.unwrap();
    let [Column::Binary(payload)] = &transaction.payloads[..] else { panic!("one payload") };
    assert_eq!(payload.len(), 3_000_002);
    tail.finish(transaction.commit.end_lsn).await;
    database.drop_slot().await;
}

#[tokio::test]
async fn a_row_above_the_limit_ends_the_stream_and_says_what_to_do() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    database.execute("insert into outbox values (1, to_json(repeat('x', 3000000)))").await;
    let mut options = database.options();
    options.frame_bytes_max = 1 << 20;
    let connection = ReplicationConnection::connect(&options).await.unwrap();
    let mut tail = start(connection, &database.slot, PUBLICATION, Lsn::ZERO).await.unwrap();
    let error = tail.transaction().await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Halt);
    assert!(error.to_string().contains("above the limit of 1048576 bytes; raise the limit"), "{error}");
    drop(tail);
    database.drop_slot().await;
}

#[tokio::test]
async fn a_backlog_of_many_transactions_comes_without_a_gap() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    let each =
        "do $$ begin for n in 1..2000 loop insert into outbox values (n, '{}'); commit; end loop; end $$";
    database.execute(each).await;
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    let mut last = Lsn::ZERO;
    for number in 1..=2000 {
        let transaction = tail.transaction().await.unwrap();
        assert_eq!(transaction.numbers, [number]);
        assert!(transaction.commit.commit_lsn >= last);
        last = transaction.commit.end_lsn;
    }
    tail.finish(last).await;
    assert_eq!(database.confirmed().await, last);
    database.drop_slot().await;
}

/// The kind of a plugin message.
fn plugin_tag(body: Bytes) -> Option<u8> {
    if let CopyData::XLogData(piece) = CopyData::parse(body).unwrap() {
        piece.data.first().copied()
    } else {
        None
    }
}
