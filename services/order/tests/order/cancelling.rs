//! Cancelling orders, and listing them by state and time.

use service_testing::told;
use tailrace::order::v1::{CancelOrderRequest, GetOrderRequest, ListOrdersRequest, Order, order::State};
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::support::{ADA, BOB, Database, Service, by, by_operator, fields, lamp};

/// The versions and types of an order's events.
async fn events(database: &Database, order: &Order) -> Vec<(i64, String)> {
    let id = order.name.strip_prefix("orders/").expect("a resource name");
    let rows = database
        .connect()
        .await
        .query(
            "SELECT aggregate_version, event_type FROM outbox WHERE aggregate_id = $1 ORDER BY aggregate_version",
            &[&id],
        )
        .await
        .expect("events");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn cancel(order: &Order) -> CancelOrderRequest {
    CancelOrderRequest { name: order.name.clone(), ..CancelOrderRequest::default() }
}

async fn ask(service: &Service, user: &str, request: CancelOrderRequest) -> Result<Order, Status> {
    service.orders().cancel_order(by(user, request)).await.map(Response::into_inner)
}

#[tokio::test]
async fn a_cancelled_order_and_its_event_are_written_together() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let placed = service.create(ADA, lamp()).await.expect("an order");
    let cancelled = ask(&service, ADA, cancel(&placed)).await.expect("cancelled");
    assert_eq!((cancelled.state(), cancelled.etag.as_str()), (State::Cancelled, "\"2\""));
    let unchanged = Order {
        state: placed.state,
        etag: placed.etag.clone(),
        update_time: placed.update_time,
        ..cancelled.clone()
    };
    assert_eq!(unchanged, placed, "nothing else changed");
    let stored = service.orders().get_order(by(ADA, GetOrderRequest { name: placed.name.clone() })).await;
    assert_eq!(stored.expect("the order").into_inner(), cancelled);

    let created = (1, "orders.created.v1".to_owned());
    assert_eq!(events(&database, &placed).await, [created, (2, "orders.cancelled.v1".to_owned())]);
    let row = database
        .connect()
        .await
        .query_one("SELECT payload::text, owner FROM outbox WHERE aggregate_version = 2", &[])
        .await
        .expect("the event");
    let payload: serde_json::Value = serde_json::from_str(row.get(0)).expect("JSON");
    assert_eq!((&payload["order"], &payload["buyer"]), (&placed.name.into(), &ADA.into()));
    assert_eq!(payload["total"]["currencyCode"], "EUR");
    assert_eq!(
        payload["cancelTime"],
        serde_json::to_value(cancelled.update_time.expect("a time")).expect("JSON")
    );
    assert_eq!(row.get::<_, String>(1), ADA);
    service.stop().await;
}

#[tokio::test]
async fn only_a_placed_order_of_ones_own_can_be_cancelled() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let order = service.create(ADA, lamp()).await.expect("an order");
    let foreign = ask(&service, BOB, cancel(&order)).await.expect_err("not his");
    let unknown = CancelOrderRequest { name: format!("orders/{}", Uuid::now_v7()), ..cancel(&order) };
    let unknown = ask(&service, BOB, unknown).await.expect_err("nobody's");
    assert_eq!(told(&foreign), (Code::NotFound, "ORDER_NOT_FOUND".to_owned()));
    assert_eq!((told(&unknown), unknown.message()), (told(&foreign), foreign.message()));
    let bad = CancelOrderRequest {
        name: "orders/1".to_owned(),
        etag: "e".repeat(65),
        request_id: "once".to_owned(),
    };
    let bad = ask(&service, ADA, bad).await.expect_err("bad input");
    assert_eq!(fields(&bad), ["name", "request_id", "etag"]);

    let by_an_operator = service.orders().cancel_order(by_operator(cancel(&order))).await;
    assert_eq!(by_an_operator.expect("cancelled").into_inner().buyer, ADA);
    let again = ask(&service, ADA, cancel(&order)).await.expect_err("it is cancelled");
    assert_eq!(told(&again), (Code::FailedPrecondition, "ORDER_NOT_PLACED".to_owned()));
    assert_eq!(events(&database, &order).await.len(), 2);
    service.stop().await;
}

#[tokio::test]
async fn a_stale_etag_changes_nothing() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let order = service.create(ADA, lamp()).await.expect("an order");
    for stale in ["\"0\"", "1", "*"] {
        let request = CancelOrderRequest { etag: stale.to_owned(), ..cancel(&order) };
        let status = ask(&service, ADA, request).await.expect_err("stale");
        assert_eq!(told(&status), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    }
    assert_eq!(events(&database, &order).await.len(), 1);
    let request = CancelOrderRequest { etag: order.etag.clone(), ..cancel(&order) };
    ask(&service, ADA, request.clone()).await.expect("cancelled");
    let status = ask(&service, ADA, request).await.expect_err("changed since");
    assert_eq!(told(&status), (Code::Aborted, "ETAG_MISMATCH".to_owned()), "the etag is looked at first");
    service.stop().await;
}

