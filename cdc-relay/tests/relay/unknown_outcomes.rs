//! The end of a transaction is asked for, and no answer comes: whether Kafka has it or not, nothing is lost or repeated,
//! and both of the source's producers are initialised before its position is read.

use crate::link::{At, Held, Link, Pattern, api};
use crate::support::{Relay, Servers, Source};
use crate::writer::Writer;

/// Kafka's word for a producer that was initialised again since.
const INVALID_PRODUCER_EPOCH: i16 = 47;
const PRODUCER_FENCED: i16 = 90;

/// A running relay that reaches Kafka through the link.
async fn linked(source: &Source<'_>) -> Relay {
    source.configure(&source.linked_config());
    source.running().await
}

fn end_of(source: &Source<'_>, turn: usize) -> Pattern {
    Pattern::kafka(api::END_TXN, format!("tailrace-{}-{turn}", source.name))
}

/// Writes until the transaction of this producer is to be ended, and holds that.
async fn caught_ending(source: &Source<'_>, writer: &mut Writer, turn: usize, at: At) -> Held {
    let trap = source.servers.link.trap(end_of(source, turn), at);
    // They take turns, so one of two transactions is of this one.
    writer.write(source, 1, 3).await;
    writer.write(source, 1, 3).await;
    trap.caught()
}

/// Among the requests after the first `from`: both producers are initialised, and only then the position is asked for.
fn check_order(link: &Link, source: &Source<'_>, from: usize) {
    let initialised = [0, 1].map(|turn| {
        let init = format!("tailrace-{}-{turn}", source.name);
        link.places(from, &Pattern::kafka(api::INIT_PRODUCER_ID, init.as_str()))
            .first()
            .copied()
            .unwrap_or_else(|| panic!("{init} is not initialised"))
    });
    let read = Pattern::kafka(api::LIST_OFFSETS, format!("tailrace.position.{}", source.name));
    let read = link.places(from, &read);
    let first = read.first().expect("the position is asked for");
    assert!(initialised.iter().all(|place| place < first), "{initialised:?} {read:?}");
}

async fn check_unknown_outcome(at: At) {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let relay = linked(&source).await;
    let mut writer = Writer::default();
    writer.write(&source, 5, 3).await;
    writer.check(&source).await;
    for turn in [0, 1] {
        let held = caught_ending(&source, &mut writer, turn, at).await;
        let from = servers.link.count();
        held.cut();
        writer.write(&source, 5, 3).await;
        writer.check(&source).await;
        check_order(&servers.link, &source, from);
    }
    relay.ready().await;
    assert!(relay.log().contains("a connection to Kafka was lost"), "{}", relay.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_never_reached_kafka_is_done_again_by_two_producers_as_one() {
    check_unknown_outcome(At::Request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_whose_answer_is_lost_with_the_coordinators_connection_is_not_done_twice() {
    check_unknown_outcome(At::Answer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_arrives_late_ends_no_later_transaction() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let _relay = linked(&source).await;
    let mut writer = Writer::default();
    writer.write(&source, 5, 3).await;
    for turn in [0, 1] {
        let late = caught_ending(&source, &mut writer, turn, At::Request).await.delay();
        writer.write(&source, 5, 3).await;
        writer.check(&source).await;
        // The same producer is in the middle of a later transaction.
        let now = caught_ending(&source, &mut writer, turn, At::Request).await;
        let answer = late.arrive();
        // Length, number of the request, throttle time; then the error.
        let error = i16::from_be_bytes([answer[12], answer[13]]);
        assert!([INVALID_PRODUCER_EPOCH, PRODUCER_FENCED].contains(&error), "Kafka answers {error}");
        now.cut();
        writer.write(&source, 5, 3).await;
        writer.check(&source).await;
    }
}
