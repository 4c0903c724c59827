//! A subscription over a feed, event by event.

use std::time::SystemTime;

use prost::Message as _;
use tailrace::stream::v1::WatchResponse;
use tailrace_runtime::auth::Principal;

use super::*;

fn principal(operator: bool) -> Principal {
    Principal { user: "users/a".to_owned(), operator, expires_at: SystemTime::UNIX_EPOCH }
}

fn t(number: i32) -> Partition {
    Partition::new("t", number)
}

fn other() -> Partition {
    Partition::new("other", 0)
}

/// An event that commits at its offset, in milliseconds.
fn entry(partition: &Partition, offset: i64, owner: &str) -> Entry {
    let record = tailrace_topics::Record {
        create_time_ms: Some(offset),
        headers: vec![("tailrace_owner", owner.as_bytes())],
        ..tailrace_topics::Record::default()
    };
    Entry::encode(partition, offset, &record, SystemTime::UNIX_EPOCH)
}

fn feed(bytes_max: usize) -> Feed {
    let mut feed = Feed::new(bytes_max);
    feed.handle_cluster(1);
    for partition in [t(0), t(1), other()] {
        feed.handle_open(&partition, 0, 0, 100);
    }
    feed
}

fn put(feed: &mut Feed, partition: &Partition, offsets: impl IntoIterator<Item = i64>) {
    for offset in offsets {
        feed.handle_entry(
            partition,
            entry(partition, offset, if offset % 2 == 0 { "users/a" } else { "users/b" }),
        );
    }
}

fn watch(feed: &Feed, operator: bool, start: Start) -> Subscription {
    Subscription::new(Filter::of(&principal(operator)), BTreeSet::from([Arc::from("t")]), start, feed)
}

/// Every frame in short: `0:5` is the event at offset 5 of partition 0.
fn told(frames: &[Frame]) -> Vec<String> {
    frames
        .iter()
        .map(|frame| short(WatchResponse::decode(frame.message.clone()).expect("a response")))
        .collect()
}

fn short(response: WatchResponse) -> String {
    match response.message.expect("every frame says something") {
        Message::Event(event) => format!("{}:{}", event.partition, event.offset),
        Message::CaughtUp(_) => "caught_up".to_owned(),
        Message::Heartbeat(_) => "heartbeat".to_owned(),
        Message::Gap(gap) => {
            format!(
                "gap {}:{}..{} {}",
                gap.partition,
                gap.first_offset,
                gap.next_offset,
                gap.reason().as_str_name()
            )
        }
    }
}

fn read(subscription: &mut Subscription, feed: &Feed) -> Vec<String> {
    let batch = subscription.read(feed);
    assert_eq!(batch.then, Then::Wait);
    told(&batch.frames)
}

fn resume(frame: &Frame) -> Start {
    Start::Cursor(Cursor::parse(&frame.cursor).expect("our own cursor"))
}

#[test]
fn live_starts_with_what_comes_next() {
    let mut feed = feed(1 << 20);
    put(&mut feed, &t(0), 0..3);
    let mut subscription = watch(&feed, true, Start::Live);
    assert_eq!(read(&mut subscription, &feed), ["caught_up"]);
    put(&mut feed, &t(0), [5]);
    assert_eq!(read(&mut subscription, &feed), ["0:5"]);
}

#[test]
fn partitions_are_merged_by_commit_time_and_caught_up_is_said_once() {
    let mut feed = feed(1 << 20);
    put(&mut feed, &t(0), [0, 3, 4]);
    put(&mut feed, &t(1), [1, 2, 5]);
    put(&mut feed, &other(), [0]);
    let mut subscription = watch(&feed, true, Start::Earliest);
    assert_eq!(read(&mut subscription, &feed), ["0:0", "1:1", "1:2", "0:3", "0:4", "1:5", "caught_up"]);
    assert_eq!(read(&mut subscription, &feed), [""; 0]);
}

#[test]
fn caught_up_waits_until_the_consumer_has_reached_the_end() {
    let mut feed = feed(1 << 20);
    feed.handle_open(&t(0), 0, 2, 100);
    let mut subscription = watch(&feed, true, Start::Earliest);
    put(&mut feed, &t(0), [0]);
    assert_eq!(read(&mut subscription, &feed), ["0:0"]);
    feed.handle_end(&t(0), 2);
    assert_eq!(read(&mut subscription, &feed), ["caught_up"]);
}

#[test]
fn a_topic_that_does_not_exist_is_caught_up_with() {
    let feed = Feed::new(100);
    let mut subscription = watch(&feed, true, Start::Earliest);
    assert_eq!(read(&mut subscription, &feed), ["caught_up"]);
}

