//! Who may buy is known from the events of users: read once, in whatever order they come, and made anew by one command.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tailrace::order::v1::{CreateOrderRequest, Order};
use tokio::task::{JoinSet, spawn_blocking};
use tokio_postgres::Client;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::{
    kafka::{Broker, Topics},
    process::{Running, only_line, run},
    proxy::Proxy,
    support::{Database, Service, lamp, publish_keys, reason, until},
};

/// A user whom nobody has heard of.
fn stranger() -> String {
    format!("users/{}", Uuid::now_v7())
}

/// How a user is known: his version, and whether he is deleted.
async fn known(database: &Database, user: &str) -> Option<(i64, bool)> {
    let client = database.connect().await;
    let row = client.query_opt("SELECT version, deleted FROM known_user WHERE name = $1", &[&user]).await;
    row.expect("an answer").map(|row| (row.get(0), row.get(1)))
}

async fn until_known(database: &Database, user: &str, version: i64, deleted: bool) {
    until("the user to be known", async || known(database, user).await == Some((version, deleted))).await;
}

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.expect("a number").get(0)
}

/// Counts from now on how often the knowledge of each user changes.
async fn count_changes(database: &Database) {
    let log = "
        CREATE TABLE change_log (name text, version bigint);
        CREATE FUNCTION log_change() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO change_log VALUES (new.name, new.version); RETURN new; END $$;
        CREATE TRIGGER log_change AFTER INSERT OR UPDATE ON known_user
            FOR EACH ROW EXECUTE FUNCTION log_change();";
    database.connect().await.batch_execute(log).await.expect("a log");
}

/// Holds the log to one line for each change of each user.
async fn assert_changed_once(database: &Database, changes: i64) {
    let client = database.connect().await;
    assert_eq!(number(&client, "SELECT count(*) FROM change_log").await, changes);
    assert_eq!(
        number(&client, "SELECT count(*) FROM (SELECT DISTINCT * FROM change_log) AS once").await,
        changes
    );
}

fn check_refused(outcome: Result<Order, Status>, code: Code, expected: &str) {
    let status = outcome.expect_err("refused");
    assert_eq!((status.code(), reason(&status).as_str()), (code, expected));
}

#[tokio::test]
async fn who_is_created_may_buy_until_he_is_deleted_and_again_when_he_is_undeleted() {
    let (database, topics, user) = (Database::new().await, Topics::make().await, stranger());
    let service = Service::start_learning(&database.url(), &topics.arguments()).await;
    topics.commit([topics.created(&user)]).await;
    let once = CreateOrderRequest { request_id: Uuid::new_v4().to_string(), ..lamp() };
    let first = service.create(&user, once.clone()).await.expect("an order");

    topics.commit([topics.deleted(&user, 2)]).await;
    until_known(&database, &user, 2, true).await;
    check_refused(service.create(&user, lamp()).await, Code::FailedPrecondition, "BUYER_DELETED");
    let again = service.create(&user, once).await.expect("the answer of then");
    assert_eq!(again, first, "who asks again for what was done gets its answer");

    topics.commit([topics.updated(&user, 3)]).await;
    until_known(&database, &user, 3, false).await;
    service.create(&user, lamp()).await.expect("an order");
    service.stop().await;
}

