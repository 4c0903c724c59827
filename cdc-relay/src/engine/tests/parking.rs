//! Keys that are parked, and their release. The bench plays the topic of parked events.

use super::*;
use crate::parking::Scan;

const TOPIC: &str = "tailrace.parked.users";
const UNKNOWN: &str = "nobody.knows.v1";

impl Bench {
    fn rows(&mut self, final_lsn: u64, rows: &[(&str, &str)]) {
        self.send(begin(final_lsn));
        for (key, event_type) in rows {
            self.send(insert(RELATION_OID, key, event_type, 10));
        }
        self.send(commit(final_lsn, final_lsn + 10));
    }

    /// Publishes everything there is, and keeps what is parked in the topic. What was written is returned.
    fn publish_all(&mut self, topic: &mut Topic) -> Vec<String> {
        let mut written = Vec::new();
        while let Some(batch) = self.published() {
            written.extend(batch.records.iter().map(shown));
            topic.take(&batch);
            self.committed();
        }
        written
    }

    fn ask(&mut self, topic: &Topic) -> ParkingKey {
        let command = self
            .commands()
            .into_iter()
            .find_map(|command| if let Command::ReadParked(key) = command { Some(key) } else { None });
        let key = command.expect("a piece is wanted");
        self.engine.handle_parked(topic.piece(&key));
        key
    }

    fn answer(&mut self) -> Option<Released> {
        self.answers.pop()
    }

    fn heads(&self) -> Vec<(EventPosition, u64)> {
        self.engine.parking().list().iter().map(|parked| (parked.head.position, parked.events)).collect()
    }
}

/// The topic of parked events.
#[derive(Default)]
struct Topic(Vec<(Bytes, Option<Bytes>)>);

impl Topic {
    fn take(&mut self, batch: &Batch) {
        let parked = batch.records.iter().filter(|record| &*record.topic == TOPIC);
        self.0.extend(parked.map(|record| (record.key.clone(), record.value.clone())));
    }

    fn piece(&self, key: &ParkingKey) -> Vec<Waiting> {
        let mut live = std::collections::BTreeMap::new();
        for (record_key, value) in &self.0 {
            let Some(position) = key.position_in(record_key) else { continue };
            match value {
                Some(value) => {
                    live.insert(position, Waiting::parse(record_key, value).expect("a parked event"))
                }
                None => live.remove(&position),
            };
        }
        live.into_values().collect()
    }

    fn scan(&self) -> Scan {
        let mut scan = Scan::default();
        for (key, value) in &self.0 {
            scan.take(key, value.as_deref());
        }
        scan
    }
}

/// `TOPIC KEY POSITION`, and whether it is a tombstone.
fn shown(record: &Record) -> String {
    let topic = match &*record.topic {
        TOPIC if record.value.is_none() => "tombstone",
        TOPIC => "parked",
        topic => topic,
    };
    format!("{topic} {}", record.position)
}

fn position(final_lsn: u64, ordinal: u64) -> EventPosition {
    EventPosition { final_lsn: Lsn::new(final_lsn), ordinal }
}

/// A bench where `a` is parked with two events, the second one good.
fn parked() -> (Bench, Topic) {
    let mut bench = Bench::new();
    let mut topic = Topic::default();
    bench.rows(0x100, &[("a", UNKNOWN), ("b", "users.created.v1"), ("a", "users.created.v1")]);
    let written = bench.publish_all(&mut topic);
    assert_eq!(
        written,
        ["dead-letter 0/100/0", "parked 0/100/0", "users.created 0/100/1", "parked 0/100/2"],
        "later events of the key wait, others flow"
    );
    (bench, topic)
}

fn known(bench: &mut Bench) {
    bench.engine.router.routes = vec![Route::new("*", "users.created")];
}

#[test]
fn a_key_that_is_parked_is_parked_for_the_next_relay_too() {
    let (bench, topic) = parked();
    let again = Parking::new(TOPIC, 1_000_000, 10).with(topic.scan());
    assert_eq!(again.list(), bench.engine.parking().list());
    assert_eq!(bench.heads(), [(position(0x100, 0), 2)]);
    assert_eq!(bench.engine.progress().published_events, 2, "the good event and the dead letter");
}

#[test]
fn a_redrive_publishes_in_order_and_frees_the_key() {
    let (mut bench, mut topic) = parked();
    known(&mut bench);
    bench.engine.release(position(0x100, 0), Action::Redrive);
    bench.ask(&topic);
    assert_eq!(
        bench.publish_all(&mut topic),
        ["users.created 0/100/0", "tombstone 0/100/0", "users.created 0/100/2", "tombstone 0/100/2"]
    );
    assert_eq!(bench.answer(), Some(Released::Done { published: 2, next: None }));
    bench.rows(0x200, &[("a", "users.created.v1")]);
    assert_eq!(bench.publish_all(&mut topic), ["users.created 0/200/0"]);
    assert!(topic.scan().is_empty());
}

