//! Bad starts: each has its kind, and a text that says what mends it.

use std::time::Duration;

use cdc_relay::source::{Catalog, ReplicationConnection, Secret, SourceError, SourceErrorKind};
use replication_protocol::Lsn;

use crate::support::{Database, PUBLICATION, Server, start};

fn check(error: &SourceError, kind: SourceErrorKind, sqlstate: Option<&str>, texts: &[&str]) {
    let shown = error.to_string();
    assert_eq!((error.kind(), error.sqlstate()), (kind, sqlstate), "{shown}");
    for text in texts {
        assert!(shown.contains(text), "{text:?} is not in {shown:?}");
    }
    assert!(!shown.contains("secret"), "{shown}");
}

async fn refused_start(database: &Database<'_>, slot: &str) -> SourceError {
    start(database.connect().await, slot, PUBLICATION, Lsn::ZERO).await.err().expect("a refusal")
}

#[tokio::test]
async fn a_wrong_password_is_denied() {
    let database = Server::shared().await.database().await;
    let mut options = database.options();
    options.password = Some(Secret::new("not the secret"));
    let texts = ["cannot connect to Postgres", "cdc_relay", "correct the password"];
    let error = ReplicationConnection::connect(&options).await.err().unwrap();
    check(&error, SourceErrorKind::Denied, Some("28P01"), &texts);
    let error = Catalog::connect(&options).await.err().unwrap();
    check(&error, SourceErrorKind::Denied, Some("28P01"), &texts);
}

#[tokio::test]
async fn a_missing_password_is_denied() {
    let mut options = Server::shared().await.database().await.options();
    options.password = None;
    let error = ReplicationConnection::connect(&options).await.err().unwrap();
    check(&error, SourceErrorKind::Denied, None, &["asks for a password and none is set"]);
}

#[tokio::test]
async fn a_role_without_replication_is_denied() {
    let mut options = Server::shared().await.database().await.options();
    options.user = "onlooker".into();
    let error = ReplicationConnection::connect(&options).await.err().unwrap();
    check(&error, SourceErrorKind::Denied, Some("42501"), &["with replication"]);
}

#[tokio::test]
async fn a_missing_database_stops() {
    let mut options = Server::shared().await.database().await.options();
    options.database = "nowhere".into();
    let error = ReplicationConnection::connect(&options).await.err().unwrap();
    check(&error, SourceErrorKind::Halt, Some("3D000"), &["nowhere", "create the database"]);
}

#[tokio::test]
async fn a_missing_slot_stops_and_names_what_makes_it() {
    let database = Server::shared().await.database().await;
    let error = refused_start(&database, "no_such_slot").await;
    let texts = ["cannot start replication", "no_such_slot", "`cdc-relay init`"];
    check(&error, SourceErrorKind::Halt, Some("42704"), &texts);
}

#[tokio::test]
async fn a_slot_name_is_quoted_and_cannot_become_a_command() {
    let database = Server::shared().await.database().await;
    for name in ["Upper case", "x LOGICAL 0/0; --"] {
        let error = refused_start(&database, name).await;
        check(&error, SourceErrorKind::Halt, Some("42704"), &[name, "does not exist"]);
        let error = database.connect().await.create_slot(name, Duration::from_secs(1)).await.unwrap_err();
        check(&error, SourceErrorKind::Halt, Some("42602"), &["invalid character"]);
    }
    // The replication grammar of some servers, 15.18 is one, refuses a doubled quote: still no command.
    let error = refused_start(&database, "x\" LOGICAL 0/0; --").await;
    assert_eq!(error.kind(), SourceErrorKind::Halt, "{error}");
    assert!(matches!(error.sqlstate(), Some("42704" | "42601")), "{error}");
    let error = refused_start(&database, "zero\0byte").await;
    check(&error, SourceErrorKind::Halt, None, &["zero byte"]);
}

#[tokio::test]
async fn a_missing_publication_ends_the_stream() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    database.execute("insert into outbox values (1, '{}')").await;
    let mut tail =
        start(database.connect().await, &database.slot, "no_such_publication", Lsn::ZERO).await.unwrap();
    let error = tail.transaction().await.unwrap_err();
    check(&error, SourceErrorKind::Halt, Some("42704"), &["no_such_publication", "must have existed before"]);
    let again = tail.transaction().await.unwrap_err();
    assert_eq!(again.to_string(), error.to_string(), "an ended stream says the same at every call");
    drop(tail);
    database.drop_slot().await;
}

