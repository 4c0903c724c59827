//! A user signs up and orders, and somebody who watches sees both at once, with all that an event carries.

use std::time::SystemTime;

use tailrace::event::v1::{Event, OrderCreated, UserCreated, order_created};
use tailrace::order::v1::Order;
use uuid::Uuid;

use crate::support::caller::{id_in, new_order, new_user};
use crate::support::record::Record;
use crate::support::subscriber::{Subscriber, live};
use crate::support::system::System;
use crate::support::truth::TOPICS;
use crate::support::until;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_an_order_are_seen_on_one_stream_with_all_they_carry() {
    let system = System::shared().await;
    let operator = system.operator().await;
    let mut subscriber = Subscriber::start(&operator, TOPICS, live()).await;

    let request = new_user("Ada Weir");
    let email = request.user.clone().expect("a user").email;
    let user = operator.create_user(operator.request(request)).await.expect("a user");
    let order =
        operator.create_order(operator.request(new_order("Water wheel, oak", 3))).await.expect("an order");

    let event = subscriber.event("the user", |event| event.key == id_in(&user.name)).await;
    let payload = UserCreated {
        user: user.name.clone(),
        display_name: "Ada Weir".to_owned(),
        email,
        create_time: user.create_time,
    };
    check_payload(&event, &payload);
    check_origin(&event, "users", &user.name, &user.name);

    let event = subscriber.event("the order", |event| event.key == id_in(&order.name)).await;
    check_payload(&event, &order_created(&order));
    check_origin(&event, "orders", &order.name, &operator.user);
}

fn order_created(order: &Order) -> OrderCreated {
    let lines = order.lines.iter().map(|line| order_created::Line {
        product: line.product.clone(),
        quantity: line.quantity,
        unit_price: line.unit_price.clone(),
    });
    OrderCreated {
        order: order.name.clone(),
        buyer: order.buyer.clone(),
        lines: lines.collect(),
        total: order.total.clone(),
        create_time: order.create_time,
    }
}

/// The payload is the message in ProtoJSON.
#[track_caller]
fn check_payload<M: serde::Serialize>(event: &Event, message: &M) {
    let payload: serde_json::Value = serde_json::from_slice(&event.payload).expect("JSON");
    assert_eq!(payload, serde_json::to_value(message).expect("JSON"));
    assert_eq!(event.content_type, "application/json");
}

/// Attributes, headers and moments of the first event of an aggregate.
#[track_caller]
fn check_origin(event: &Event, source: &str, aggregate: &str, owner: &str) {
    let record = Record::from(event);
    let event_type = format!("{source}.created.v1");
    let event_source = format!("/tailrace/sources/{source}");
    Uuid::parse_str(&event.id).expect("the id of the outbox row");
    assert_eq!(event.topic, format!("{source}.created"));
    assert_eq!([&event.r#type, &event.source, &event.subject], [&event_type, &event_source, aggregate]);
    assert_eq!(record.key, id_in(aggregate));
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", &event.id),
        ("ce_type", &event_type),
        ("ce_source", &event_source),
        ("ce_subject", aggregate),
        ("content-type", "application/json"),
        ("tailrace_owner", owner),
        ("tailrace_aggregate_version", "1"),
    ];
    for (name, value) in headers {
        assert_eq!(record.header(name), value, "{name}");
    }
    let (commit, ordinal) = record.position();
    assert!(commit > 0 && ordinal == 0, "{:?}", record.position());
    check_moments(event);
}

/// Committed, decoded by the relay, received by the gateway, and now, in this order.
#[track_caller]
fn check_moments(event: &Event) {
    let moments = [event.commit_time, event.relay_time, event.gateway_time];
    let moments = moments.map(|time| {
        let time = time.expect("a moment");
        // Kafka keeps milliseconds.
        i128::from(time.seconds) * 1000 + i128::from(time.nanos / 1_000_000)
    });
    assert!(moments.is_sorted(), "{moments:?}");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let now = i128::try_from(now.as_millis()).expect("not that late");
    assert!(moments[2] <= now);
    eprintln!(
        "{}: commit to gateway {} ms, to the subscriber {} ms",
        event.topic,
        moments[2] - moments[0],
        now - moments[0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_the_caller_arrives_in_kafka() {
    let system = System::shared().await;
    let customer = system.customer("Lester Pelton").await;
    let mut request = customer.request(new_order("Bucket, bronze", 1));
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().expect("ASCII"));
    let order = customer.create_order(request).await.expect("an order");
    let find = || async {
        system.topic("orders.created").into_iter().find(|record| record.key == id_in(&order.name))
    };
    let record = until("the order in the topic", find).await;
    assert_eq!(record.header("traceparent"), TRACEPARENT);
}
