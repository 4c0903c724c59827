//! Requests with an id are carried out once: thousands of retries at once, and a process that is killed between the commit
//! and the answer.

use std::collections::BTreeMap;

use tailrace::order::v1::{CreateOrderRequest, Order, order_service_client::OrderServiceClient};
use tokio::task::{JoinSet, spawn_blocking};
use tonic::{Code, Response, transport::Channel};
use uuid::Uuid;

use crate::{
    process::Running,
    proxy::Proxy,
    support::{ADA, Database, Service, by, lamp, publish_keys, until},
};

const CREATIONS: usize = 1_000;
const CALLS_PER_CREATION: usize = 10;
/// Each holds at most a hundred calls at a time.
const CONNECTIONS: usize = 32;

fn once(request_id: &str) -> CreateOrderRequest {
    CreateOrderRequest { request_id: request_id.to_owned(), ..lamp() }
}

/// Calls until it is answered, as a client that retries does.
async fn create(mut orders: OrderServiceClient<Channel>, request_id: String) -> (String, Order) {
    loop {
        match orders.create_order(by(ADA, once(&request_id))).await.map(Response::into_inner) {
            Ok(order) => return (request_id, order),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
}

/// Orders with ids of their own, until every connection to the database knows the statement; gives how many. The next one is a
/// single flight: whoever keeps the answer back keeps back that of the commit.
async fn warm_up(orders: &OrderServiceClient<Channel>) -> i64 {
    const AT_ONCE: usize = 4;
    const IN_TURN: usize = 16;
    let id = || Uuid::new_v4().to_string();
    let mut calls = JoinSet::new();
    for _ in 0..AT_ONCE {
        calls.spawn(create(orders.clone(), id()));
    }
    calls.join_all().await;
    for _ in 0..IN_TURN {
        create(orders.clone(), id()).await;
    }
    (AT_ONCE + IN_TURN) as i64
}

/// How many rows a table has.
async fn count(database: &Database, table: &str) -> i64 {
    let row = database.connect().await.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await;
    row.expect("a count").get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_retries_of_a_thousand_creations_make_a_thousand_orders() {
    let database = Database::new().await;
    // Ten thousand calls of one principal are more than one may make at once.
    let unlimited = ["--rate-per-principal=0", "--rate-per-address=0"];
    let service = Service::start_with(&database.url(), &unlimited).await;
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| service.orders()).collect();
    let ids: Vec<String> = (0..CREATIONS).map(|_| Uuid::new_v4().to_string()).collect();
    let mut calls = JoinSet::new();
    for call in 0..CREATIONS * CALLS_PER_CREATION {
        // The calls of one id follow each other at once and on connections of their own: they run side by side.
        let request_id = ids[call / CALLS_PER_CREATION].clone();
        calls.spawn(create(clients[call % CONNECTIONS].clone(), request_id));
    }
    let mut answers: BTreeMap<String, Vec<Order>> = BTreeMap::new();
    for (request_id, order) in calls.join_all().await {
        answers.entry(request_id).or_default().push(order);
    }
    assert_eq!(answers.len(), CREATIONS);
    for (request_id, orders) in &answers {
        assert_eq!(orders.len(), CALLS_PER_CREATION);
        assert!(orders.iter().all(|order| *order == orders[0]), "{request_id}: one answer");
    }
    let expected = CREATIONS as i64;
    for table in ["orders", "order_lines", "outbox", "carried_out_request"] {
        assert_eq!(count(&database, table).await, expected, "{table}");
    }
    service.stop().await;
}

#[tokio::test]
async fn who_is_killed_between_the_commit_and_the_answer_answers_the_retry_as_if_nothing_had_been() {
    let database = Database::new().await;
    let keys_url = publish_keys().await;
    let proxy = Proxy::start(&database.url()).await;
    let running = Running::ready(proxy.url(), &keys_url).await;
    let request_id = Uuid::new_v4().to_string();

    let before = warm_up(&OrderServiceClient::new(running.channel())).await;

    // The database's answers stay on their way: the order is committed, and the service does not know.
    proxy.hold_answers();
    let mut orders = OrderServiceClient::new(running.channel());
    let mut calls = JoinSet::new();
    let request = by(ADA, once(&request_id));
    calls.spawn(async move { orders.create_order(request).await });
    until("the order to be committed", async || count(&database, "outbox").await == before + 1).await;
    spawn_blocking(move || drop(running)).await.expect("killed");
    let lost = calls.join_next().await.expect("a call").expect("no panic").expect_err("no answer");
    assert_ne!(lost.code(), Code::InvalidArgument);

    let running = Running::ready(&database.url(), &keys_url).await;
    let orders = OrderServiceClient::new(running.channel());
    let (_, order) = create(orders.clone(), request_id.clone()).await;
    let (_, again) = create(orders, request_id).await;
    assert_eq!(again, order);
    let id: Uuid = order.name.strip_prefix("orders/").expect("a name").parse().expect("an id");
    let row = database
        .connect()
        .await
        .query_one("SELECT id FROM orders ORDER BY id DESC LIMIT 1", &[])
        .await
        .expect("it");
    assert_eq!(row.get::<_, Uuid>(0), id, "it is the one that was committed");
    spawn_blocking(move || drop(running)).await.expect("killed");
}

#[tokio::test]
async fn an_answer_of_the_database_that_is_lost_is_found_again_and_the_caller_does_not_notice() {
    let database = Database::new().await;
    let proxy = Proxy::start(&database.url()).await;
    let service = Service::start_at(proxy.url()).await;
    let request_id = Uuid::new_v4().to_string();
    let before = warm_up(&service.orders()).await;
    proxy.hold_answers();
    let mut calls = JoinSet::new();
    let (mut orders, request) = (service.orders(), by(ADA, once(&request_id)));
    calls.spawn(async move { orders.create_order(request).await });
    until("the order to be committed", async || count(&database, "outbox").await == before + 1).await;
    proxy.cut();
    let order = calls.join_next().await.expect("a call").expect("no panic").expect("the order").into_inner();
    assert_eq!(order.buyer, ADA);
    let (_, again) = create(service.orders(), request_id).await;
    assert_eq!(again, order);
    let rows = (count(&database, "orders").await, count(&database, "outbox").await);
    assert_eq!(rows, (before + 1, before + 1));
    service.stop().await;
}
