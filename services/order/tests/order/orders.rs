//! Creating, reading and listing orders.

use serde_json::{Value, json};
use tailrace::{
    google::r#type::Money,
    order::v1::{CreateOrderRequest, GetOrderRequest, ListOrdersRequest, Order, order::State},
};
use tonic::Code;
use uuid::Uuid;

use crate::support::{ADA, BOB, Database, Service, by, by_operator, fields, lamp, line, new_order, reason};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn an_order_and_its_event_are_written_together() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let lines = vec![line("Lamp", 2, 12, 340_000_000, "EUR"), line("Bulb", 3, 0, 990_000_000, "EUR")];
    let mut request = by(ADA, new_order(lines.clone()));
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().expect("a value"));
    let order = service.orders().create_order(request).await.expect("an order").into_inner();
    assert_eq!(order.buyer, ADA);
    assert_eq!(order.lines, lines);
    assert_eq!(order.total, Some(Money { currency_code: "EUR".to_owned(), units: 27, nanos: 650_000_000 }));
    assert_eq!((order.state(), order.etag.as_str()), (State::Placed, "\"1\""));

    let row = database
        .connect()
        .await
        .query_one(
            "SELECT aggregate_type, aggregate_id, aggregate_version, event_type, payload::text, headers, owner FROM outbox",
            &[],
        )
        .await
        .expect("exactly one event");
    assert_eq!(row.get::<_, String>(0), "orders");
    assert_eq!(Some(row.get::<_, &str>(1)), order.name.strip_prefix("orders/"));
    assert_eq!(row.get::<_, i64>(2), 1);
    assert_eq!(row.get::<_, String>(3), "orders.created.v1");
    let payload: Value = serde_json::from_str(row.get(4)).expect("JSON");
    assert_eq!((&payload["order"], &payload["buyer"]), (&json!(order.name), &json!(ADA)));
    assert_eq!(payload["total"], json!({ "currencyCode": "EUR", "units": "27", "nanos": 650_000_000 }));
    assert_eq!(payload["lines"][1]["product"], "Bulb");
    assert_eq!(row.get::<_, Value>(5), json!({ "traceparent": TRACEPARENT }));
    assert_eq!(row.get::<_, String>(6), ADA);
    service.stop().await;
}

#[tokio::test]
async fn buyers_see_their_own_orders_and_operators_see_all() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let order = service.create(ADA, lamp()).await.expect("an order");
    let get = GetOrderRequest { name: order.name.clone() };
    let own = service.orders().get_order(by(ADA, get.clone())).await.expect("her own");
    assert_eq!(own.into_inner(), order);
    let operator = service.orders().get_order(by_operator(get.clone())).await.expect("an operator");
    assert_eq!(operator.into_inner(), order);

    let foreign = service.orders().get_order(by(BOB, get.clone())).await.expect_err("not his");
    let unknown = GetOrderRequest { name: format!("orders/{}", Uuid::now_v7()) };
    let unknown = service.orders().get_order(by(BOB, unknown)).await.expect_err("nobody's");
    assert_eq!((foreign.code(), reason(&foreign).as_str()), (Code::NotFound, "ORDER_NOT_FOUND"));
    assert_eq!((unknown.code(), unknown.message()), (foreign.code(), foreign.message()));
    let anonymous = service.orders().get_order(get).await.expect_err("no token");
    assert_eq!((anonymous.code(), reason(&anonymous).as_str()), (Code::Unauthenticated, "TOKEN_MISSING"));
    let malformed = GetOrderRequest { name: "orders/1".to_owned() };
    let malformed = service.orders().get_order(by(ADA, malformed)).await.expect_err("no name");
    assert_eq!(fields(&malformed), ["name"]);
    service.stop().await;
}

