//! Kafka is away, at the start or later: the gateway waits, and goes on by itself.

use tailrace::stream::v1::watch_response::Message;

use crate::support::{Broker, Gateway, OPERATOR, Topics, Writer, live, numbered};

#[tokio::test(flavor = "multi_thread")]
async fn streams_go_on_after_kafka_was_killed_and_started_again() {
    let broker = tokio::task::spawn_blocking(Broker::start).await.expect("started");
    let topics = Topics::unmade_on(&broker.address());
    topics.create().await;
    let gateway = Gateway::ready(&topics, &[]).await;
    let mut stream = gateway.watch(OPERATOR, &[], live()).await.expect("a stream");
    stream.until_caught_up().await;
    Writer::new(&topics).commit_each(&topics.users, numbered("before", 2));
    assert_eq!(stream.payloads(2).await, ["before-0", "before-1"]);

    broker.kafka.kill();
    gateway.until_not_ready().await;
    for _ in 0..3 {
        assert!(matches!(stream.next().await, Ok(Message::Heartbeat(_))), "the stream stays open");
    }
    broker.kafka.start_again().expect("started again");
    gateway.until_ready().await;
    Writer::new(&topics).commit_each(&topics.users, numbered("after", 2));
    assert_eq!(stream.payloads(2).await, ["after-0", "after-1"]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_is_not_there_at_the_start_is_waited_for() {
    let broker = tokio::task::spawn_blocking(Broker::start).await.expect("started");
    let topics = Topics::unmade_on(&broker.address());
    topics.create().await;
    broker.kafka.stop();
    let gateway = Gateway::start(&topics, &[]).await;
    let refused = gateway.watch(OPERATOR, &[], live()).await.err().expect("refused");
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    broker.kafka.start_again().expect("started again");
    gateway.until_ready().await;
    gateway.stop().await;
}
