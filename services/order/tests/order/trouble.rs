//! Trouble with the database: what is done once more, what is given up and when, and what is left running (nothing).

use std::time::{Duration, Instant};

use prost::Message as _;
use service_testing::{call_web, details, framed, told};
use tailrace::order::v1::{CreateOrderRequest, GetOrderRequest, Order};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_postgres::{Client, error::SqlState};
use tonic::{Code, Response, Status};
use uuid::Uuid;
use xtask::native::{Postgres, PostgresOptions, Scratch};

use crate::{
    rules::CREATE,
    support::{ADA, Database, Service, by, lamp, token, until},
};

/// The settings of a service that gives up soon.
const IMPATIENT: &[&str] = &["--database-statement-timeout", "300ms", "--database-connect-timeout", "300ms"];
/// Longer than an impatient service waits for anything, a busy machine included.
const PATIENCE: Duration = Duration::from_secs(10);

type Call = JoinHandle<Result<Order, Status>>;

fn call(service: &Service, request: CreateOrderRequest) -> Call {
    let mut orders = service.orders();
    tailrace_runtime::task::spawn("call", async move {
        orders.create_order(by(ADA, request)).await.map(Response::into_inner)
    })
}

fn get(service: &Service, name: &str) -> Call {
    let (mut orders, request) = (service.orders(), by(ADA, GetOrderRequest { name: name.to_owned() }));
    tailrace_runtime::task::spawn(
        "call",
        async move { orders.get_order(request).await.map(Response::into_inner) },
    )
}

fn once() -> CreateOrderRequest {
    CreateOrderRequest { request_id: Uuid::new_v4().to_string(), ..lamp() }
}

/// Nobody else comes near the orders until this is rolled back.
async fn lock(database: &Database) -> Client {
    let client = database.connect().await;
    client.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    client
}

async fn unlock(client: &Client) {
    client.batch_execute("ROLLBACK").await.expect("unlocked");
}

/// The processes of the database that wait for the lock.
async fn waiting(administrator: &Client) -> Vec<i32> {
    let waiting =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let rows = administrator.query(waiting, &[]).await.expect("processes");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn until_waiting(administrator: &Client, count: usize) -> Vec<i32> {
    until("statements that wait", async || waiting(administrator).await.len() == count).await;
    waiting(administrator).await
}

async fn terminate(administrator: &Client, pid: i32) {
    administrator.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.expect("terminated");
}

async fn orders_and_events(administrator: &Client) -> (i64, i64) {
    let counts = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM outbox)";
    let row = administrator.query_one(counts, &[]).await.expect("counts");
    (row.get(0), row.get(1))
}

/// The answer of a service whose database is in trouble: it passes, and when to come back.
#[track_caller]
fn assert_unavailable(outcome: Result<Order, Status>) {
    let status = outcome.expect_err("no answer of the database");
    assert_eq!(told(&status), (Code::Unavailable, "UNAVAILABLE".to_owned()), "{status:?}");
    let details = details(&status);
    assert!(details.retry_info().is_some_and(|info| info.retry_delay.is_some()), "{status:?}");
    assert_eq!(
        details.error_info().and_then(|info| info.metadata.get("part")).map(String::as_str),
        Some("database")
    );
}

/// Makes the first inserts of orders fail with an error; counts them all in a sequence, which no rollback takes back.
async fn fail_first(administrator: &Client, inserts: i64, error: &SqlState) {
    let sql = format!(
        "CREATE SEQUENCE tries;
         CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') <= {inserts} THEN RAISE EXCEPTION USING ERRCODE = '{}'; END IF; RETURN NEW;
         END $$;
         CREATE TRIGGER fail BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION fail()",
        error.code()
    );
    administrator.batch_execute(&sql).await.expect("a trigger");
}

async fn tries(administrator: &Client) -> i64 {
    administrator.query_one("SELECT last_value FROM tries", &[]).await.expect("a count").get(0)
}