#[tokio::test]
async fn the_version_and_not_the_order_of_arrival_decides() {
    let (database, topics, user) = (Database::new().await, Topics::make().await, stranger());
    let service = Service::start_learning(&database.url(), &topics.arguments()).await;
    topics.commit([topics.deleted(&user, 3)]).await;
    until_known(&database, &user, 3, true).await;
    // The marker comes last of its partition, so what is before it has been read when it is known.
    for (older, marker) in [(topics.created(&user), stranger()), (topics.updated(&user, 2), stranger())] {
        let mut last = older.clone();
        last.payload = format!(r#"{{"user":"{marker}"}}"#);
        last.version = "1".to_owned();
        topics.commit([older, last]).await;
        until_known(&database, &marker, 1, false).await;
        assert_eq!(known(&database, &user).await, Some((3, true)), "who is deleted stays deleted");
    }
    topics.commit([topics.updated(&user, 4)]).await;
    until_known(&database, &user, 4, false).await;
    service.stop().await;
}

#[tokio::test]
async fn of_many_versions_in_one_batch_the_highest_counts() {
    let (database, topics, user) = (Database::new().await, Topics::make().await, stranger());
    topics.commit((2..300).map(|version| topics.updated(&user, version))).await;
    let service = Service::start_learning(&database.url(), &topics.arguments()).await;
    until_known(&database, &user, 299, false).await;
    service.stop().await;
}

#[tokio::test]
async fn an_order_waits_for_a_buyer_who_is_about_to_be_known() {
    let (database, topics, user) = (Database::new().await, Topics::make().await, stranger());
    let service = Service::start_learning(&database.url(), &topics.arguments()).await;
    let mut calls = JoinSet::new();
    let mut orders = service.orders();
    let request = crate::support::by(&user, lamp());
    calls.spawn(async move { orders.create_order(request).await });
    let client = database.connect().await;
    let looked = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'SELECT deleted FROM known_user%' AND state = 'idle'";
    until("the order to wait", async || number(&client, looked).await > 0).await;
    topics.abort([topics.created(&user)]).await;
    topics.commit([topics.created(&stranger()), topics.created(&user)]).await;
    let order = calls.join_next().await.expect("a call").expect("no panic").expect("an order");
    assert_eq!(order.into_inner().buyer, user);
    service.stop().await;
}

#[tokio::test]
async fn a_buyer_who_stays_unknown_is_told_to_come_back() {
    let (database, topics) = (Database::new().await, Topics::make().await);
    let service = Service::start_learning(&database.url(), &topics.arguments()).await;
    let user = stranger();
    topics.abort([topics.created(&user)]).await;
    let began = Instant::now();
    let status = service.create(&user, lamp()).await.expect_err("unknown");
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    let retry = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    assert_eq!(retry, Some(Duration::from_secs(1)));
    check_refused(Err(status), Code::Unavailable, "BUYER_NOT_YET_KNOWN");
    assert_eq!(number(&database.connect().await, "SELECT count(*) FROM outbox").await, 0);
    service.stop().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_set_aside_and_stops_nothing() {
    let (database, topics, user) = (Database::new().await, Topics::make().await, stranger());
    let service = Service::start_learning(&database.url(), &topics.arguments()).await;
    let mut unknown = topics.created(&stranger());
    unknown.event_type = "users.created.v9";
    let mut broken = topics.created(&stranger());
    broken.payload = r#"{"email":"secret@example.org""#.to_owned();
    let mut unversioned = topics.created(&stranger());
    unversioned.version = "zero".to_owned();
    topics.commit([unknown, broken, unversioned, topics.created(&user)]).await;
    service.create(&user, lamp()).await.expect("an order");
    let client = database.connect().await;
    let rows = client
        .query("SELECT event_type, reason, event_id FROM inbox_set_aside ORDER BY record_offset", &[])
        .await
        .expect("rows");
    let rows: Vec<(String, String, String)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let [unknown, broken, unversioned] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((unknown.0.as_str(), unknown.1.as_str()), ("users.created.v9", "its type is not known here"));
    assert!(broken.1.contains("line 1, column 29") && !broken.1.contains("secret"), "{broken:?}");
    assert!(unversioned.1.contains("tailrace_aggregate_version"), "{unversioned:?}");
    assert!(rows.iter().all(|row| row.2 == "an-id"), "{rows:?}");
    service.stop().await;
}

#[tokio::test]
async fn what_was_committed_before_the_connection_broke_is_not_done_again() {
    let (database, topics) = (Database::new().await, Topics::make().await);
    let proxy = Proxy::start(&database.url()).await;
    let service = Service::start_learning(proxy.url(), &topics.arguments()).await;
    count_changes(&database).await;
    let users: Vec<String> = (0..3).map(|_| stranger()).collect();
    topics.commit([topics.created(&users[0])]).await;
    until_known(&database, &users[0], 1, false).await;
    // The commit's answer never arrives: whether it happened has to be found out.
    proxy.hold_answers();
    topics.commit([topics.created(&users[1])]).await;
    until_known(&database, &users[1], 1, false).await;
    proxy.cut();
    topics.commit([topics.created(&users[2])]).await;
    until_known(&database, &users[2], 1, false).await;
    assert_changed_once(&database, 3).await;
    service.stop().await;
}

#[tokio::test]
async fn who_is_killed_reads_on_where_the_table_stands() {
    let (database, topics) = (Database::new().await, Topics::make().await);
    let keys_url = publish_keys().await;
    let running = Running::ready_with(&database.url(), &keys_url, &topics.arguments()).await;
    count_changes(&database).await;
    let users: Vec<String> = (0..40).map(|_| stranger()).collect();
    topics.commit(users[..20].iter().map(|user| topics.created(user))).await;
    // Killed while it reads, wherever it is.
    until("a user", async || number(&database.connect().await, "SELECT count(*) FROM change_log").await > 0)
        .await;
    spawn_blocking(move || drop(running)).await.expect("killed");
    topics.commit(users[20..].iter().map(|user| topics.created(user))).await;
    let running = Running::ready_with(&database.url(), &keys_url, &topics.arguments()).await;
    until_known(&database, users.last().expect("users"), 1, false).await;
    assert_changed_once(&database, 40).await;
    spawn_blocking(move || drop(running)).await.expect("killed");
}

#[tokio::test]
async fn replicas_read_side_by_side_and_each_change_is_made_once() {
    let (database, topics) = (Database::new().await, Topics::make().await);
    let one = Service::start_learning(&database.url(), &topics.arguments()).await;
    let two = Service::start_learning(&database.url(), &topics.arguments()).await;
    count_changes(&database).await;
    let users: Vec<String> = (0..50).map(|_| stranger()).collect();
    for some in users.chunks(10) {
        topics.commit(some.iter().map(|user| topics.created(user))).await;
    }
    // Each wakes those who wait at it.
    for service in [&one, &two] {
        for order in join_all(users.iter().map(|user| service.create(user, lamp()))).await {
            order.expect("an order");
        }
    }
    assert_changed_once(&database, 50).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_read_from_its_start() {
    let (database, topics) = (Database::new().await, Topics::make().await);
    let service = Service::start_learning(&database.url(), &topics.arguments()).await;
    let (before, after) = (stranger(), stranger());
    topics.commit([topics.created(&before), topics.created(&stranger())]).await;
    until_known(&database, &before, 1, false).await;
    let [created, ..] = topics.names();
    topics.delete(created).await;
    topics.create(created).await;
    topics.commit([topics.created(&after)]).await;
    until_known(&database, &after, 1, false).await;
    assert_eq!(known(&database, &before).await, Some((1, false)));
    service.stop().await;
}

#[tokio::test]
async fn without_kafka_those_who_are_known_buy_and_readiness_says_what_is_missing() {
    let broker = Broker::own().await;
    let (database, topics) = (Database::new().await, Topics::make_on(broker.kafka.bootstrap()).await);
    let (user, late) = (stranger(), stranger());
    let service = Service::start_learning(&database.url(), &topics.arguments()).await;
    topics.commit([topics.created(&user)]).await;
    service.create(&user, lamp()).await.expect("an order");

    broker.kafka.kill();
    until("the loss to be told", async || service.readiness().contains("projection: Kafka at")).await;
    assert!(service.is_ready(), "{}", service.readiness());
    service.create(&user, lamp()).await.expect("an order");
    check_refused(service.create(&late, lamp()).await, Code::Unavailable, "BUYER_NOT_YET_KNOWN");

    broker.kafka.start_again().expect("started again");
    topics.commit([topics.created(&late)]).await;
    until("the recovery to be told", async || service.readiness().contains("projection: ok")).await;
    service.create(&late, lamp()).await.expect("an order");
    service.stop().await;
}

fn rebuild(database: &Database, arguments: &[String]) -> std::process::Output {
    let url = database.url();
    let mut all = vec!["--database-url", &url];
    all.extend(arguments.iter().map(String::as_str));
    all.push("rebuild-projection");
    run(&all)
}

#[tokio::test]
async fn one_command_makes_the_table_anew_while_the_service_runs() {
    let (database, topics) = (Database::new().await, Topics::make().await);
    let service = Service::start_learning(&database.url(), &topics.arguments()).await;
    let users: Vec<String> = (0..30).map(|_| stranger()).collect();
    topics.commit(users.iter().map(|user| topics.created(user))).await;
    let mut unreadable = topics.created(&stranger());
    unreadable.event_type = "users.created.v9";
    topics.commit([topics.deleted(&users[0], 2), unreadable]).await;
    until_known(&database, &users[0], 2, true).await;
    for user in &users[1..] {
        until_known(&database, user, 1, false).await;
    }
    let client = database.connect().await;
    let state =
        "SELECT coalesce(string_agg(name || version || deleted, ',' ORDER BY name), '') FROM known_user";
    let before: String = client.query_one(state, &[]).await.expect("a state").get(0);
    // As a mistake of ours or of an operator might leave it.
    let harm = format!(
        "DELETE FROM known_user WHERE name > '{}'; UPDATE known_user SET version = 99; \
         INSERT INTO known_user VALUES ('{}', 1, false)",
        users[9],
        stranger()
    );
    client.batch_execute(&harm).await.expect("harmed");

    let output = rebuild(&database, &topics.arguments());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains(r#""users":30"#) && told.contains(r#""set_aside":1"#), "{told}");
    let after: String = client.query_one(state, &[]).await.expect("a state").get(0);
    assert_eq!(after, before);
    assert_eq!(number(&client, "SELECT count(*) FROM inbox_set_aside").await, 1);

    let late = stranger();
    topics.commit([topics.created(&late)]).await;
    service.create(&late, lamp()).await.expect("the service reads on");
    service.stop().await;
}

#[tokio::test]
async fn a_rebuild_that_fails_leaves_everything_as_it_was() {
    let (database, topics, user) = (Database::new().await, Topics::make().await, stranger());
    let service = Service::start_learning(&database.url(), &topics.arguments()).await;
    topics.commit([topics.created(&user)]).await;
    until_known(&database, &user, 1, false).await;
    let mut arguments = topics.arguments();
    arguments[3].push_str(",no.such.topic");
    let output = rebuild(&database, &arguments);
    assert_eq!(output.status.code(), Some(1));
    let line = only_line(&output);
    assert!(line.contains("no.such.topic") && line.contains("as it was"), "{line}");
    assert_eq!(known(&database, &user).await, Some((1, false)));
    service.stop().await;
}
