//! A cursor leads to exactly what follows it, over many reconnects, while a writer goes on.

use std::{collections::BTreeSet, thread};

use tailrace::stream::v1::watch_response::Message;

use crate::support::{
    ALICE, Gateway, OPERATOR, Subscriber, Topics, Writer, after, assert_ordered, earliest, payload,
};

const TRANSACTIONS: usize = 150;
const EVENTS_PER_TRANSACTION: usize = 4;

/// Every third transaction is aborted.
fn write(topics: Topics) -> BTreeSet<String> {
    let writer = Writer::new(&topics);
    let mut committed = BTreeSet::new();
    for transaction in 0..TRANSACTIONS {
        let topic = if transaction % 2 == 0 { &topics.users } else { &topics.orders };
        let events: Vec<_> = (0..EVENTS_PER_TRANSACTION)
            .map(|event| {
                (format!("{}", (transaction * 7 + event) % 13), format!("{transaction}.{event}"), ALICE)
            })
            .collect();
        if transaction % 3 == 2 {
            writer.abort(topic, &events);
        } else {
            writer.commit(topic, &events);
            committed.extend(events.into_iter().map(|(_, payload, _)| payload));
        }
    }
    writer.commit(&topics.users, &[("end".to_owned(), "end".to_owned(), ALICE)]);
    committed
}

/// Reads up to `count` responses; true at the writer's last event.
async fn read(stream: &mut Subscriber, count: usize, events: &mut Vec<tailrace::event::v1::Event>) -> bool {
    for _ in 0..count {
        if let Message::Event(event) = stream.next().await.expect("the stream goes on") {
            if payload(&event) == "end" {
                return true;
            }
            events.push(event);
        }
    }
    false
}

async fn check(arguments: &[&str]) {
    let topics = Topics::make().await;
    let gateway = Gateway::ready(&topics, arguments).await;
    let writing = thread::spawn({
        let topics = topics.clone();
        move || write(topics)
    });
    let mut stream = gateway.watch(OPERATOR, &[], earliest()).await.expect("a stream");
    let mut events = Vec::new();
    let mut reconnects = 0;
    while !read(&mut stream, 5 + reconnects % 17, &mut events).await {
        stream = gateway.watch(OPERATOR, &[], after(&stream.cursor)).await.expect("resumed");
        reconnects += 1;
    }
    let committed = writing.join().expect("the writer ends");
    // The last event ends one partition; the others may have more.
    let mut rest = gateway.watch(OPERATOR, &[], after(&stream.cursor)).await.expect("resumed");
    let mut seen: Vec<String> = events.iter().map(payload).collect();
    seen.extend(rest.until_caught_up().await);
    assert!(reconnects >= 20, "{reconnects} reconnects");
    assert_ordered(&events);
    assert_eq!(seen.len(), committed.len(), "no event came twice or never");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), committed);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_stream_has_no_gap_and_no_repeat() {
    check(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_has_one_that_crosses_from_kafka_into_memory() {
    check(&["--feed-bytes-max", "30000"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_good_at_another_gateway() {
    let topics = Topics::make().await;
    let writer = Writer::new(&topics);
    let first = Gateway::ready(&topics, &[]).await;
    let mut stream = first.watch(OPERATOR, &[], earliest()).await.expect("a stream");
    stream.until_caught_up().await;
    writer.commit_each(&topics.users, crate::support::numbered("event", 10));
    assert_eq!(stream.payloads(4).await.len(), 4);
    first.stop().await;
    let second = Gateway::ready(&topics, &["--look-back-offsets", "0"]).await;
    let mut resumed = second.watch(OPERATOR, &[], after(&stream.cursor)).await.expect("resumed");
    assert_eq!(
        resumed.until_caught_up().await,
        ["event-4", "event-5", "event-6", "event-7", "event-8", "event-9"]
    );
    second.stop().await;
}