#[test]
fn a_user_sees_only_events_they_own() {
    let mut feed = feed(1 << 20);
    put(&mut feed, &t(0), 0..4);
    put(&mut feed, &t(1), 4..8);
    let mut subscription = watch(&feed, false, Start::Earliest);
    assert_eq!(read(&mut subscription, &feed), ["0:0", "0:2", "1:4", "1:6", "caught_up"]);
}

#[test]
fn a_heartbeats_cursor_is_past_what_was_filtered_out() {
    let mut feed = feed(1 << 20);
    let mut subscription = watch(&feed, false, Start::Live);
    read(&mut subscription, &feed);
    put(&mut feed, &t(0), [1, 3]);
    feed.handle_end(&t(0), 5);
    assert_eq!(read(&mut subscription, &feed), [""; 0]);
    let cursor =
        Cursor::parse(&subscription.heartbeat(SystemTime::UNIX_EPOCH).cursor).expect("our own cursor");
    assert_eq!(cursor.offsets[&t(0)], 5);
}

#[test]
fn every_cursor_leads_to_exactly_what_follows_it() {
    let mut feed = feed(1 << 20);
    put(&mut feed, &t(0), [0, 3, 4]);
    put(&mut feed, &t(1), [1, 2, 5]);
    let batch = watch(&feed, true, Start::Earliest).read(&feed);
    let all = told(&batch.frames);
    for (index, frame) in batch.frames.iter().enumerate() {
        let mut resumed = watch(&feed, true, resume(frame));
        let mut rest = all[index + 1..].to_vec();
        if rest.is_empty() {
            rest.push("caught_up".to_owned());
        }
        assert_eq!(read(&mut resumed, &feed), rest, "after {}", all[index]);
    }
}

#[test]
fn a_partition_that_the_cursor_does_not_name_is_read_from_its_beginning() {
    let mut feed = feed(1 << 20);
    put(&mut feed, &t(0), [0]);
    let batch = watch(&feed, true, Start::Live).read(&feed);
    feed.handle_open(&t(2), 0, 0, 100);
    put(&mut feed, &t(2), [7]);
    let mut resumed = watch(&feed, true, resume(&batch.frames[0]));
    assert_eq!(read(&mut resumed, &feed), ["2:7", "caught_up"]);
}

#[test]
fn a_partition_that_appears_is_read_from_its_beginning() {
    let mut feed = feed(1 << 20);
    let mut subscription = watch(&feed, true, Start::Live);
    read(&mut subscription, &feed);
    feed.handle_open(&t(2), 0, 3, 0);
    feed.handle_end(&t(2), 3);
    let batch = subscription.read(&feed);
    assert_eq!(
        batch.then,
        Then::Replay(vec![Range { partition: t(2), from: 0, to: 3 }]),
        "even of a live stream"
    );
}

#[test]
fn what_memory_lacks_is_asked_for_and_joins_without_hole_or_repeat() {
    let mut feed = feed(2_000);
    put(&mut feed, &t(0), 0..50);
    let first = feed.log(&t(0)).expect("opened").first;
    assert!(first > 10, "{first} events were given up");
    let mut subscription = watch(&feed, true, Start::Earliest);
    let range = Range { partition: t(0), from: 0, to: first };
    assert_eq!(subscription.read(&feed).then, Then::Replay(vec![range.clone()]));
    for offset in 0..first {
        let frame = subscription
            .take_replayed(&t(0), &entry(&t(0), offset, "users/b"))
            .expect("an operator sees all");
        let cursor = Cursor::parse(&frame.cursor).expect("our own cursor");
        assert_eq!(cursor.offsets[&t(0)], offset + 1);
    }
    subscription.finish_replay(&range);
    let mut expected: Vec<_> = (first..50).map(|offset| format!("0:{offset}")).collect();
    expected.push("caught_up".to_owned());
    assert_eq!(read(&mut subscription, &feed), expected);
}

#[test]
fn partitions_in_memory_keep_step_with_a_replay() {
    let mut feed = feed(1 << 20);
    put(&mut feed, &t(0), [2, 4, 8]);
    feed.handle_open(&t(2), 0, 9, 0);
    let mut subscription = watch(&feed, true, Start::Earliest);
    assert!(matches!(subscription.read(&feed).then, Then::Replay(_)));
    assert_eq!(told(&subscription.read_older(&feed, 3_000)), ["0:2"]);
    assert_eq!(told(&subscription.read_older(&feed, 3_000)), [""; 0]);
    assert_eq!(told(&subscription.read_older(&feed, 8_000)), ["0:4", "0:8"]);
}

