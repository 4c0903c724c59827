//! Where a stream starts, and that `caught_up` comes once.

use tailrace::stream::v1::{watch_request::Start, watch_response::Message};
use tonic::Code;

use crate::support::{
    ALICE, BOB, Gateway, OPERATOR, Topics, Writer, earliest, live, numbered, payload, reason,
};

/// Twenty events, a transaction each, with as many aborted ones between: most offsets hold no event.
fn write(topics: &Topics, writer: &Writer) -> Vec<String> {
    let payloads = numbered("event", 20);
    for payload in &payloads {
        writer.commit(&topics.users, &[(payload.clone(), payload.clone(), ALICE)]);
        writer.abort(&topics.users, &[(payload.clone(), format!("aborted {payload}"), ALICE)]);
    }
    payloads
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_topics_are_caught_up_with_once() {
    let topics = Topics::make().await;
    let gateway = Gateway::ready(&topics, &[]).await;
    for start in [live(), earliest(), Start::Newest(5)] {
        let mut stream = gateway.watch(OPERATOR, &[], start).await.expect("a stream");
        assert!(stream.until_caught_up().await.is_empty());
        for _ in 0..3 {
            assert!(matches!(stream.next().await, Ok(Message::Heartbeat(_))));
        }
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn earliest_brings_everything_committed_in_commit_order() {
    let topics = Topics::make().await;
    let writer = Writer::new(&topics);
    let payloads = write(&topics, &writer);
    let gateway = Gateway::ready(&topics, &[]).await;
    let mut stream = gateway.watch(OPERATOR, &[], earliest()).await.expect("a stream");
    assert_eq!(stream.until_caught_up().await, payloads);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn earliest_is_the_same_when_memory_holds_almost_nothing() {
    let topics = Topics::make().await;
    let writer = Writer::new(&topics);
    let payloads = write(&topics, &writer);
    for arguments in [&["--look-back-offsets", "0"][..], &["--feed-bytes-max", "1500"]] {
        let gateway = Gateway::ready(&topics, arguments).await;
        let mut stream = gateway.watch(OPERATOR, &[], earliest()).await.expect("a stream");
        assert_eq!(stream.until_caught_up().await, payloads, "{arguments:?}");
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_counts_events_and_not_offsets() {
    let topics = Topics::make().await;
    let writer = Writer::new(&topics);
    let payloads = write(&topics, &writer);
    for arguments in [&[][..], &["--look-back-offsets", "0"], &["--feed-bytes-max", "1500"]] {
        let gateway = Gateway::ready(&topics, arguments).await;
        for count in [1, 7, 20, 10_000] {
            let start = Start::Newest(i32::try_from(count).expect("small"));
            let mut stream = gateway.watch(OPERATOR, &[], start).await.expect("a stream");
            let expected = &payloads[payloads.len().saturating_sub(count)..];
            assert_eq!(stream.until_caught_up().await, expected, "newest {count}, {arguments:?}");
        }
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn newest_counts_only_what_the_caller_may_see() {
    let topics = Topics::make().await;
    let writer = Writer::new(&topics);
    writer.commit_each(&topics.users, numbered("alice", 3));
    for payload in numbered("bob", 30) {
        writer.commit(&topics.users, &[("key".to_owned(), payload, BOB)]);
    }
    for arguments in [&[][..], &["--look-back-offsets", "0"]] {
        let gateway = Gateway::ready(&topics, arguments).await;
        let mut stream = gateway.watch(ALICE, &[], Start::Newest(2)).await.expect("a stream");
        assert_eq!(stream.until_caught_up().await, ["alice-1", "alice-2"], "{arguments:?}");
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_brings_only_what_comes_next_with_the_moments_of_its_way() {
    let topics = Topics::make().await;
    let writer = Writer::new(&topics);
    writer.commit_each(&topics.users, numbered("before", 3));
    let gateway = Gateway::ready(&topics, &[]).await;
    let mut stream = gateway.watch(OPERATOR, &[], live()).await.expect("a stream");
    assert!(stream.until_caught_up().await.is_empty());
    writer.commit_each(&topics.orders, numbered("after", 1));
    let event = stream.events(1).await.remove(0);
    assert_eq!((payload(&event).as_str(), event.topic.as_str()), ("after-0", topics.orders.as_str()));
    let seconds = |time: Option<pbjson_types::Timestamp>| time.expect("a moment").seconds;
    assert!(seconds(event.commit_time) - seconds(event.relay_time) <= 1);
    assert!(seconds(event.gateway_time) >= seconds(event.relay_time));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_comes_later_is_waited_for_and_read_from_its_beginning() {
    let topics = Topics::unmade();
    let gateway = Gateway::start(&topics, &[]).await;
    let refused = gateway.watch(OPERATOR, &[], live()).await.err().expect("no topics yet");
    assert_eq!(reason(&refused), (Code::Unavailable, "NOT_READY".to_owned()));
    topics.create().await;
    gateway.until_ready().await;
    let mut stream = gateway.watch(OPERATOR, &[], live()).await.expect("a stream");
    assert!(stream.until_caught_up().await.is_empty());
    Writer::new(&topics).commit_each(&topics.users, numbered("first", 1));
    assert_eq!(stream.payloads(1).await, ["first-0"]);
    gateway.stop().await;
}
