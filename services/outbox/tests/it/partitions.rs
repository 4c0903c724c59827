//! The clock is moved: days are made ahead, come off when they are old, and are dropped when no slot needs them.

use std::time::Duration;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use tailrace_outbox::{Retired, retire, upkeep};
use tokio_postgres::Client;

use crate::support::Database;

const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

fn hours_later(from: Timestamp, hours: i64) -> Timestamp {
    from.checked_add(hours.hours()).expect("a moment")
}

fn partition_of(moment: Timestamp) -> String {
    moment.to_zoned(TimeZone::UTC).strftime("outbox_%Y_%m_%d").to_string()
}

async fn write(client: &Client, at: Timestamp) {
    let insert = "INSERT INTO outbox (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, headers, created_at)
        VALUES (gen_random_uuid(), 'things', 'a', 1, 'things.created.v1', '{}', '{}', $1)";
    client.execute(insert, &[&at]).await.expect("there is a partition");
}

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.expect("a number").get(0)
}

async fn exists(client: &Client, table: &str) -> bool {
    let query = format!("SELECT count(*) FROM pg_class WHERE relname = '{table}'");
    number(client, &query).await == 1
}

/// A slot as the relay has one; its name is the database's, because slots are the cluster's.
async fn make_slot(client: &Client) {
    let make = "SELECT 1::bigint FROM pg_create_logical_replication_slot(current_database(), 'pgoutput')";
    assert_eq!(number(client, make).await, 1);
}

/// As if everything up to now was published.
async fn confirm(client: &Client) {
    let advance =
        "SELECT 1::bigint FROM pg_replication_slot_advance(current_database(), pg_current_wal_insert_lsn())";
    // A position between records counts as the record's before it: with one more behind it, it is passed.
    client.batch_execute("SELECT pg_logical_emit_message(true, 'after', '')").await.expect("a record");
    assert_eq!(number(client, advance).await, 1);
}

/// How many messages the slot has that are not confirmed.
async fn unpublished(client: &Client) -> i64 {
    let peek = "SELECT count(*) FROM pg_logical_slot_peek_binary_changes(current_database(), NULL, NULL,
        'proto_version', '1', 'publication_names', 'tailrace_outbox') WHERE get_byte(data, 0) = ascii('I')";
    number(client, peek).await
}

async fn retired(client: &Client, now: Timestamp) -> Retired {
    retire(client, now, RETENTION).await.expect("retired")
}

#[tokio::test]
async fn for_thirty_days_there_is_always_a_week_ahead_and_never_more_than_a_week_behind() {
    let database = Database::new().await;
    let client = database.connect().await;
    make_slot(&client).await;
    let start = Timestamp::now();
    for hour in (0..30 * 24).step_by(5) {
        let now = hours_later(start, hour);
        upkeep(&client, now).await.expect("upkeep");
        write(&client, now).await;
        write(&client, hours_later(now, 7 * 24)).await;
        // What came off the last time is dropped now, because the slot has passed it meanwhile.
        confirm(&client).await;
        let kept = retired(&client, now).await.kept.len() as i64;
        let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'outbox'::regclass";
        let days = number(&client, days).await;
        assert!(kept <= 1 && (8..=16).contains(&days), "hour {hour}: {days} days, {kept} kept");
        let tables = "SELECT count(*) FROM pg_class WHERE relname ~ '^outbox_[0-9_]+$' AND relkind = 'r'";
        assert_eq!(number(&client, tables).await, days + kept, "nothing else is left behind");
    }
    assert!(!exists(&client, &partition_of(start)).await);
}