#[test]
fn a_live_subscriber_that_falls_out_of_memory_asks_for_a_replay() {
    let mut feed = feed(2_000);
    let mut subscription = watch(&feed, true, Start::Live);
    read(&mut subscription, &feed);
    assert!(subscription.is_live());
    put(&mut feed, &t(0), 0..50);
    let to = feed.log(&t(0)).expect("opened").first;
    assert_eq!(subscription.read(&feed).then, Then::Replay(vec![Range { partition: t(0), from: 0, to }]));
}

#[test]
fn retention_below_the_cursor_is_a_gap_and_the_stream_goes_on() {
    let mut feed = feed(1 << 20);
    put(&mut feed, &t(0), 0..10);
    let batch = watch(&feed, true, Start::Earliest).read(&feed);
    let mut later = Feed::new(1 << 20);
    later.handle_cluster(1);
    later.handle_open(&t(0), 6, 10, 100);
    later.handle_open(&t(1), 0, 0, 100);
    put(&mut later, &t(0), 6..10);
    let mut resumed = watch(&later, true, resume(&batch.frames[1]));
    let expected = ["gap 0:2..6 REASON_RETENTION", "0:6", "0:7", "0:8", "0:9", "caught_up"];
    assert_eq!(read(&mut resumed, &later), expected);
}

#[test]
fn earliest_promises_nothing_that_retention_has_removed() {
    let mut feed = Feed::new(1 << 20);
    feed.handle_open(&t(0), 0, 10, 0);
    let mut subscription = watch(&feed, true, Start::Earliest);
    feed.handle_watermarks(&t(0), 10, 10);
    assert_eq!(read(&mut subscription, &feed), ["caught_up"]);
}

#[test]
fn a_cursor_beyond_the_end_is_looked_up_and_then_a_gap() {
    let mut feed = feed(1 << 20);
    put(&mut feed, &t(0), [0]);
    let beyond = Cursor { cluster: 1, offsets: [(t(0), 90), (t(1), 0)].into() };
    let mut subscription = watch(&feed, true, Start::Cursor(beyond));
    assert_eq!(subscription.read(&feed).then, Then::LookUp(t(0)));
    subscription.finish_look_up(&t(0));
    assert_eq!(read(&mut subscription, &feed), ["gap 0:90..0 REASON_TOPIC_RECREATED", "0:0", "caught_up"]);
}

#[test]
fn a_cursor_ahead_of_this_gateway_alone_waits_without_repeating() {
    let mut feed = feed(1 << 20);
    put(&mut feed, &t(0), [0]);
    let ahead = Cursor { cluster: 1, offsets: [(t(0), 3), (t(1), 0)].into() };
    let mut subscription = watch(&feed, true, Start::Cursor(ahead));
    assert_eq!(subscription.read(&feed).then, Then::LookUp(t(0)));
    feed.handle_watermarks(&t(0), 0, 4);
    subscription.finish_look_up(&t(0));
    read(&mut subscription, &feed);
    put(&mut feed, &t(0), 1..4);
    assert_eq!(read(&mut subscription, &feed), ["0:3"]);
}

#[test]
fn a_topic_made_anew_under_a_live_stream_is_a_gap() {
    let mut feed = feed(1 << 20);
    put(&mut feed, &t(0), 0..5);
    let mut subscription = watch(&feed, true, Start::Live);
    read(&mut subscription, &feed);
    feed.handle_open(&t(0), 0, 1, 100);
    put(&mut feed, &t(0), [0]);
    assert_eq!(read(&mut subscription, &feed), ["gap 0:5..0 REASON_TOPIC_RECREATED", "0:0"]);
}

#[test]
fn a_cursor_of_another_cluster_starts_over_with_a_gap() {
    let mut feed = feed(1 << 20);
    put(&mut feed, &t(0), 0..2);
    let foreign = Cursor { cluster: 2, offsets: [(t(0), 1), (t(1), 0)].into() };
    let mut subscription = watch(&feed, true, Start::Cursor(foreign));
    let told = read(&mut subscription, &feed);
    assert_eq!(told[0], "gap 0:1..0 REASON_TOPIC_RECREATED");
    assert_eq!(told[2..], ["0:0", "0:1", "caught_up"]);
}

#[test]
fn one_read_is_bounded_in_events_and_in_what_it_passes_over() {
    let mut feed = feed(1 << 24);
    put(&mut feed, &t(0), (0..20_000).filter(|offset| offset % 2 == 1));
    let mut operator = watch(&feed, true, Start::Earliest);
    let batch = operator.read(&feed);
    assert_eq!((batch.frames.len(), batch.then), (BATCH_EVENTS_MAX, Then::More));
    let mut user = watch(&feed, false, Start::Earliest);
    let batch = user.read(&feed);
    assert_eq!((batch.frames.len(), batch.then), (0, Then::More));
}
