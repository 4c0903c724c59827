//! Every event on the topics is what the schema of its type says, and a consumer of an old contract reads the events of a new one.

use std::process::Stdio;

use tailrace::event::v1::{Event, UserCreated};
use tailrace::order::v1::CancelOrderRequest;
use tailrace::user::v1::{DeleteUserRequest, UpdateUserRequest, User};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::task::block_in_place;
use xtask::toolchains::python_packages;
use xtask::workspace;

use crate::support::subscriber::{Subscriber, earliest, live};
use crate::support::system::System;

const TOPICS: &[&str] =
    &["users.created", "users.updated", "users.deleted", "orders.created", "orders.cancelled"];

#[tokio::test(flavor = "multi_thread")]
async fn every_event_on_the_topics_is_what_its_schema_says() {
    let system = System::shared().await;
    one_of_each(system).await;
    let events = system.operator().await.watch_to_the_end(TOPICS, earliest()).await;
    let lines: String = events.iter().map(line).collect();
    let packages = block_in_place(python_packages).expect("the packages");
    let mut validator = Command::new("python3")
        .args(["tests/e2e/schemas.py", "docs/api/schemas"])
        .current_dir(workspace::root())
        .env("PYTHONPATH", packages)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("python3");
    let mut input = validator.stdin.take().expect("a pipe");
    input.write_all(lines.as_bytes()).await.expect("it reads");
    drop(input);
    let output = validator.wait_with_output().await.expect("its end");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    println!("validated {} events: {out}", events.len());
}

/// Waits for the events too: what is not on the topics yet would not be validated.
async fn one_of_each(system: &System) {
    let operator = system.operator().await;
    let mut subscriber = Subscriber::start(&operator, TOPICS, live()).await;
    let customer = system.customer("Clemens Herschel").await;
    let order = customer.place_order().await;
    let cancel = CancelOrderRequest { name: order.name.clone(), ..CancelOrderRequest::default() };
    customer.orders.clone().cancel_order(customer.request(cancel)).await.expect("cancelled");
    let user = User { name: customer.user.clone(), display_name: "C. H.".to_owned(), ..User::default() };
    let update = UpdateUserRequest { user: Some(user), ..UpdateUserRequest::default() };
    customer.users.clone().update_user(customer.request(update)).await.expect("changed");
    let delete = DeleteUserRequest { name: customer.user.clone(), ..DeleteUserRequest::default() };
    customer.users.clone().delete_user(customer.request(delete)).await.expect("deleted");
    for (name, topic) in [(&customer.user, "users.deleted"), (&order.name, "orders.cancelled")] {
        subscriber.event(topic, |event: &Event| event.topic == topic && event.subject == *name).await;
    }
}

fn line(event: &Event) -> String {
    let payload: serde_json::Value = serde_json::from_slice(&event.payload).expect("a payload is JSON");
    format!("{}\n", serde_json::json!({ "type": event.r#type, "payload": payload }))
}

#[test]
fn a_consumer_of_this_contract_reads_the_event_of_a_later_one() {
    let later = r#"{"user": "users/1", "displayName": "Ada", "email": "a@b.c", "phone": "+49", "address": {"city": "X"}}"#;
    let event: UserCreated = serde_json::from_str(later).expect("unknown fields are ignored");
    assert_eq!(event.display_name, "Ada");
}
