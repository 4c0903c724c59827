//! What can no longer be served is announced.

use rdkafka::{Offset, TopicPartitionList, admin::AdminOptions};
use tailrace::stream::v1::watch_response::{Message, gap::Reason};

use crate::support::{Gateway, OPERATOR, Topics, Writer, after, earliest, live, numbered, payload};

#[tokio::test(flavor = "multi_thread")]
async fn events_that_retention_removed_are_a_gap_and_the_stream_goes_on() {
    let topics = Topics::make().await;
    let writer = Writer::new(&topics);
    let gateway = Gateway::ready(&topics, &[]).await;
    let mut stream = gateway.watch(OPERATOR, &[], live()).await.expect("a stream");
    stream.until_caught_up().await;
    writer.commit_each(&topics.users, numbered("event", 6));
    let events = stream.events(2).await;
    let cursor = stream.cursor.clone();
    let kept_from = events[1].offset + 4;
    gateway.stop().await;

    let mut removed = TopicPartitionList::new();
    let partition = events[1].partition;
    removed.add_partition_offset(&topics.users, partition, Offset::Offset(kept_from)).expect("an offset");
    topics.admin().delete_records(&removed, &AdminOptions::new()).await.expect("removed");

    let gateway = Gateway::ready(&topics, &[]).await;
    let mut resumed = gateway.watch(OPERATOR, &[], after(&cursor)).await.expect("resumed");
    let Ok(Message::Gap(gap)) = resumed.next_message().await else { panic!("a gap comes first") };
    assert_eq!((gap.topic.as_str(), gap.partition), (topics.users.as_str(), partition));
    assert_eq!((gap.first_offset, gap.next_offset), (events[1].offset + 1, kept_from));
    assert_eq!(gap.reason(), Reason::Retention);
    // Every transaction takes two offsets: one event and one marker.
    assert_eq!(resumed.until_caught_up().await, ["event-3", "event-4", "event-5"]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_a_gap_for_old_cursors_and_for_live_streams() {
    let topics = Topics::make().await;
    let writer = Writer::new(&topics);
    writer.commit_each(&topics.users, numbered("old", 5));
    let gateway = Gateway::ready(&topics, &[]).await;
    let mut stream = gateway.watch(OPERATOR, &[], earliest()).await.expect("a stream");
    assert_eq!(stream.until_caught_up().await.len(), 5);
    let cursor = stream.cursor.clone();

    let names = [topics.users.as_str(), topics.orders.as_str(), topics.dead_letter.as_str()];
    topics.admin().delete_topics(&names, &AdminOptions::new()).await.expect("an answer");
    gateway.until_not_ready().await;
    topics.create().await;
    gateway.until_ready().await;
    let writer = Writer::new(&topics);
    writer.commit_each(&topics.users, numbered("new", 1));

    let mut resumed = gateway.watch(OPERATOR, &[], after(&cursor)).await.expect("resumed");
    for stream in [&mut stream, &mut resumed] {
        let Ok(Message::Gap(gap)) = stream.next_message().await else { panic!("a gap comes first") };
        assert_eq!((gap.topic.as_str(), gap.next_offset), (topics.users.as_str(), 0));
        assert_eq!(gap.reason(), Reason::TopicRecreated);
        let event = loop {
            if let Ok(Message::Event(event)) = stream.next_message().await {
                break event;
            }
        };
        assert_eq!(payload(&event), "new-0");
    }
    gateway.stop().await;
}
