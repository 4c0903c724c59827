//! A subscriber that reads too slowly loses its own stream, nobody else's.

use tonic::Code;

use crate::support::{BOB, Gateway, OPERATOR, Topics, Writer, after, live, numbered, payload, reason};
use tailrace::stream::v1::watch_response::Message;

const EVENTS: usize = 300;
const PAYLOAD_BYTES: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_subscriber_loses_only_its_own_stream_and_can_resume() {
    let topics = Topics::make().await;
    let writer = Writer::new(&topics);
    let limits = ["--feed-bytes-max", "500000", "--mailbox-bytes-max", "50000", "--send-timeout", "1s"];
    let gateway = Gateway::ready(&topics, &limits).await;
    let mut slow = gateway.watch(OPERATOR, &[], live()).await.expect("a stream");
    slow.until_caught_up().await;
    let mut quick = gateway.watch(OPERATOR, &[], live()).await.expect("a stream");
    quick.until_caught_up().await;

    let payloads: Vec<_> =
        numbered("event", EVENTS).iter().map(|name| format!("{name:-<PAYLOAD_BYTES$}")).collect();
    let written = payloads.clone();
    let users = topics.users.clone();
    let writing = tokio::task::spawn_blocking(move || {
        for payload in written {
            writer.commit(&users, &[("key".to_owned(), payload, BOB)]);
        }
    });
    let (read, written) = tokio::join!(quick.payloads(EVENTS), writing);
    written.expect("written");
    assert_eq!(read, payloads, "the quick one misses nothing");

    let mut seen = Vec::new();
    let status = loop {
        match slow.next().await {
            Ok(Message::Event(event)) => seen.push(payload(&event)),
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(reason(&status), (Code::ResourceExhausted, "SLOW_CONSUMER".to_owned()));
    assert!(seen.len() < EVENTS, "it was really slow");
    let mut resumed = gateway.watch(OPERATOR, &[], after(&slow.cursor)).await.expect("resumed");
    seen.extend(resumed.until_caught_up().await);
    assert_eq!(seen, payloads, "and gets the rest by its cursor");
    gateway.stop().await;
}
