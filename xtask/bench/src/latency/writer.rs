//! Places orders in an open loop, as a signed-in user.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use tailrace::auth::v1::LoginRequest;
use tailrace::auth::v1::auth_service_client::AuthServiceClient;
use tailrace::google::r#type::Money;
use tailrace::order::v1::order_service_client::OrderServiceClient;
use tailrace::order::v1::{CreateOrderRequest, Order, OrderLine};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;
use xtask::stack::Stack;

/// The first order is due so long after the call.
const LEAD: Duration = Duration::from_millis(100);

/// An order that was placed; times in seconds since 1970.
pub(super) struct Placed {
    /// Its resource name, which its event carries as subject.
    pub(super) subject: String,
    pub(super) due_s: f64,
    pub(super) answered_s: f64,
}

/// The demo account's token, as the header that carries it.
pub(super) async fn sign_in(stack: &Stack) -> Result<MetadataValue<Ascii>> {
    let (email, password) = stack.demo_account()?;
    let channel = Endpoint::from_shared(stack.urls().user.clone())?.connect_lazy();
    let response = AuthServiceClient::new(channel).login(LoginRequest { email, password }).await;
    let token = response.context("the demo account cannot sign in")?.into_inner().access_token;
    format!("Bearer {token}").parse().context("the token is no header value")
}

/// Places so many orders at that rate per second; each in a task of its own, so that a slow one delays no other.
pub(super) async fn place(
    order_service: &str,
    token: &MetadataValue<Ascii>,
    rate: u32,
    count: u32,
) -> Result<Vec<Placed>> {
    let orders = OrderServiceClient::new(Endpoint::from_shared(order_service.to_owned())?.connect().await?);
    let interval = Duration::from_secs(1) / rate;
    let (begun, begun_s) = (Instant::now() + LEAD, seconds(SystemTime::now() + LEAD));
    let mut calls = JoinSet::new();
    for number in 0..count {
        let due = interval * number;
        sleep_until(begun + due).await;
        calls.spawn(place_one(orders.clone(), token.clone(), begun_s + due.as_secs_f64()));
    }
    let mut placed = Vec::new();
    while let Some(done) = calls.join_next().await {
        placed.push(done.context("a call panicked")??);
    }
    Ok(placed)
}

/// Seconds since 1970. A double holds them to a quarter of a microsecond.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

async fn place_one(
    mut orders: OrderServiceClient<Channel>,
    token: MetadataValue<Ascii>,
    due_s: f64,
) -> Result<Placed> {
    let unit_price = Some(Money { currency_code: "EUR".to_owned(), units: 140, nanos: 0 });
    let line = OrderLine { product: "Guide vane".to_owned(), quantity: 2, unit_price };
    let order = Order { lines: vec![line], ..Order::default() };
    let mut request =
        Request::new(CreateOrderRequest { order: Some(order), request_id: Uuid::new_v4().to_string() });
    request.metadata_mut().insert("authorization", token);
    let order = orders.create_order(request).await.context("an order was refused")?.into_inner();
    Ok(Placed { subject: order.name, due_s, answered_s: seconds(SystemTime::now()) })
}
