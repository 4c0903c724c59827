//! What only somebody hostile or broken sends is answered with exactly what it deserves.

use service_testing::{
    Hostile, Sample, TEXTS, assert_bombs, assert_damaged, assert_floods, assert_hostile_texts,
    assert_limits_are_told,
};
use tailrace::{
    google::r#type::Money,
    order::v1::{
        CancelOrderRequest, CreateOrderRequest, GetOrderRequest, ListOrdersRequest, Order, OrderLine,
        order::State, order_service_server::SERVICE_NAME,
    },
};
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::{
    process::Running,
    rules::{CANCEL, CREATE, GET, LIST},
    support::{
        ADA, BOB, Database, Service, by, by_operator, fields, lamp, line, new_order, publish_keys, reason,
        token,
    },
};

/// What Ada asks for as the sample of each RPC, and how the service answers it.
fn requests(cancelled: &str) -> [Hostile; 4] {
    let token = token(ADA, &[]);
    let cancel = CancelOrderRequest { name: cancelled.to_owned(), ..CancelOrderRequest::default() };
    let get = GetOrderRequest { name: cancelled.to_owned() };
    let currency = "order.lines[0].unit_price.currency_code";
    [
        Hostile::new(Sample::new(CREATE, &token, &lamp()), None).always(currency, "INVALID_FIELDS"),
        Hostile::new(Sample::new(GET, &token, &get), None),
        Hostile::new(Sample::new(LIST, &token, &ListOrdersRequest::default()), None)
            .always("page_token", "INVALID_FIELDS")
            .always("filter", "INVALID_FIELDS"),
        Hostile::new(Sample::new(CANCEL, &token, &cancel), Some("ORDER_NOT_PLACED"))
            .where_allowed("etag", "ETAG_MISMATCH"),
    ]
}

#[tokio::test]
async fn hostile_texts_and_damaged_messages_get_an_exact_answer() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let name = service.create(ADA, lamp()).await.expect("an order").name;
    let cancel = CancelOrderRequest { name: name.clone(), ..CancelOrderRequest::default() };
    service.orders().cancel_order(by(ADA, cancel)).await.expect("cancelled");
    let (channel, requests) = (service.channel(), requests(&name));
    let answers = assert_hostile_texts(&channel, SERVICE_NAME, &requests).await
        + assert_damaged(&channel, SERVICE_NAME, &requests).await
        + assert_bombs(&channel, SERVICE_NAME, &requests).await;
    assert!(answers > 300, "{answers}");
    service.stop().await;
}

#[tokio::test]
async fn a_flood_of_frames_ends_its_connection_and_nobody_elses() {
    let database = Database::new().await;
    let running = Running::ready(&database.url(), &publish_keys().await).await;
    assert_limits_are_told(running.address(), 100, 16_384).await;
    let frames = assert_floods(running.address(), running.pid()).await;
    assert!(frames > 200_000, "{frames}");
}

#[tokio::test]
async fn texts_that_may_be_kept_are_kept_as_they_are() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let kept = TEXTS.iter().filter(|text| !text.chars().any(char::is_control));
    let lines: Vec<_> = kept.map(|text| line(text, 1, 1, 0, "EUR")).collect();
    assert!(lines.len() > 25, "most of them");
    let created = service.create(ADA, new_order(lines.clone())).await.expect("an order");
    assert_eq!(created.lines, lines);
    let get = GetOrderRequest { name: created.name.clone() };
    let got = service.orders().get_order(by(ADA, get)).await.expect("the order").into_inner();
    assert_eq!(got, created);
    let row = database.connect().await.query_one("SELECT payload::text FROM outbox", &[]).await.expect("one");
    let event: tailrace::event::v1::OrderCreated =
        serde_json::from_str(row.get(0)).expect("the event is JSON");
    let told: Vec<_> = event.lines.iter().map(|line| line.product.as_str()).collect();
    let products: Vec<_> = lines.iter().map(|line| line.product.as_str()).collect();
    assert_eq!(told, products);
    service.stop().await;
}

