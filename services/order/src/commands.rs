//! What the order service does: create, get and list orders.
//!
//! Who may ask is decided in `grpc.rs`; how it is stored, in `store.rs`.

use tailrace::event::v1::{OrderCreated, order_created};
use tailrace_outbox::{Event, Remembered, Request};
use tailrace_runtime::{clock, page::Page, request::TraceContext, resource};
use uuid::Uuid;

use crate::{
    error::{Error, Kind},
    order::{Basket, COLLECTION, Line, Order},
    store::{Created, Store},
};

/// The type of the event that a new order makes.
const ORDER_CREATED: &str = "orders.created.v1";
const FIRST_VERSION: i64 = 1;

/// The orders, and everything that can be done with them.
pub(crate) struct Orders {
    store: Store,
}

impl Orders {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Creates an order of `buyer` and the event that tells it. A `request` that was carried out before gives the order of then.
    pub(crate) async fn create(
        &self,
        buyer: String,
        basket: Basket,
        request: Option<Request>,
        trace: &TraceContext,
    ) -> Result<Order, Error> {
        let now = clock::now();
        let order = Order {
            id: Uuid::now_v7(),
            buyer,
            basket,
            version: FIRST_VERSION,
            create_time: now,
            update_time: now,
        };
        let event = created_event(&order, trace)?;
        match (self.store.create(&order, request.as_ref(), &event).await?, request) {
            (Created::New, _) => Ok(order),
            (Created::RequestSeen, Some(request)) => self.repeated(&request).await,
            (Created::RequestSeen, None) => Err(Error::inside("a write without a request id met one")),
        }
    }

    /// The order `id`, if `buyer` bought it; no buyer: whoever did.
    pub(crate) async fn get(&self, id: Uuid, buyer: Option<&str>) -> Result<Order, Error> {
        self.store.get(id, buyer).await?.ok_or_else(|| Kind::NotFound.into())
    }

    /// A page of the orders of `buyer`, or of all, newest first, and the token of the next.
    pub(crate) async fn list(&self, page: &Page, buyer: Option<&str>) -> Result<(Vec<Order>, String), Error> {
        let mut orders = self.store.list(page, buyer).await?;
        let next = page.cut(&mut orders, |order| order.id);
        Ok((orders, next))
    }

    async fn repeated(&self, request: &Request) -> Result<Order, Error> {
        match self.store.remembered(request).await? {
            Remembered::CarriedOut(id) => self.get(id, None).await,
            // New: it was forgotten between the two statements, which takes a day; the id is spent all the same.
            Remembered::New | Remembered::Reused => Err(Kind::RequestReused.into()),
        }
    }
}

fn created_event(order: &Order, trace: &TraceContext) -> Result<Event, Error> {
    let payload = OrderCreated {
        order: resource::name(COLLECTION, order.id),
        buyer: order.buyer.clone(),
        lines: order.basket.lines().iter().map(event_line).collect(),
        total: Some(order.basket.total().to_wire()),
        create_time: Some(clock::on_wire(order.create_time)),
    };
    Event::new(ORDER_CREATED, COLLECTION, order.id, order.version, &payload)
        .and_then(|event| {
            event.owned_by(&order.buyer).traced(trace.traceparent.as_deref(), trace.tracestate.as_deref())
        })
        .map_err(Error::inside)
}

fn event_line(line: &Line) -> order_created::Line {
    order_created::Line {
        product: line.product.as_str().to_owned(),
        quantity: line.quantity.get(),
        unit_price: Some(line.unit_price.to_wire()),
    }
}