#[tokio::test]
async fn a_busy_slot_names_the_process_that_holds_it() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    let holder = database.start(Lsn::ZERO).await.unwrap();
    let error = refused_start(&database, &database.slot).await;
    let pid = Some(holder.stream.backend_pid());
    check(
        &error,
        SourceErrorKind::SlotBusy { pid },
        Some("55006"),
        &["another process streams from this slot"],
    );
    holder.finish(Lsn::ZERO).await;
    database.start(Lsn::ZERO).await.unwrap().finish(Lsn::ZERO).await;
    database.drop_slot().await;
}

#[tokio::test]
async fn a_slot_that_exists_is_not_made_again() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    let error =
        database.connect().await.create_slot(&database.slot, Duration::from_secs(1)).await.unwrap_err();
    check(&error, SourceErrorKind::Halt, Some("42710"), &["already exists"]);
    database.connect().await.drop_slot(&database.slot).await.unwrap();
    let error = database.connect().await.drop_slot(&database.slot).await.unwrap_err();
    check(&error, SourceErrorKind::Halt, Some("42704"), &["cannot drop the replication slot"]);
}

#[tokio::test]
async fn a_slot_does_not_wait_for_ever_for_an_open_transaction() {
    // On a server of its own: the wait is for the transactions of every database.
    let server = Server::start(&[]).await;
    let database = server.database().await;
    database.execute("begin; select txid_current()").await;
    let limit = Duration::from_millis(300);
    let error = database.connect().await.create_slot(&database.slot, limit).await.unwrap_err();
    check(&error, SourceErrorKind::Retry, Some("55P03"), &["cannot create", "pg_stat_activity"]);
    database.execute("rollback").await;
    database.create_slot().await;
}

#[tokio::test]
async fn a_server_that_does_not_log_enough_says_which_setting() {
    let server = Server::start(&[("wal_level", "replica")]).await;
    let database = server.database().await;
    let error =
        database.connect().await.create_slot(&database.slot, Duration::from_secs(1)).await.unwrap_err();
    check(&error, SourceErrorKind::Halt, Some("55000"), &["set wal_level = logical and restart Postgres"]);
    let catalog = Catalog::connect(&database.options()).await.unwrap();
    assert_eq!(catalog.wal_level().await.unwrap(), "replica");
}

#[tokio::test]
async fn a_lost_slot_is_seen_as_lost_and_stops() {
    let server = Server::start(&[("max_slot_wal_keep_size", "1MB")]).await;
    let database = server.database().await;
    database.create_slot().await;
    let catalog = Catalog::connect(&database.options()).await.unwrap();
    let slot = catalog.slot(&database.slot).await.unwrap().unwrap();
    assert!(slot.safe_wal_size_bytes.is_some(), "with a limit there is a distance to it");
    for _ in 0..4 {
        database.execute("insert into outbox values (1, '{}')").await;
        database.execute("select pg_switch_wal()").await;
    }
    database.execute("checkpoint").await;
    let slot = catalog.slot(&database.slot).await.unwrap().unwrap();
    assert_eq!(slot.wal_status.as_deref(), Some("lost"));
    let error = refused_start(&database, &database.slot).await;
    let texts = ["can no longer be read from", "made anew and the gap repaired"];
    check(&error, SourceErrorKind::Halt, Some("55000"), &texts);
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_worth_another_try() {
    let mut options = Server::shared().await.database().await.options();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    options.port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = ReplicationConnection::connect(&options).await.err().unwrap();
    check(&error, SourceErrorKind::Retry, None, &["cannot connect to Postgres"]);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("refused"), "{cause}");
}

#[tokio::test]
async fn a_port_that_accepts_and_says_nothing_is_given_up() {
    let mut options = Server::shared().await.database().await.options();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    options.port = listener.local_addr().unwrap().port();
    options.connect_timeout = Duration::from_millis(100);
    let error = ReplicationConnection::connect(&options).await.err().unwrap();
    check(&error, SourceErrorKind::Retry, None, &["no answer within 100 ms"]);
}