/// The service answers so: with a reason and, where fields are not valid, these.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(
    what: &str,
    outcome: Result<Response<T>, Status>,
    expected: &str,
    paths: &[&str],
) {
    let status = outcome.expect_err(what);
    assert_eq!(reason(&status), expected, "{what}: {status:?}");
    if expected == "INVALID_FIELDS" {
        assert_eq!(fields(&status), paths, "{what}: {status:?}");
    }
}

fn price(units: i64, nanos: i32, currency: &str) -> CreateOrderRequest {
    new_order(vec![line("Lamp", 1, units, nanos, currency)])
}

/// Orders that are none: what, the order, and the fields that are not valid.
fn bad_orders() -> Vec<(&'static str, CreateOrderRequest, Vec<&'static str>)> {
    const PRICE: &str = "order.lines[0].unit_price";
    const QUANTITY: &str = "order.lines[0].quantity";
    const LINES: &str = "order.lines";
    let several = |count| new_order(vec![line("Lamp", 1, 1, 0, "EUR"); count]);
    let quantity = |quantity| new_order(vec![line("Lamp", quantity, 1, 0, "EUR")]);
    let pair = |one: OrderLine, other: OrderLine| new_order(vec![one, other]);
    let euro = || line("Lamp", 1, 1, 0, "EUR");
    let mut bad = vec![
        ("no order", CreateOrderRequest::default(), vec!["order"]),
        ("no line", several(0), vec![LINES]),
        ("a line too many", several(101), vec![LINES]),
        ("10 000 lines", several(10_000), vec![LINES]),
        (
            "an empty line",
            new_order(vec![OrderLine::default()]),
            vec!["order.lines[0].product", QUANTITY, PRICE],
        ),
        ("no price", new_order(vec![OrderLine { unit_price: None, ..euro() }]), vec![PRICE]),
        (
            "two bad lines",
            pair(line("", 1, 1, 0, "EUR"), line("Lamp", 0, 1, 0, "EUR")),
            vec!["order.lines[0].product", "order.lines[1].quantity"],
        ),
        (
            "mixed currencies",
            pair(euro(), line("Lamp", 1, 1, 0, "USD")),
            vec!["order.lines[1].unit_price.currency_code"],
        ),
        ("a sum too large", pair(line("Lamp", 1, i64::MAX / 100, 0, "EUR"), euro()), vec![LINES]),
        (
            "a product too large",
            new_order(vec![line("Lamp", 10_000, i64::MAX / 1000, 0, "EUR")]),
            vec![LINES],
        ),
    ];
    bad.extend(
        [0, -1, i32::MIN, i32::MAX, 10_001].map(|count| ("a bad quantity", quantity(count), vec![QUANTITY])),
    );
    let amounts = [
        (-1, 0),
        (0, -10_000_000),
        (-1, -10_000_000),
        (i64::MIN, 0),
        (i64::MIN, i32::MIN),
        (1, -10_000_000),
        (-1, 10_000_000),
        (0, 1),
        (0, 9_999_999),
        (0, 5_000_000),
        (0, 999_999_999),
        (0, 1_000_000_000),
        (0, i32::MAX),
        (0, i32::MIN),
        (i64::MAX, 0),
        (i64::MAX, 990_000_000),
        (i64::MAX / 100 + 1, 0),
        (i64::MAX / 100, 80_000_000),
    ];
    bad.extend(amounts.map(|(units, nanos)| ("a bad amount", price(units, nanos, "EUR"), vec![PRICE])));
    let currencies =
        ["", "eur", "Eur", "EU", "EURO", "EU1", "E R", " EUR", "€", "ÄBC", "ＥＵＲ", "EUR\0", "978"];
    bad.extend(currencies.map(|currency| ("a bad currency", price(1, 0, currency), vec![PRICE])));
    bad
}