#[test]
fn a_release_leaves_position_and_acknowledgement_where_they_are() {
    let (mut bench, topic) = parked();
    known(&mut bench);
    let before = bench.engine.progress().durable;
    bench.engine.release(position(0x100, 0), Action::Redrive);
    bench.ask(&topic);
    assert_eq!(bench.published().map(|batch| batch.position.resume_lsn), Some(before));
    bench.committed();
    assert_eq!(bench.engine.progress().durable, before);
}

#[test]
fn a_dead_letter_that_still_cannot_be_published_stays_and_nothing_is_written() {
    let (mut bench, mut topic) = parked();
    bench.engine.release(position(0x100, 0), Action::Redrive);
    bench.ask(&topic);
    assert_eq!(bench.publish_all(&mut topic), [""; 0]);
    let Some(Released::StillRefused(words)) = bench.answer() else { panic!("refused") };
    assert!(words.contains(UNKNOWN), "{words}");
    assert_eq!(bench.heads(), [(position(0x100, 0), 2)]);
}

#[test]
fn a_discarded_head_gives_way_until_the_next_that_cannot_be_published() {
    let (mut bench, mut topic) = parked();
    bench.rows(0x200, &[("a", UNKNOWN), ("a", "users.created.v1")]);
    bench.publish_all(&mut topic);
    bench.engine.release(position(0x100, 0), Action::Discard);
    bench.ask(&topic);
    assert_eq!(
        bench.publish_all(&mut topic),
        [
            "tombstone 0/100/0",
            "users.created 0/100/2",
            "tombstone 0/100/2",
            "dead-letter 0/200/0",
            "parked 0/200/0"
        ]
    );
    let Some(Released::Done { published: 1, next: Some(next) }) = bench.answer() else {
        panic!("another head")
    };
    assert_eq!((next.head.position, next.events), (position(0x200, 0), 2));
    let again = Parking::new(TOPIC, 1_000_000, 10).with(topic.scan());
    assert_eq!(again.list(), bench.engine.parking().list());
}

#[test]
fn events_that_come_during_a_release_follow_in_order_without_a_detour() {
    let (mut bench, mut topic) = parked();
    known(&mut bench);
    bench.engine.release(position(0x100, 0), Action::Redrive);
    bench.ask(&topic);
    let release = bench.published().expect("the piece");
    topic.take(&release);
    // These are decoded while the piece is in flight, the last in a transaction that is still open.
    bench.rows(0x200, &[("a", "users.created.v1"), ("b", "users.created.v1")]);
    bench.send(begin(0x300));
    bench.send(insert(RELATION_OID, "a", "users.created.v1", 10));
    bench.committed();
    assert_eq!(bench.publish_all(&mut topic), ["users.created 0/200/0", "users.created 0/200/1"]);
    assert_eq!(bench.answer(), Some(Released::Done { published: 2, next: None }));
    bench.send(commit(0x300, 0x310));
    assert_eq!(bench.publish_all(&mut topic), ["users.created 0/300/0"]);
    assert!(topic.scan().is_empty());
}

#[test]
fn an_event_that_is_parked_but_not_yet_in_kafka_is_waited_for() {
    let mut bench = Bench::new();
    let mut topic = Topic::default();
    bench.send(begin(0x100));
    bench.send(insert(RELATION_OID, "a", UNKNOWN, 10));
    known(&mut bench);
    bench.engine.release(position(0x100, 0), Action::Redrive);
    assert_eq!(bench.commands(), [], "there is nothing to read yet");
    bench.send(commit(0x100, 0x110));
    let batch = bench.published().expect("the dead letter");
    topic.take(&batch);
    bench.committed();
    bench.ask(&topic);
    assert_eq!(bench.publish_all(&mut topic), ["users.created 0/100/0", "tombstone 0/100/0"]);
}

