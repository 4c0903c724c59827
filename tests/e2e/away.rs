//! Kafka or Postgres dies under the running system and comes back: who calls is told the truth, `/readyz` tells it too,
//! and afterwards everything that was answered arrives exactly once.

use tokio::task::block_in_place;

use crate::support::subscriber::{Subscriber, earliest};
use crate::support::system::System;
use crate::support::traffic::Traffic;
use crate::support::truth::{TOPICS, assert_exactly_once};

const EVENTS: usize = 60;
const PROCESSES: [&str; 4] = ["user-service", "order-service", "cdc-relay", "gateway"];

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_and_without_postgres_nothing_answered_is_lost() {
    let system = System::start();
    let operator = system.operator().await;
    let subscriber = Subscriber::start(&operator, TOPICS, earliest()).await;
    let mut traffic = Traffic::start(&system).await;
    traffic.advance(EVENTS).await;

    system.stack.kafka().kill();
    system.not_ready_because("cdc-relay", "Kafka").await;
    system.not_ready_because("gateway", "kafka").await;
    traffic.advance(EVENTS).await;
    assert_eq!(traffic.refusals(), 0, "who writes does not need Kafka");
    block_in_place(|| system.stack.kafka().start_again()).expect("Kafka starts again");
    all_ready(&system).await;
    traffic.advance(EVENTS).await;

    system.stack.postgres().crash();
    for process in ["user-service", "order-service"] {
        system.not_ready_because(process, "postgres").await;
    }
    system.not_ready_because("cdc-relay", "Postgres").await;
    let before = traffic.refusals();
    traffic.until(|journal| journal.refusals > before).await;
    block_in_place(|| system.stack.postgres().restart()).expect("Postgres starts again");
    all_ready(&system).await;
    traffic.advance(EVENTS).await;

    let journal = traffic.stop().await;
    assert_exactly_once(&system, &journal, &operator, subscriber).await;
}

async fn all_ready(system: &System) {
    for process in PROCESSES {
        system.ready(process).await;
    }
}
