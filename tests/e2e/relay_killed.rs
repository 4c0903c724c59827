//! The relay is killed again and again while events are written, and not one is lost, repeated or reordered.
//!
//! ```text
//! customers ──► user-service, order-service ──► outbox ──► cdc-relay ──► Kafka ──► gateway ──► subscriber
//! ledger (SQL) ──────────────────────────────────►         kill -9                 restart
//! ```
//!
//! Four accounts of what happened are compared at the end: what the writers were answered, the rows that were committed,
//! what a `read_committed` consumer finds in the topics, and what one subscriber was told who watched from the first
//! event to the last. They must name the same events, byte for byte; in every partition in the order of the commits; of
//! every key each version once, from 1 on. A transaction that was rolled back must have left nothing.

use crate::support::subscriber::{Subscriber, earliest};
use crate::support::system::System;
use crate::support::traffic::Traffic;
use crate::support::truth::{TOPICS, assert_exactly_once};

const RELAY: &str = "cdc-relay";
const GATEWAY: &str = "gateway";

const KILLS: usize = 8;
/// Written between a start of the relay and its next death.
const EVENTS_PER_LIFE: usize = 200;
/// Written while there is no relay.
const EVENTS_PER_DEATH: usize = 100;
/// What the ledger has written at least of each of its keys.
const VERSIONS: i64 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_under_load_loses_repeats_and_reorders_nothing() {
    let system = System::start();
    let operator = system.operator().await;
    let subscriber = Subscriber::start(&operator, TOPICS, earliest()).await;
    let mut traffic = Traffic::start(&system).await.and_ledger(&system).await;

    for kill in 1..=KILLS {
        traffic.advance(EVENTS_PER_LIFE).await;
        system.stack.kill_9(RELAY);
        traffic.advance(EVENTS_PER_DEATH).await;
        system.stack.process(RELAY).start().expect("the relay starts");
        // Every other time it dies again before it may have found back to its position.
        if kill % 2 == 0 {
            system.ready(RELAY).await;
        }
        if kill == KILLS / 2 {
            system.restart(GATEWAY);
        }
    }
    traffic.until(|journal| journal.ledger.iter().all(|version| *version >= VERSIONS)).await;

    let journal = traffic.stop().await;
    assert_eq!(journal.refusals, 0, "who writes does not notice that the relay is away");
    let seen = assert_exactly_once(&system, &journal, &operator, subscriber).await;
    assert!(seen.resumed > 0, "the subscriber lost his stream when the gateway restarted");
}