#[tokio::test]
async fn orders_that_are_none_are_refused_and_write_nothing() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let cases = bad_orders();
    let count = cases.len();
    for (what, request, paths) in cases {
        let what = format!("{what}: {:?}", request.order.as_ref().and_then(|order| order.lines.first()));
        let outcome = service.orders().create_order(by(ADA, request)).await;
        assert_refused(&what, outcome, "INVALID_FIELDS", &paths);
    }
    // More than a port reads is not even looked at.
    let huge = new_order(vec![line("A lamp with a long name", 1, 1, 0, "EUR"); 10_000]);
    assert_refused("huge", service.orders().create_order(by(ADA, huge)).await, "MESSAGE_TOO_LARGE", &[]);
    for id in bad_request_ids() {
        let request = CreateOrderRequest { request_id: id.clone(), ..lamp() };
        let outcome = service.orders().create_order(by(ADA, request)).await;
        assert_refused(&id, outcome, "INVALID_FIELDS", &["request_id"]);
    }
    let rows = database.connect().await.query_one("SELECT count(*) FROM outbox", &[]).await.expect("a count");
    assert_eq!(rows.get::<_, i64>(0), 0);
    eprintln!("{} hostile orders answered as they must be", count + 1 + bad_request_ids().len());
    service.stop().await;
}

/// UUIDs in spellings that are nobody's.
fn bad_request_ids() -> Vec<String> {
    let id = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";
    let mut ids = vec![id.replace('-', ""), format!("{{{id}}}"), format!("urn:uuid:{id}"), format!(" {id}")];
    ids.extend([format!("{id}\n"), format!("{id}0"), id[1..].to_owned(), id.replace('f', "g")]);
    ids.extend([id.replace('-', "_"), id.replacen('-', "", 1), id.replace('1', "１"), "0".repeat(36)]);
    ids
}

#[tokio::test]
async fn what_only_the_server_sets_is_not_heard() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let stolen = Money { currency_code: "EUR".to_owned(), units: 0, nanos: 10_000_000 };
    let long_ago = pbjson_types::Timestamp { seconds: 1, nanos: 0 };
    let own = Uuid::now_v7();
    let order = Order {
        name: format!("orders/{own}"),
        buyer: BOB.to_owned(),
        total: Some(stolen),
        state: State::Cancelled.into(),
        create_time: Some(long_ago),
        update_time: Some(long_ago),
        etag: "\"99\"".to_owned(),
        lines: lamp().order.expect("an order").lines,
    };
    let request = CreateOrderRequest { order: Some(order), request_id: String::new() };
    let created = service.create(ADA, request).await.expect("an order");
    assert_ne!(created.name, format!("orders/{own}"));
    assert_eq!((created.buyer.as_str(), created.state()), (ADA, State::Placed));
    assert_eq!(created.total.as_ref().map(|total| (total.units, total.nanos)), Some((24, 680_000_000)));
    assert_eq!(created.etag, "\"1\"");
    assert!(created.create_time.is_some_and(|time| time.seconds > 1_000_000_000), "{created:?}");
    service.stop().await;
}

