//! What a write guarantees.

use deadpool_postgres::ClientWrapper as Client;
use jiff::Timestamp;
use serde_json::value::RawValue;
use tailrace_outbox::{Event, Remembered, Request, Write, WriteError, append, remembered, upkeep};
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::support::Database;

/// Spaces, an escape, an order of keys and a number that a reformatting would change.
const PAYLOAD: &str = r#"{ "b":1.50,  "a" : "\u00e9\/", "b": [ ] }"#;
const ANSWER: &[u8] = b"the answer of then";
const INSERT: &str = "INSERT INTO things (id, name) VALUES ($1, $2)";

fn event(id: Uuid) -> Event {
    let payload = RawValue::from_string(PAYLOAD.to_owned()).expect("JSON");
    Event::new("things.created.v1", "things", id, 1, &payload).expect("an event")
}

async fn write(client: &Client, id: Uuid, name: &str, event: &Event) -> Result<(), WriteError> {
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&id, Type::UUID), (&name, Type::TEXT)];
    Write::of(INSERT, parameters).execute(client, event).await
}

/// How many things and events there are.
async fn check_counts(client: &Client, things: i64, events: i64) {
    let row = client
        .query_one("SELECT (SELECT count(*) FROM things), (SELECT count(*) FROM outbox)", &[])
        .await
        .expect("counts");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (things, events));
}

#[tokio::test]
async fn a_write_is_one_round_trip() {
    let database = Database::new().await;
    let (client, round_trips) = database.connect_counted().await;
    // The first on a connection prepares the statement.
    for (name, expected) in [("lamp", 2), ("chair", 1), ("table", 1)] {
        let id = Uuid::now_v7();
        let before = round_trips.count();
        write(&client, id, name, &event(id)).await.expect("written");
        assert_eq!(round_trips.count() - before, expected, "{name}");
    }
    check_counts(&client, 3, 3).await;
}

#[tokio::test]
async fn the_payload_is_kept_byte_for_byte_and_the_trace_is_carried() {
    let database = Database::new().await;
    let client = database.connect().await;
    let id = Uuid::now_v7();
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let event = event(id).owned_by("users/ada").traced(Some(traceparent), Some("vendor=1")).expect("headers");
    write(&client, id, "lamp", &event).await.expect("written");
    let row = client
        .query_one("SELECT id, aggregate_id, payload::text, headers::text, owner FROM outbox", &[])
        .await
        .expect("an event");
    assert_eq!(row.get::<_, Uuid>(0), event.id());
    assert_eq!(row.get::<_, String>(1), id.to_string());
    assert_eq!(row.get::<_, String>(2), PAYLOAD);
    assert_eq!(
        row.get::<_, String>(3),
        format!(r#"{{"traceparent":"{traceparent}","tracestate":"vendor=1"}}"#)
    );
    assert_eq!(row.get::<_, String>(4), "users/ada");
}

#[tokio::test]
async fn a_refused_entity_leaves_no_event() {
    let database = Database::new().await;
    let client = database.connect().await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    write(&client, first, "lamp", &event(first)).await.expect("written");
    let error = write(&client, second, "lamp", &event(second)).await.expect_err("the name is taken");
    assert_eq!(error.broken_constraint(), Some("things_name_key"));
    check_counts(&client, 1, 1).await;
}

#[tokio::test]
async fn a_refused_event_leaves_no_entity() {
    let database = Database::new().await;
    let client = database.connect().await;
    // The day's partition is gone, and there is no default one.
    client
        .batch_execute("DO $$ BEGIN EXECUTE 'DROP TABLE outbox_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM_DD'); END $$")
        .await
        .expect("dropped");
    let id = Uuid::now_v7();
    write(&client, id, "lamp", &event(id)).await.expect_err("no partition");
    check_counts(&client, 0, 0).await;
    upkeep(&client, Timestamp::now()).await.expect("the partition is made again");
    write(&client, id, "lamp", &event(id)).await.expect("written");
    check_counts(&client, 1, 1).await;
}

#[tokio::test]
async fn an_entity_that_writes_nothing_is_told_and_leaves_no_event() {
    let database = Database::new().await;
    let client = database.connect().await;
    let id = Uuid::now_v7();
    let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&id, Type::UUID)];
    let update = Write::of("UPDATE things SET name = 'chair' WHERE id = $1", parameters);
    let error = update.execute(&client, &event(id)).await.expect_err("no such thing");
    assert!(matches!(error, WriteError::NoRow), "{error:?}");
    check_counts(&client, 0, 0).await;
}

#[tokio::test]
async fn an_appended_event_shares_the_fate_of_its_transaction() {
    let database = Database::new().await;
    let mut client = database.connect().await;
    for (commit, expected) in [(false, 0), (true, 1)] {
        let id = Uuid::now_v7();
        let transaction = client.transaction().await.expect("a transaction");
        transaction.execute(INSERT, &[&id, &"lamp"]).await.expect("inserted");
        append(&transaction, &event(id)).await.expect("appended");
        let end = if commit { transaction.commit().await } else { transaction.rollback().await };
        end.expect("ended");
        check_counts(&client, expected, expected).await;
    }
}

#[tokio::test]
async fn a_request_is_carried_out_once_per_caller() {
    let database = Database::new().await;
    let client = database.connect().await;
    let request_id = Uuid::new_v4();
    let ask = |caller: &str, asked: &[u8]| Request::new(caller, "CreateThing", request_id, asked);
    let carry_out = async |request: &Request, name: &str| {
        let id = Uuid::now_v7();
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&id, Type::UUID), (&name, Type::TEXT)];
        let outcome =
            Write::of(INSERT, parameters).once(Some(request), &id, ANSWER).execute(&client, &event(id)).await;
        (id, outcome)
    };
    let lamp = ask("users/ada", b"a lamp");
    assert_eq!(remembered(&client, &lamp).await.expect("an answer"), Remembered::New);
    let (id, outcome) = carry_out(&lamp, "lamp").await;
    outcome.expect("written");
    let (_, outcome) = carry_out(&lamp, "another").await;
    assert!(matches!(outcome, Err(WriteError::RequestSeen)), "{outcome:?}");
    check_counts(&client, 1, 1).await;
    assert_eq!(
        remembered(&client, &lamp).await.expect("an answer"),
        Remembered::CarriedOut { result_id: id, answer: ANSWER.to_vec(), secret_hash: None }
    );
    let chair = ask("users/ada", b"a chair");
    assert_eq!(remembered(&client, &chair).await.expect("an answer"), Remembered::Reused);
    let (_, outcome) = carry_out(&ask("users/bob", b"a lamp"), "his").await;
    outcome.expect("ids of different callers do not meet");
}

#[tokio::test]
async fn upkeep_forgets_requests_after_a_day() {
    let database = Database::new().await;
    let client = database.connect().await;
    for (caller, hours) in [("old", 25), ("young", 23)] {
        client
            .execute(
                "INSERT INTO carried_out_request VALUES ($1, gen_random_uuid(), '', gen_random_uuid(), now() - make_interval(hours => $2), '')",
                &[&caller, &hours],
            )
            .await
            .expect("a request");
    }
    upkeep(&client, Timestamp::now()).await.expect("upkeep");
    let left: Vec<String> = client
        .query("SELECT caller FROM carried_out_request", &[])
        .await
        .expect("requests")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(left, ["young"]);
}
