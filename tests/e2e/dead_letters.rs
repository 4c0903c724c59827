//! An event that nobody can publish is set aside with its reason, an operator sees it, and the rest flows.

use tailrace::event::v1::DeadLetter;
use tailrace::event::v1::dead_letter::Reason;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::caller::id_in;
use crate::support::record::Record;
use crate::support::subscriber::{Subscriber, live};
use crate::support::system::{Service, System};

const TOPICS: &[&str] = &["dead-letter", "orders.created"];

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_an_unknown_type_is_set_aside_with_its_reason_and_others_flow() {
    let system = System::shared().await;
    let operator = system.operator().await;
    let mut subscriber = Subscriber::start(&operator, TOPICS, live()).await;

    let mut connections = JoinSet::new();
    let database = system.database(Service::Orders, &mut connections).await;
    let (id, key) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    database.execute(INSERT, &[&id, &key]).await.expect("a row");
    let order = operator.place_order().await;

    let event = subscriber.event("the dead letter", |event| event.key == key).await;
    let record = Record::from(&event);
    assert_eq!(event.topic, "dead-letter");
    assert_eq!([record.header("ce_id"), record.header("ce_type")], [id.as_str(), "orders.teleported.v1"]);
    let letter: DeadLetter = serde_json::from_slice(&event.payload).expect("a dead letter in ProtoJSON");
    assert_eq!(letter.reason(), Reason::Unroutable);
    assert!(letter.message.contains("orders.teleported.v1"), "{}", letter.message);
    assert_eq!([&letter.source, &letter.table], ["sources/orders", "public.outbox"]);
    assert_eq!([&letter.event_id, &letter.aggregate_id], [&id, &key]);
    assert_eq!(letter.event_type, "orders.teleported.v1");
    assert_eq!(letter.position, record.header("tailrace_position"));
    assert_eq!(&*letter.payload, b"{\"whereto\":  \"Mars\"}", "kept as it was");

    subscriber.event("the order after it", |event| event.key == id_in(&order.name)).await;
}

const INSERT: &str =
    "insert into outbox (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, headers)
    values ($1::text::uuid, 'orders', $2, 1, 'orders.teleported.v1', '{\"whereto\":  \"Mars\"}', '{}')";