#[tokio::test]
async fn names_etags_pages_and_filters_that_are_none_are_refused() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let name = service.create(ADA, lamp()).await.expect("an order").name;
    let mut answers = 0;
    for bad in bad_names(&name) {
        let get = GetOrderRequest { name: bad.clone() };
        assert_refused(&bad, service.orders().get_order(by(ADA, get)).await, "INVALID_FIELDS", &["name"]);
        let cancel = CancelOrderRequest { name: bad.clone(), ..CancelOrderRequest::default() };
        assert_refused(
            &bad,
            service.orders().cancel_order(by(ADA, cancel)).await,
            "INVALID_FIELDS",
            &["name"],
        );
        answers += 2;
    }
    for nobodys in [format!("orders/{}", Uuid::now_v7()), format!("orders/{}", Uuid::nil()), name.clone()] {
        let get = GetOrderRequest { name: nobodys.clone() };
        assert_refused(&nobodys, service.orders().get_order(by(BOB, get)).await, "ORDER_NOT_FOUND", &[]);
        let cancel = CancelOrderRequest { name: nobodys.clone(), ..CancelOrderRequest::default() };
        assert_refused(
            &nobodys,
            service.orders().cancel_order(by(BOB, cancel)).await,
            "ORDER_NOT_FOUND",
            &[],
        );
        answers += 2;
    }
    for etag in
        ["1", "\"2\"", "W/\"1\"", "\"1", "\"01\"", "\"1\"\"", "*", "\"-1\"", "\" 1\"", "\"１\"", "\"1\"\0"]
    {
        let cancel =
            CancelOrderRequest { name: name.clone(), etag: etag.to_owned(), request_id: String::new() };
        assert_refused(etag, service.orders().cancel_order(by(ADA, cancel)).await, "ETAG_MISMATCH", &[]);
        answers += 1;
    }
    for filter in BAD_FILTERS {
        let list = ListOrdersRequest { filter: (*filter).to_owned(), ..ListOrdersRequest::default() };
        assert_refused(
            filter,
            service.orders().list_orders(by(ADA, list)).await,
            "INVALID_FIELDS",
            &["filter"],
        );
        answers += 1;
    }
    for page_size in [-1, i32::MIN] {
        let list = ListOrdersRequest { page_size, ..ListOrdersRequest::default() };
        assert_refused(
            "size",
            service.orders().list_orders(by(ADA, list)).await,
            "INVALID_FIELDS",
            &["page_size"],
        );
        answers += 1;
    }
    eprintln!("{answers} hostile names, etags, filters and pages answered as they must be");
    service.stop().await;
}

/// Names that nothing has.
fn bad_names(name: &str) -> Vec<String> {
    let id = name.strip_prefix("orders/").expect("a name");
    let mut names = vec![name.to_uppercase(), format!("orders/{}", id.to_uppercase()), format!("{name}/")];
    names.extend([format!("/{name}"), format!("//orders/{id}"), format!("orders//{id}"), id.to_owned()]);
    names.extend([format!("users/{id}"), format!("orders/{id}/lines"), format!("orders/{id}?a=b")]);
    names.extend([format!("orders/../orders/{id}"), format!("orders/{}", id.replace('-', ""))]);
    names.extend([
        format!("orders/{{{id}}}"),
        format!("orders/{id}%00"),
        format!("{name}\0"),
        format!(" {name}"),
    ]);
    names.extend([format!("{name},{name}"), format!("orders/{id}' OR '1'='1"), format!("Orders/{id}")]);
    names.extend(
        ["", "orders", "orders/", "orders/-", "orders/*", "orders/1", "orders/null"].map(str::to_owned),
    );
    names
}

const BAD_FILTERS: &[&str] = &[
    "state",
    "state =",
    "= STATE_PLACED",
    "state = PLACED",
    "state = placed",
    "state = 1",
    "state = STATE_UNSPECIFIED",
    "state = STATE_GONE",
    "state == STATE_PLACED",
    "state < STATE_PLACED",
    "state = \"STATE_PLACED\"",
    "state:STATE_PLACED",
    "STATE = STATE_PLACED",
    "NOT state = STATE_PLACED",
    "state = STATE_PLACED OR state = STATE_CANCELLED",
    "state = STATE_PLACED and state = STATE_PLACED",
    "state = STATE_PLACED AND",
    "AND state = STATE_PLACED",
    "state = STATE_PLACED ANDstate = STATE_PLACED",
    "state = STATE_PLACED state = STATE_PLACED",
    "(state = STATE_PLACED)",
    "state = STATE_PLACED; DROP TABLE orders",
    "state = STATE_PLACED -- ",
    "buyer = \"users/x\"",
    "total > 1",
    "create_time",
    "create_time = \"2026-01-01T00:00:00Z\"",
    "create_time > 2026-01-01T00:00:00Z",
    "create_time > '2026-01-01T00:00:00Z'",
    "create_time > \"2026-01-01\"",
    "create_time > \"2026-13-01T00:00:00Z\"",
    "create_time > \"2026-01-01T00:00:00\"",
    "create_time > \"-999999-01-01T00:00:00Z\"",
    "create_time > \"9999-12-31T23:59:59.9999999999999999999999999Z\" OR 1=1",
    "create_time > \"2026-01-01T00:00:00Z",
    "create_time > \"now()\"",
    "create_time > \"infinity\"",
    "create_time >\0\"2026-01-01T00:00:00Z\"",
    "1 = 1",
    "true",
    "\"",
];

