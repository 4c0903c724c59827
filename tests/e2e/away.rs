//! Kafka or Postgres dies under the running system and comes back: who calls is told the truth, `/readyz` tells it too,
//! and afterwards everything that was answered arrives exactly once.

use tokio::task::block_in_place;

use crate::support::subscriber::{Subscriber, earliest};
use crate::support::system::System;
use crate::support::traffic::Traffic;
use crate::support::truth::{TOPICS, assert_exactly_once};

/// Written before, during and after an absence.
const EVENTS: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_is_away_nobody_who_writes_notices_and_nothing_is_lost() {
    let system = System::start();
    let operator = system.operator().await;
    let subscriber = Subscriber::start(&operator, TOPICS, earliest()).await;

    let mut traffic = Traffic::start(&system).await.and_ledger(&system).await;
    traffic.advance(EVENTS).await;
    system.stack.kafka().kill();
    system.not_ready_because("cdc-relay", "Kafka").await;
    system.not_ready_because("gateway", "Kafka").await;
    traffic.advance(EVENTS).await;
    block_in_place(|| system.stack.kafka().start_again()).expect("Kafka starts again");
    system.ready("cdc-relay").await;
    system.ready("gateway").await;
    traffic.advance(EVENTS).await;

    let journal = traffic.stop().await;
    assert_eq!(journal.refusals, 0, "who writes does not need Kafka");
    assert_exactly_once(&system, &journal, &operator, subscriber).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_away_calls_are_refused_and_nothing_answered_is_lost() {
    let system = System::start();
    let operator = system.operator().await;
    let subscriber = Subscriber::start(&operator, TOPICS, earliest()).await;
    let mut traffic = Traffic::start(&system).await;
    traffic.advance(EVENTS).await;

    system.stack.postgres().crash();
    for (process, words) in
        [("user-service", "postgres"), ("order-service", "postgres"), ("cdc-relay", "Postgres")]
    {
        system.not_ready_because(process, words).await;
    }
    let before = traffic.refusals();
    traffic.until(|journal| journal.refusals > before).await;
    block_in_place(|| system.stack.postgres().restart()).expect("Postgres starts again");
    for process in ["user-service", "order-service", "cdc-relay", "gateway"] {
        system.ready(process).await;
    }
    traffic.advance(EVENTS).await;

    let journal = traffic.stop().await;
    assert_exactly_once(&system, &journal, &operator, subscriber).await;
}
