//! The other side goes away: a stream says so, and that it is worth coming back.

use std::sync::Arc;
use std::time::Duration;

use cdc_relay::source::{ReplicationConnection, SourceErrorKind};
use replication_protocol::{CopyData, Lsn};

use crate::support::{PUBLICATION, Server, eventually, start, status};

#[tokio::test]
async fn a_killed_server_is_worth_another_try_and_comes_back_with_the_same_rows() {
    let server = Server::start(&[]).await;
    let database = server.database().await;
    database.create_slot().await;
    database.execute("insert into outbox values (1, '{}')").await;
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    let first = tail.transaction().await.unwrap();
    server.postgres.crash();
    let error = loop {
        if let Err(error) = tail.next().await {
            break error;
        }
    };
    assert_eq!(error.kind(), SourceErrorKind::Retry, "{error}");
    let error = ReplicationConnection::connect(&database.options()).await.err().unwrap();
    assert_eq!(error.kind(), SourceErrorKind::Retry, "{error}");

    server.postgres.restart().unwrap();
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    assert_eq!(tail.transaction().await.unwrap().commit, first.commit);
}

#[tokio::test]
async fn a_server_that_stops_waits_for_the_last_word_and_then_ends_the_stream() {
    let server = Arc::new(Server::start(&[]).await);
    let database = server.database().await;
    database.create_slot().await;
    database.execute("insert into outbox values (1, '{}')").await;
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    tail.transaction().await.unwrap();
    let stopped = Arc::clone(&server);
    let stopping = tokio::task::spawn_blocking(move || stopped.postgres.stop());
    let error = loop {
        match tail.next().await {
            // Nothing is in flight, so the place that the keepalive names is safe to acknowledge.
            Ok(CopyData::PrimaryKeepalive(keepalive)) => {
                // The server may be gone before it reads this.
                let _ = tail.stream.writer.send_status(status(keepalive.wal_end, false)).await;
            }
            Ok(other) => panic!("expected keepalives only, came {other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), SourceErrorKind::Retry, "{error}");
    stopping.await.unwrap();
    let log = std::fs::read_to_string(server.postgres.log()).unwrap();
    assert!(log.contains("database system is shut down"), "it was not stopped in order");
}

#[tokio::test]
async fn a_process_that_is_told_to_end_is_worth_another_try() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    let mut tail = database.start(Lsn::ZERO).await.unwrap();
    let pid = tail.stream.backend_pid();
    database.client.execute("select pg_terminate_backend($1)", &[&pid]).await.unwrap();
    let error = loop {
        if let Err(error) = tail.next().await {
            break error;
        }
    };
    assert_eq!((error.kind(), error.sqlstate()), (SourceErrorKind::Retry, Some("57P01")), "{error}");
    database.drop_slot().await;
}

#[tokio::test]
async fn a_relay_without_a_word_is_let_go_after_the_time_it_asked_for() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    let mut options = database.options();
    options.wal_sender_timeout = Duration::from_millis(500);
    let connection = ReplicationConnection::connect(&options).await.unwrap();
    let mut tail = start(connection, &database.slot, PUBLICATION, Lsn::ZERO).await.unwrap();
    let mut asked = false;
    let error = loop {
        match tail.next().await {
            Ok(CopyData::PrimaryKeepalive(keepalive)) => asked |= keepalive.reply_requested,
            Ok(other) => panic!("expected keepalives only, came {other:?}"),
            Err(error) => break error,
        }
    };
    assert!(asked, "the server asks before it lets go");
    assert_eq!(error.kind(), SourceErrorKind::Retry, "{error}");
    database.drop_slot().await;
}

#[tokio::test]
async fn a_dropped_stream_frees_the_slot() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    drop(database.start(Lsn::ZERO).await.unwrap());
    let sql = "select not active from pg_replication_slots where slot_name = $1";
    eventually("the slot is free", async || {
        database.client.query_one(sql, &[&database.slot]).await.unwrap().get(0)
    })
    .await;
    database.drop_slot().await;
}