#[tokio::test]
async fn a_day_comes_off_after_the_retention_and_is_dropped_when_its_events_are_confirmed() {
    let database = Database::new().await;
    let client = database.connect().await;
    make_slot(&client).await;
    let start = Timestamp::now();
    let first = partition_of(start);
    write(&client, start).await;
    assert_eq!(unpublished(&client).await, 1);

    assert_eq!(retired(&client, hours_later(start, 7 * 24)).await, Retired::default(), "the day is not over");
    let old = hours_later(start, 8 * 24);
    let expected =
        Retired { taken_off: vec![first.clone()], kept: vec![first.clone()], ..Retired::default() };
    assert_eq!(retired(&client, old).await, expected);
    assert_eq!(number(&client, "SELECT count(*) FROM outbox").await, 0, "it is off");
    assert_eq!(unpublished(&client).await, 1, "what is off is still published");

    let waiting = Retired { kept: vec![first.clone()], ..Retired::default() };
    assert_eq!(retired(&client, hours_later(old, 1)).await, waiting, "the slot is behind");
    assert!(exists(&client, &first).await);
    confirm(&client).await;
    let expected = Retired { dropped: vec![first.clone()], ..Retired::default() };
    assert_eq!(retired(&client, hours_later(old, 2)).await, expected);
    assert!(!exists(&client, &first).await);
}

#[tokio::test]
async fn without_a_slot_nothing_is_dropped() {
    let database = Database::new().await;
    let client = database.connect().await;
    let start = Timestamp::now();
    let first = partition_of(start);
    let expected =
        Retired { taken_off: vec![first.clone()], kept: vec![first.clone()], ..Retired::default() };
    assert_eq!(retired(&client, hours_later(start, 8 * 24)).await, expected);
    let waiting = Retired { kept: vec![first.clone()], ..Retired::default() };
    assert_eq!(retired(&client, hours_later(start, 100)).await, waiting);
    assert!(exists(&client, &first).await);
}

#[tokio::test]
async fn what_a_crash_left_between_two_steps_is_finished() {
    let database = Database::new().await;
    let client = database.connect().await;
    make_slot(&client).await;
    let start = Timestamp::now();
    let first = partition_of(start);
    client
        .batch_execute(&format!("ALTER TABLE outbox DETACH PARTITION {first} CONCURRENTLY"))
        .await
        .expect("taken off, and not noted");
    let expected = Retired { kept: vec![first.clone()], ..Retired::default() };
    assert_eq!(retired(&client, start).await, expected);
    confirm(&client).await;
    let expected = Retired { dropped: vec![first], ..Retired::default() };
    assert_eq!(retired(&client, start).await, expected);
}

#[tokio::test]
async fn a_reader_who_holds_a_day_delays_it_and_stops_no_writer() {
    let database = Database::new().await;
    let client = database.connect().await;
    make_slot(&client).await;
    let start = Timestamp::now();
    let (first, old) = (partition_of(start), hours_later(start, 8 * 24));
    let reader = database.connect().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM outbox").await.expect("a reader");
    client.batch_execute("SET statement_timeout = '200ms'").await.expect("impatient");
    retire(&client, old, RETENTION).await.expect_err("the reader is in the way");
    write(&client, hours_later(start, 24)).await;
    let free = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
        (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(number(&client, free).await, 0, "nobody else is kept from trying");
    reader.batch_execute("COMMIT").await.expect("done");
    client.batch_execute("RESET statement_timeout").await.expect("patient");
    let expected = Retired { taken_off: vec![first.clone()], kept: vec![first], ..Retired::default() };
    assert_eq!(retired(&client, old).await, expected);
}

#[tokio::test]
async fn of_several_replicas_one_retires() {
    let database = Database::new().await;
    let (one, two) = (database.connect().await, database.connect().await);
    make_slot(&one).await;
    let old = hours_later(Timestamp::now(), 10 * 24);
    let (first, second) = tokio::join!(retire(&one, old, RETENTION), retire(&two, old, RETENTION));
    let taken_off: Vec<_> =
        [first, second].into_iter().flat_map(|retired| retired.expect("no clash").taken_off).collect();
    assert_eq!(taken_off.len(), 3);
}