#[tokio::test]
async fn what_the_server_undid_is_done_once_more_and_not_twice() {
    for error in [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED] {
        for (failures, request) in [(1, lamp()), (1, once()), (2, lamp()), (2, once())] {
            let database = Database::new().await;
            let service = Service::start(&database).await;
            let administrator = database.connect().await;
            fail_first(&administrator, failures, &error).await;
            let outcome = service.create(ADA, request).await;
            if failures == 1 {
                assert_eq!(outcome.expect("the second try").buyer, ADA);
            } else {
                assert_unavailable(outcome);
            }
            assert_eq!(tries(&administrator).await, 2, "{error:?}");
            let written = 2 - failures;
            assert_eq!(orders_and_events(&administrator).await, (written, written));
            service.stop().await;
        }
    }
}

#[tokio::test]
async fn what_is_refused_is_not_done_once_more() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let administrator = database.connect().await;
    fail_first(&administrator, 1, &SqlState::RAISE_EXCEPTION).await;
    let status = service.create(ADA, once()).await.expect_err("refused");
    assert_eq!(told(&status), (Code::Internal, "INTERNAL".to_owned()));
    assert_eq!(tries(&administrator).await, 1);
    service.stop().await;
}

#[tokio::test]
async fn a_lost_connection_costs_a_read_and_a_write_with_an_id_nothing() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let name = service.create(ADA, lamp()).await.expect("an order").name;
    let administrator = database.connect().await;
    for is_read in [true, false] {
        let locked = lock(&database).await;
        let call = if is_read { get(&service, &name) } else { call(&service, once()) };
        let pid = until_waiting(&administrator, 1).await[0];
        terminate(&administrator, pid).await;
        until("the second try", async || waiting(&administrator).await.iter().any(|other| *other != pid))
            .await;
        unlock(&locked).await;
        assert_eq!(call.await.expect("no panic").expect("the second try").buyer, ADA);
    }
    assert_eq!(orders_and_events(&administrator).await, (2, 2));
    service.stop().await;
}

#[tokio::test]
async fn a_lost_connection_leaves_a_write_without_an_id_to_its_caller() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let administrator = database.connect().await;
    let locked = lock(&database).await;
    let call = call(&service, lamp());
    let pid = until_waiting(&administrator, 1).await[0];
    terminate(&administrator, pid).await;
    assert_unavailable(call.await.expect("no panic"));
    unlock(&locked).await;
    assert_eq!(orders_and_events(&administrator).await, (0, 0));
    service.create(ADA, lamp()).await.expect("as before");
    service.stop().await;
}

#[tokio::test]
async fn a_second_loss_is_told() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let administrator = database.connect().await;
    let locked = lock(&database).await;
    let call = call(&service, once());
    let first = until_waiting(&administrator, 1).await[0];
    terminate(&administrator, first).await;
    until("the second try", async || waiting(&administrator).await.iter().any(|pid| *pid != first)).await;
    let second = waiting(&administrator).await[0];
    terminate(&administrator, second).await;
    assert_unavailable(call.await.expect("no panic"));
    unlock(&locked).await;
    service.stop().await;
}