#[tokio::test]
async fn lists_hold_what_the_caller_may_see_newest_first() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mut all = Vec::new();
    for buyer in [ADA, BOB, ADA, BOB, ADA] {
        all.push(service.create(buyer, lamp()).await.expect("an order"));
    }
    all.reverse();
    let names = |orders: &[Order]| orders.iter().map(|order| order.name.clone()).collect::<Vec<_>>();
    let own: Vec<Order> = all.iter().filter(|order| order.buyer == ADA).cloned().collect();

    let first = ListOrdersRequest { page_size: 2, ..ListOrdersRequest::default() };
    let first = service.orders().list_orders(by(ADA, first)).await.expect("a page").into_inner();
    assert_eq!(names(&first.orders), names(&own[..2]));
    let rest = ListOrdersRequest {
        page_size: 2,
        page_token: first.next_page_token.clone(),
        ..ListOrdersRequest::default()
    };
    let second = service.orders().list_orders(by(ADA, rest.clone())).await.expect("a page").into_inner();
    assert_eq!((names(&second.orders), second.next_page_token.as_str()), (names(&own[2..]), ""));
    let everyone =
        service.orders().list_orders(by_operator(ListOrdersRequest::default())).await.expect("all");
    assert_eq!(names(&everyone.into_inner().orders), names(&all));
    let stolen = service.orders().list_orders(by(BOB, rest)).await.expect_err("the token of another list");
    assert_eq!((stolen.code(), fields(&stolen)), (Code::InvalidArgument, vec!["page_token".to_owned()]));
    service.stop().await;
}

#[tokio::test]
async fn bad_input_names_every_field_at_once() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let check = async |request: CreateOrderRequest, expected: &[&str]| {
        let status = service.create(ADA, request).await.expect_err("bad input");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELDS"));
        assert_eq!(fields(&status), expected);
    };
    let mut without_price = line("Lamp", 1, 0, 0, "EUR");
    without_price.unit_price = None;
    check(CreateOrderRequest::default(), &["order"]).await;
    check(new_order(vec![]), &["order.lines"]).await;
    check(new_order(vec![line("Lamp", 1, 1, 0, "EUR"); 101]), &["order.lines"]).await;
    check(
        new_order(vec![line("", 0, 1, 1, "EUR"), without_price]),
        &[
            "order.lines[0].product",
            "order.lines[0].quantity",
            "order.lines[0].unit_price",
            "order.lines[1].unit_price",
        ],
    )
    .await;
    check(
        new_order(vec![line("Lamp", 1, 1, 0, "EUR"), line("Bulb", 1, 1, 0, "USD")]),
        &["order.lines[1].unit_price.currency_code"],
    )
    .await;
    check(new_order(vec![line("Moon", 10_000, i64::MAX / 100, 0, "EUR")]), &["order.lines"]).await;
    let row = database.connect().await.query_one("SELECT count(*) FROM outbox", &[]).await.expect("a count");
    assert_eq!(row.get::<_, i64>(0), 0, "nothing was written");
    service.stop().await;
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_another_request_does_not() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let request = CreateOrderRequest { request_id: Uuid::new_v4().to_string(), ..lamp() };
    let (first, second) =
        tokio::join!(service.create(ADA, request.clone()), service.create(ADA, request.clone()));
    let first = first.expect("an order");
    assert_eq!(second.expect("the same order"), first, "also when both run at once");
    assert_eq!(service.create(ADA, request.clone()).await.expect("the same order"), first);
    let other = new_order(vec![line("Bulb", 1, 1, 0, "EUR")]);
    let other = CreateOrderRequest { request_id: request.request_id.clone(), ..other };
    let status = service.create(ADA, other).await.expect_err("another request");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    let his = service.create(BOB, request).await.expect("ids of different callers do not meet");
    assert_eq!(his.buyer, BOB);
    let row = database.connect().await.query_one("SELECT count(*) FROM outbox", &[]).await.expect("a count");
    assert_eq!(row.get::<_, i64>(0), 2);
    service.stop().await;
}
