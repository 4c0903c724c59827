//! The Rust client: what `live/` of its sisters does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::TryStreamExt as _;
use tailrace_client::google::r#type::Money;
use tailrace_client::order::v1::{
    CancelOrderRequest, CreateOrderRequest, ListOrdersRequest, Order, OrderLine,
};
use tailrace_client::stream::v1::WatchRequest;
use tailrace_client::stream::v1::watch_request::Start;
use tailrace_client::stream::v1::watch_response::Message;
use tailrace_client::user::v1::{CreateUserRequest, GetUserRequest, UpdateUserRequest, User};
use tailrace_client::{
    Backoff, Credentials, Endpoints, Password, Status, Tailrace, WatchOptions, WatchState, connect,
    failure_of, new_request_id,
};
use tokio::time::timeout;

use crate::support::DEADLINE;
use crate::support::link::BreakingLink;
use crate::support::system::System;

const ORDERS: usize = 20;

fn endpoints(system: &System) -> Endpoints {
    let urls = system.stack.urls();
    Endpoints {
        users: urls.user.clone(),
        orders: urls.order.clone(),
        relay: urls.relay.clone(),
        gateway: urls.gateway.clone(),
    }
}

/// Somebody new.
async fn customer(system: &System, to: &Endpoints) -> (Tailrace, User) {
    let email = format!("{}@sdk.tailrace.localhost", new_request_id());
    let account = Password::new(email.clone(), "a password of the tests");
    let user = User { display_name: "SDK".to_owned(), email, ..User::default() };
    let password = account.password.clone();
    let request = CreateUserRequest { user: Some(user), password, ..CreateUserRequest::default() };
    let anyone = connect(&endpoints(system), Credentials::Nobody).expect("addresses");
    let user = anyone.users().create_user(request).await.expect("a user").into_inner();
    (connect(to, account).expect("addresses"), user)
}

fn order(product: &str, quantity: i32) -> CreateOrderRequest {
    let unit_price = Some(Money { currency_code: "EUR".to_owned(), units: 12, nanos: 500_000_000 });
    let lines = vec![OrderLine { product: product.to_owned(), quantity, unit_price }];
    CreateOrderRequest { order: Some(Order { lines, ..Order::default() }), ..CreateOrderRequest::default() }
}

async fn place(tailrace: &Tailrace, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for number in 0..count {
        let placed = tailrace.orders().create_order(order(&format!("Wheel {number}"), 1)).await;
        names.push(placed.expect("an order").into_inner().name);
    }
    names
}

/// The sizes of the pages, and the names, oldest first.
async fn list(tailrace: &Tailrace, page_size: i32) -> (Vec<usize>, Vec<String>) {
    let request = ListOrdersRequest { page_size, ..ListOrdersRequest::default() };
    let pages: Vec<_> = tailrace.pages(request).try_collect().await.expect("pages");
    let sizes = pages.iter().map(|page| page.orders.len()).collect();
    let names = pages.into_iter().flat_map(|page| page.orders).map(|order| order.name);
    let mut names: Vec<_> = names.collect();
    names.reverse();
    (sizes, names)
}

fn reason<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    failure_of(&answer.expect_err("a failure")).reason
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_lists_by_pages_what_was_ordered() {
    let system = System::shared().await;
    let (tailrace, _) = customer(system, &endpoints(system)).await;
    let placed = place(&tailrace, 5).await;
    assert_eq!(list(&tailrace, 2).await, (vec![2, 2, 1], placed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_reads_why_a_call_failed_and_stays_signed_in() {
    let system = System::shared().await;
    let (tailrace, user) = customer(system, &endpoints(system)).await;
    let invalid = tailrace.orders().create_order(order("Sluice", 0)).await.expect_err("no order");
    let invalid = failure_of(&invalid);
    assert_eq!(invalid.reason, "INVALID_FIELDS");
    assert_eq!(invalid.fields.keys().collect::<Vec<_>>(), ["order.lines[0].quantity"]);

    let [name] = place(&tailrace, 1).await.try_into().expect("one order");
    let cancel = CancelOrderRequest { name, ..CancelOrderRequest::default() };
    tailrace.orders().cancel_order(cancel.clone()).await.expect("cancelled");
    assert_eq!(reason(tailrace.orders().cancel_order(cancel).await), "ORDER_NOT_PLACED");

    tailrace.renew().await.expect("the next token");
    let rename = |display_name: &str| {
        let user = User { display_name: display_name.to_owned(), ..user.clone() };
        UpdateUserRequest { user: Some(user), ..UpdateUserRequest::default() }
    };
    tailrace.users().update_user(rename("First")).await.expect("renamed");
    assert_eq!(reason(tailrace.users().update_user(rename("Second")).await), "ETAG_MISMATCH");
    let found = tailrace.users().get_user(GetUserRequest { name: user.name.clone() }).await;
    assert_eq!(found.expect("the user").into_inner().display_name, "First");
    tailrace.sign_out().await.expect("signed out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_places_each_order_once_and_sees_it_once_over_links_that_break() {
    let system = System::shared().await;
    let whole = endpoints(system);
    let (orders, gateway) = (BreakingLink::to(&whole.orders).await, BreakingLink::to(&whole.gateway).await);
    let cut = Endpoints { orders: orders.url().to_owned(), gateway: gateway.url().to_owned(), ..whole };
    let (tailrace, _) = customer(system, &cut).await;
    let has_waited = Arc::new(AtomicBool::new(false));
    let waited = Arc::clone(&has_waited);
    let options = WatchOptions {
        backoff: Backoff { base: Duration::from_millis(50), cap: Duration::from_millis(200) },
        on_state: Arc::new(move |state| {
            waited.fetch_or(state == WatchState::Waiting, Ordering::Relaxed);
        }),
        ..WatchOptions::default()
    };
    let topics = vec!["orders.created".to_owned()];
    let mut watch = tailrace.watch(WatchRequest { topics, start: Some(Start::Newest(1000)) }, options);
    let seeing = async {
        let mut seen = Vec::new();
        while seen.len() < ORDERS || !has_waited.load(Ordering::Relaxed) {
            let response = watch.next().await.expect("a watch goes on");
            if let Some(Message::Event(event)) = response.message {
                seen.push(event.subject);
            }
        }
        seen
    };
    let (mut placed, seen) = tokio::join!(place(&tailrace, ORDERS), timeout(DEADLINE, seeing));
    let mut seen = seen.expect("every order is seen in time");
    assert_eq!(list(&tailrace, 7).await.1, placed);
    // Orders lie in several partitions, so only each order's own events have an order.
    placed.sort();
    seen.sort();
    assert_eq!(seen, placed);
}
