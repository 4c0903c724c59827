//! An order in the words of the contract: as a message, and as the payload of its events.

use tailrace::{
    event::v1::{OrderCancelled, OrderCreated, order_created},
    order::v1::{Order as OrderMessage, OrderLine, order::State as StateMessage},
};
use tailrace_outbox::{Event, EventError};
use tailrace_runtime::{clock, request::TraceContext, resource};

use crate::order::{COLLECTION, Line, Order, State};

/// The types of the events that changes of orders make.
const ORDER_CREATED: &str = "orders.created.v1";
const ORDER_CANCELLED: &str = "orders.cancelled.v1";

pub(crate) fn message(order: &Order) -> OrderMessage {
    let state = match order.state {
        State::Placed => StateMessage::Placed,
        State::Cancelled => StateMessage::Cancelled,
    };
    OrderMessage {
        name: resource::name(COLLECTION, order.id),
        buyer: order.buyer.clone(),
        lines: order.basket.lines().iter().map(line_message).collect(),
        total: Some(order.basket.total().to_wire()),
        state: state.into(),
        create_time: Some(clock::on_wire(order.create_time)),
        update_time: Some(clock::on_wire(order.update_time)),
        etag: resource::etag(order.version),
    }
}

pub(crate) fn created_event(order: &Order, trace: &TraceContext) -> Result<Event, EventError> {
    let payload = OrderCreated {
        order: resource::name(COLLECTION, order.id),
        buyer: order.buyer.clone(),
        lines: order.basket.lines().iter().map(event_line).collect(),
        total: Some(order.basket.total().to_wire()),
        create_time: Some(clock::on_wire(order.create_time)),
    };
    let event = Event::new(ORDER_CREATED, COLLECTION, order.id, order.version, &payload)?;
    of_buyer(event, order, trace)
}

pub(crate) fn cancelled_event(order: &Order, trace: &TraceContext) -> Result<Event, EventError> {
    let payload = OrderCancelled {
        order: resource::name(COLLECTION, order.id),
        buyer: order.buyer.clone(),
        total: Some(order.basket.total().to_wire()),
        cancel_time: Some(clock::on_wire(order.update_time)),
    };
    let event = Event::new(ORDER_CANCELLED, COLLECTION, order.id, order.version, &payload)?;
    of_buyer(event, order, trace)
}

fn of_buyer(event: Event, order: &Order, trace: &TraceContext) -> Result<Event, EventError> {
    event.owned_by(&order.buyer).traced(trace.traceparent.as_deref(), trace.tracestate.as_deref())
}

fn line_message(line: &Line) -> OrderLine {
    OrderLine {
        product: line.product.as_str().to_owned(),
        quantity: line.quantity.get(),
        unit_price: Some(line.unit_price.to_wire()),
    }
}

fn event_line(line: &Line) -> order_created::Line {
    order_created::Line {
        product: line.product.as_str().to_owned(),
        quantity: line.quantity.get(),
        unit_price: Some(line.unit_price.to_wire()),
    }
}
