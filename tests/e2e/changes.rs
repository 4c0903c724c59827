//! Every change reaches its topic, and the versions put the events of one thing in order across topics.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use tailrace::event::v1::Event;
use tailrace::order::v1::CancelOrderRequest;
use tailrace::user::v1::{DeleteUserRequest, UpdateUserRequest, User};
use tonic::Code;

use crate::support::caller::{id_in, new_order};
use crate::support::record::Record;
use crate::support::subscriber::{Subscriber, live};
use crate::support::system::System;
use crate::support::until;

const TOPICS: &[&str] =
    &["users.created", "users.updated", "users.deleted", "orders.created", "orders.cancelled"];

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_seen_in_its_topic_with_its_version() {
    let system = System::shared().await;
    let operator = system.operator().await;
    let mut subscriber = Subscriber::start(&operator, TOPICS, live()).await;

    let customer = system.customer("Viktor Kaplan").await;
    let order = customer.place_order().await;
    let cancel = CancelOrderRequest { name: order.name.clone(), ..CancelOrderRequest::default() };
    customer.orders.clone().cancel_order(customer.request(cancel)).await.expect("cancelled");
    let user = User { name: customer.user.clone(), display_name: "V. Kaplan".to_owned(), ..User::default() };
    let update = UpdateUserRequest { user: Some(user), ..UpdateUserRequest::default() };
    customer.users.clone().update_user(customer.request(update)).await.expect("changed");
    let delete = DeleteUserRequest { name: customer.user.clone(), ..DeleteUserRequest::default() };
    customer.users.clone().delete_user(customer.request(delete)).await.expect("deleted");

    let expected = [
        (&customer.user, "users.created", "1"),
        (&customer.user, "users.updated", "2"),
        (&customer.user, "users.deleted", "3"),
        (&order.name, "orders.created", "1"),
        (&order.name, "orders.cancelled", "2"),
    ];
    for (name, topic, version) in expected {
        let is_it = |event: &Event| event.topic == topic && event.key == id_in(name);
        let event = subscriber.event(topic, is_it).await;
        assert_eq!((event.r#type.as_str(), event.subject.as_str()), (&*format!("{topic}.v1"), name.as_str()));
        let record = Record::from(&event);
        assert_eq!(record.header("tailrace_aggregate_version"), version, "{topic}");
        assert_eq!(record.header("tailrace_owner"), customer.user, "{topic}");
    }
    // The order service hears of the deletion by its event; the customer's token is still good.
    until("an order of a deleted user to be refused", || async {
        let outcome = customer.create_order(customer.request(new_order("Weir board", 1))).await;
        (outcome.err()?.code() == Code::FailedPrecondition).then_some(())
    })
    .await;
}

/// Who may order is made of them, also by a service that is set up years from now.
#[tokio::test(flavor = "multi_thread")]
async fn the_topics_of_users_are_kept_for_good() {
    let system = System::shared().await;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", system.stack.kafka().bootstrap())
        .create()
        .expect("a client");
    let topics = ["users.created", "users.updated", "users.deleted"].map(ResourceSpecifier::Topic);
    let answers = admin.describe_configs(&topics, &AdminOptions::new()).await.expect("an answer");
    assert_eq!(answers.len(), topics.len());
    for topic in answers {
        let topic = topic.expect("it is there");
        let retention = topic.get("retention.ms").and_then(|entry| entry.value.clone());
        assert_eq!(retention.as_deref(), Some("-1"), "{:?}", topic.specifier);
    }
}