#[tokio::test]
async fn a_deadline_and_a_caller_who_goes_away_end_the_statement() {
    let database = Database::new().await;
    // One connection, and time enough: a statement that went on would keep everybody else waiting.
    let alone = ["--database-connections-max", "1", "--database-statement-timeout", "10m"];
    let service = Service::start_with(&database.url(), &alone).await;
    let administrator = database.connect().await;
    for is_deadline in [true, false] {
        let locked = lock(&database).await;
        if is_deadline {
            // By hand: a client library would not wait for the server's word.
            let headers = format!("\r\nauthorization: Bearer {}\r\ngrpc-timeout: 300m", token(ADA, &[]));
            let body = framed(&lamp().encode_to_vec());
            let status = call_web(service.address(), CREATE, &headers, &body).await;
            assert_eq!(told(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
        } else {
            let call = call(&service, lamp());
            until_waiting(&administrator, 1).await;
            call.abort();
        }
        // The lock is still held: nothing but a cancellation ends it.
        until_waiting(&administrator, 0).await;
        unlock(&locked).await;
        service.create(ADA, lamp()).await.expect("the next caller is served");
    }
    assert_eq!(orders_and_events(&administrator).await, (2, 2), "nothing of what was cancelled");
    service.stop().await;
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_given_up() {
    let database = Database::new().await;
    let service = Service::start_with(&database.url(), IMPATIENT).await;
    let administrator = database.connect().await;
    let locked = lock(&database).await;
    let begun = Instant::now();
    assert_unavailable(service.create(ADA, once()).await);
    assert!(begun.elapsed() < PATIENCE);
    until_waiting(&administrator, 0).await;
    unlock(&locked).await;
    service.create(ADA, lamp()).await.expect("as before");
    service.stop().await;
}

#[tokio::test]
async fn who_finds_every_connection_taken_waits_a_while_and_is_told() {
    let database = Database::new().await;
    let few = ["--database-connections-max", "2", "--database-connect-timeout", "300ms"];
    let service = Service::start_with(&database.url(), &few).await;
    let administrator = database.connect().await;
    let locked = lock(&database).await;
    let (one, other) = (call(&service, lamp()), call(&service, lamp()));
    until_waiting(&administrator, 2).await;
    let begun = Instant::now();
    assert_unavailable(service.create(ADA, lamp()).await);
    assert!(begun.elapsed() < PATIENCE);
    service.until_ready(false).await;
    unlock(&locked).await;
    service.until_ready(true).await;
    for call in [one, other] {
        call.await.expect("no panic").expect("it had a connection");
    }
    assert_eq!(orders_and_events(&administrator).await, (2, 2));
    service.stop().await;
}

/// A Postgres of its own, for tests that stop it.
async fn own_postgres() -> (Postgres, Scratch) {
    let start = || {
        let scratch = Scratch::new().expect("a folder");
        let options = PostgresOptions { without_fsync: true, ..PostgresOptions::default() };
        (Postgres::start(&scratch.path().join("postgres"), options).expect("Postgres starts"), scratch)
    };
    spawn_blocking(start).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_freezes_holds_nobody_for_long_and_is_used_again_when_it_thaws() {
    let (postgres, scratch) = own_postgres().await;
    let service = Service::start_with(&postgres.superuser_url("postgres"), IMPATIENT).await;
    let name = service.create(ADA, lamp()).await.expect("an order").name;
    postgres.freeze();
    let begun = Instant::now();
    let calls = [get(&service, &name), call(&service, once()), call(&service, lamp())];
    for call in calls {
        assert_unavailable(call.await.expect("no panic"));
    }
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    service.until_ready(false).await;
    postgres.thaw();
    service.until_ready(true).await;
    assert_eq!(get(&service, &name).await.expect("no panic").expect("the order").name, name);
    service.create(ADA, once()).await.expect("an order");
    service.stop().await;
    spawn_blocking(move || drop((postgres, scratch))).await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_stopped_and_started_is_used_again() {
    let (postgres, scratch) = own_postgres().await;
    let service = Service::start_with(&postgres.superuser_url("postgres"), IMPATIENT).await;
    let name = service.create(ADA, lamp()).await.expect("an order").name;
    let stop = move || {
        postgres.stop();
        postgres
    };
    let postgres = spawn_blocking(stop).await.expect("no panic");
    assert_unavailable(get(&service, &name).await.expect("no panic"));
    service.until_ready(false).await;
    let restart = move || {
        postgres.restart().expect("it starts again");
        postgres
    };
    let postgres = spawn_blocking(restart).await.expect("no panic");
    service.until_ready(true).await;
    // Nothing is left of the connections that were: the first call goes well.
    get(&service, &name).await.expect("no panic").expect("the order");
    service.stop().await;
    spawn_blocking(move || drop((postgres, scratch))).await.expect("stopped");
}