#[test]
fn a_record_that_the_broker_refuses_parks_what_follows_in_the_batch_and_behind_it() {
    let mut bench = Bench::new();
    let mut topic = Topic::default();
    bench.rows(0x100, &[("a", "users.created.v1"), ("a", "users.created.v1"), ("b", "users.created.v1")]);
    let _ = bench.published().expect("a batch");
    bench.rows(0x200, &[("a", "users.created.v1"), ("b", "users.created.v1")]);
    for indexes in [vec![0, 1], vec![0]] {
        let refused = Outcome::Refused { indexes, message: "too large".into() };
        bench.engine.handle_outcome(bench.now, refused).expect("the relay goes on");
        let batch = bench.published().expect("again");
        assert!(batch.one_by_one);
        topic.take(&batch);
        if batch.records.len() > 3 {
            let written: Vec<_> = batch.records.iter().map(shown).collect();
            assert_eq!(
                written,
                ["dead-letter 0/100/0", "parked 0/100/0", "parked 0/100/1", "users.created 0/100/2"]
            );
        }
    }
    bench.committed();
    assert_eq!(bench.publish_all(&mut topic), ["parked 0/200/0", "users.created 0/200/1"]);
    assert_eq!(bench.heads(), [(position(0x100, 0), 3)]);
}

#[test]
fn what_the_broker_refuses_before_the_head_of_its_key_becomes_the_head_and_earlier_events_pass() {
    let mut bench = Bench::new();
    let mut topic = Topic::default();
    let created = "users.created.v1";
    bench.rows(0x100, &[("a", created), ("a", created), ("a", created), ("a", UNKNOWN)]);
    let _ = bench.published().expect("a batch");
    let refused = |indexes| Outcome::Refused { indexes, message: "too large".into() };
    bench.engine.handle_outcome(bench.now, refused(vec![0, 1, 2])).expect("the relay goes on");
    let _ = bench.published().expect("one by one");
    bench.engine.handle_outcome(bench.now, refused(vec![1])).expect("the relay goes on");
    let written = bench.publish_all(&mut topic);
    assert_eq!(
        written,
        [
            "users.created 0/100/0",
            "dead-letter 0/100/1",
            "parked 0/100/1",
            "parked 0/100/2",
            "dead-letter 0/100/3",
            "parked 0/100/3"
        ]
    );
    assert_eq!(bench.heads(), [(position(0x100, 1), 3)]);
}

#[test]
fn a_row_without_an_aggregate_has_no_order_to_keep() {
    let mut bench = Bench::new();
    let mut topic = Topic::default();
    bench.rows(0x100, &[("", "users.created.v1"), ("", "users.created.v1")]);
    assert_eq!(bench.publish_all(&mut topic), ["dead-letter 0/100/0", "dead-letter 0/100/1"]);
    assert_eq!(bench.heads(), []);
}

#[test]
fn more_keys_than_may_be_parked_are_an_error_that_names_the_mend() {
    let mut bench = Bench::new();
    bench.engine.parking = Parking::new(TOPIC, 1_000_000, 1);
    bench.send(begin(0x100));
    bench.send(insert(RELATION_OID, "a", UNKNOWN, 10));
    bench.send(insert(RELATION_OID, "a", UNKNOWN, 10));
    let error = bench.try_send(insert(RELATION_OID, "b", UNKNOWN, 10)).expect_err("one key may be parked");
    assert!(error.to_string().contains("parked_keys_max"), "{error}");
}

#[test]
fn a_payload_that_is_too_large_to_be_parked_is_left_out_and_put_in_again() {
    let mut bench = Bench::new();
    let mut topic = Topic::default();
    bench.send(begin(0x100));
    bench.send(insert(RELATION_OID, "a", "users.created.v1", 2_000_000));
    bench.send(commit(0x100, 0x110));
    bench.publish_all(&mut topic);
    bench.engine.router.record_bytes_max = 3_000_000;
    bench.engine.release(position(0x100, 0), Action::Redrive);
    let key = bench.ask(&topic);
    assert_eq!(bench.publish_all(&mut topic), [""; 0]);
    assert!(matches!(bench.answer(), Some(Released::StillRefused(_))), "the row is not there");

    bench.engine.release(position(0x100, 0), Action::Redrive);
    let _ = bench.commands();
    let mut piece = topic.piece(&key);
    piece[0].complete(b"something else".to_vec());
    assert_eq!(piece[0].record.value, None, "only the very payload is taken");
    piece[0].complete("x".repeat(2_000_000).into_bytes());
    bench.engine.handle_parked(piece);
    assert_eq!(bench.publish_all(&mut topic), ["users.created 0/100/0", "tombstone 0/100/0"]);
}

#[test]
fn nobody_is_held_by_an_event_that_is_no_dead_letter() {
    let (mut bench, _) = parked();
    bench.engine.release(position(0x100, 2), Action::Redrive);
    assert_eq!(bench.commands(), []);
    assert_eq!(bench.answer(), Some(Released::NotFound));
}