#[tokio::test]
async fn of_many_who_cancel_at_once_one_does_and_no_version_is_left_out() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let order = service.create(ADA, lamp()).await.expect("an order");
    let mut calls = JoinSet::new();
    for _ in 0..16 {
        let mut orders = service.orders();
        let request = by(ADA, cancel(&order));
        calls.spawn(async move { orders.cancel_order(request).await.map(Response::into_inner) });
    }
    let outcomes = calls.join_all().await;
    let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).map(told).collect();
    assert_eq!(refused, vec![(Code::FailedPrecondition, "ORDER_NOT_PLACED".to_owned()); 15]);
    let versions: Vec<i64> = events(&database, &order).await.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions, [1, 2]);
    service.stop().await;
}

#[tokio::test]
async fn a_retried_cancellation_gets_the_first_answer() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let order = service.create(ADA, lamp()).await.expect("an order");
    let other = service.create(ADA, lamp()).await.expect("an order");
    let request_id = Uuid::new_v4().to_string();
    let request = CancelOrderRequest { request_id, etag: order.etag.clone(), ..cancel(&order) };
    let (first, second) =
        tokio::join!(ask(&service, ADA, request.clone()), ask(&service, ADA, request.clone()));
    let first = first.expect("cancelled");
    assert_eq!(second.expect("the same answer"), first, "also when both run at once");
    assert_eq!(ask(&service, ADA, request.clone()).await.expect("the same answer"), first);
    let reused = CancelOrderRequest { name: other.name.clone(), etag: String::new(), ..request.clone() };
    let status = ask(&service, ADA, reused).await.expect_err("another request");
    assert_eq!(told(&status), (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()));
    assert_eq!((events(&database, &order).await.len(), events(&database, &other).await.len()), (2, 1));
    service.stop().await;
}

#[tokio::test]
async fn a_retried_creation_gets_the_first_answer_also_when_the_order_changed_since() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let request =
        tailrace::order::v1::CreateOrderRequest { request_id: Uuid::new_v4().to_string(), ..lamp() };
    let order = service.create(ADA, request.clone()).await.expect("an order");
    ask(&service, ADA, cancel(&order)).await.expect("cancelled");
    assert_eq!(service.create(ADA, request.clone()).await.expect("the same answer"), order);
    // One id, two methods.
    let cancellation = CancelOrderRequest { request_id: request.request_id, ..cancel(&order) };
    let status = ask(&service, ADA, cancellation).await.expect_err("another request");
    assert_eq!(told(&status), (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()));
    service.stop().await;
}

#[tokio::test]
async fn lists_hold_what_the_filter_says() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(service.create(ADA, lamp()).await.expect("an order"));
    }
    for order in &all[..2] {
        ask(&service, ADA, cancel(order)).await.expect("cancelled");
    }
    all.reverse();
    let moment = |order: &Order| {
        let text = serde_json::to_value(order.create_time.expect("a time")).expect("JSON");
        text.as_str().expect("text").to_owned()
    };
    let list = async |filter: &str, page_token: &str| {
        let (filter, page_token) = (filter.to_owned(), page_token.to_owned());
        let request = ListOrdersRequest { filter, page_token, page_size: 2 };
        service.orders().list_orders(by(ADA, request)).await.map(Response::into_inner)
    };
    let check = async |filter: &str, expected: &[Order]| {
        let page = list(filter, "").await.expect("a page");
        let names = |orders: &[Order]| orders.iter().map(|order| order.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&page.orders), names(expected), "{filter}");
        page.next_page_token
    };
    check("state = STATE_PLACED", &all[..2]).await;
    check("state != STATE_PLACED", &all[2..]).await;
    let (second, third) = (moment(&all[2]), moment(&all[1]));
    check(&format!("create_time >= \"{third}\""), &all[..2]).await;
    check(&format!("create_time > \"{third}\""), &all[..1]).await;
    check(&format!("create_time < \"{third}\""), &all[2..]).await;
    check(&format!("create_time <= \"{second}\" AND state = STATE_CANCELLED"), &all[2..]).await;
    check("state = STATE_PLACED AND state = STATE_CANCELLED", &[]).await;

    let token = check(&format!("create_time <= \"{third}\""), &all[1..3]).await;
    let other = list("state = STATE_PLACED", &token).await.expect_err("the token of another filter");
    assert_eq!(fields(&other), ["page_token"]);
    let bad = list("buyer = me", "").await.expect_err("no filter");
    assert_eq!(
        (told(&bad), fields(&bad)),
        ((Code::InvalidArgument, "INVALID_FIELDS".to_owned()), vec!["filter".to_owned()])
    );
    service.stop().await;
}