#[tokio::test]
async fn a_page_token_leads_nowhere_else() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    for _ in 0..3 {
        service.create(ADA, lamp()).await.expect("an order");
        service.create(BOB, lamp()).await.expect("an order");
    }
    let list = ListOrdersRequest { page_size: 1, ..ListOrdersRequest::default() };
    let first = service.orders().list_orders(by(ADA, list.clone())).await.expect("a page").into_inner();
    let token = first.next_page_token;
    let with = |page_token: &str| ListOrdersRequest { page_token: page_token.to_owned(), ..list.clone() };
    let mut answers = 0;
    for bit in 0..token.len() * 7 {
        let mut bytes = token.clone().into_bytes();
        bytes[bit / 7] ^= 1 << (bit % 7);
        let flipped = String::from_utf8(bytes).expect("ASCII");
        let outcome = service.orders().list_orders(by(ADA, with(&flipped))).await;
        assert_refused(&flipped, outcome, "INVALID_FIELDS", &["page_token"]);
        answers += 1;
    }
    let filtered = ListOrdersRequest { filter: "state = STATE_PLACED".to_owned(), ..with(&token) };
    let others = [
        ("cut", service.orders().list_orders(by(ADA, with(&token[1..]))).await),
        ("twice", service.orders().list_orders(by(ADA, with(&format!("{token}{token}")))).await),
        ("padded", service.orders().list_orders(by(ADA, with(&format!("{token}=")))).await),
        ("of another query", service.orders().list_orders(by(ADA, filtered)).await),
        ("of another user", service.orders().list_orders(by(BOB, with(&token))).await),
        (
            "of an operator, who sees another list",
            service.orders().list_orders(by_operator(with(&token))).await,
        ),
    ];
    for (what, outcome) in others {
        assert_refused(what, outcome, "INVALID_FIELDS", &["page_token"]);
        answers += 1;
    }
    let second = service.orders().list_orders(by(ADA, with(&token))).await.expect("a page").into_inner();
    assert_eq!(second.orders.len(), 1, "unaltered it leads to the next page");
    assert!(!second.orders.iter().any(|order| order.buyer == BOB));
    eprintln!("{answers} hostile page tokens answered as they must be");
    service.stop().await;
}

#[tokio::test]
async fn a_request_id_is_its_callers_alone() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let once = CreateOrderRequest { request_id: Uuid::new_v4().to_string(), ..lamp() };
    let adas = service.create(ADA, once.clone()).await.expect("an order");
    let bobs = service.create(BOB, once.clone()).await.expect("another caller's ids are others");
    assert!(adas.name != bobs.name && bobs.buyer == BOB);
    let other = CreateOrderRequest { order: price(1, 0, "EUR").order, ..once.clone() };
    let status = service.create(ADA, other).await.expect_err("another payload");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    assert_eq!(fields(&status), ["request_id"]);
    // The same id in capitals is the same id.
    let shouted = CreateOrderRequest { request_id: once.request_id.to_uppercase(), ..once };
    assert_eq!(service.create(ADA, shouted).await.expect("the answer of then"), adas);
    service.stop().await;
}
