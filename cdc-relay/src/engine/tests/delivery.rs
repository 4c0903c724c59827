//! At least once: events are delivered first, their position is recorded after.

use super::*;

/// How often a position is recorded.
const INTERVAL: Duration = Duration::from_millis(100);

impl Bench {
    fn delivered(&mut self) {
        self.engine.handle_outcome(self.now, Outcome::Delivered).expect("nothing can go wrong");
    }

    fn recorded(&mut self) {
        self.engine.handle_outcome(self.now, Outcome::Recorded).expect("nothing can go wrong");
    }

    /// The batch, and the position to record, among the commands.
    fn written(&mut self) -> (Option<Arc<Batch>>, Option<Position>) {
        let (mut batch, mut position) = (None, None);
        for command in self.commands() {
            if let Command::Publish(published) = command {
                batch = Some(published);
            } else if let Command::Record(recorded) = command {
                position = Some(recorded);
            }
        }
        (batch, position)
    }
}

#[test]
fn the_next_batch_does_not_wait_for_the_position_and_the_acknowledgement_does() {
    let mut bench = Bench::new();
    bench.transaction(200, &["a"]);
    assert!(bench.published().is_some());
    bench.transaction(220, &["b"]);
    bench.delivered();
    bench.wait(INTERVAL);
    let (batch, position) = bench.written();
    assert_eq!((batch.map(|batch| batch.position), position), (Some(at(230)), Some(at(210))));
    bench.wait(SECOND);
    assert_eq!(bench.status(), None, "delivered is not durable");
    bench.recorded();
    assert_eq!(bench.status().map(|status| status.flush), Some(Lsn::new(210)));
}

#[test]
fn one_position_is_recorded_at_a_time_and_the_next_is_the_last_delivered() {
    let mut bench = Bench::new();
    for lsn in [200, 220, 240] {
        bench.transaction(lsn, &["a"]);
        let _ = bench.written();
        bench.delivered();
        bench.wait(INTERVAL);
    }
    assert_eq!(bench.written(), (None, None), "the first is still being recorded");
    bench.recorded();
    assert_eq!(bench.written(), (None, None), "one has just been recorded");
    assert_eq!(bench.engine.next_timeout(), bench.now.monotonic + INTERVAL);
    bench.wait(INTERVAL);
    assert_eq!(bench.written().1, Some(at(250)));
    assert_eq!(bench.engine.status(bench.now).flush, Lsn::new(210));
}

#[test]
fn a_drain_waits_for_the_position() {
    let mut bench = Bench::new();
    bench.transaction(200, &["a"]);
    let _ = bench.written();
    bench.engine.drain();
    bench.delivered();
    assert_eq!(bench.written().1, Some(at(210)));
    assert!(!bench.engine.is_drained());
    bench.recorded();
    assert!(bench.engine.is_drained());
}

#[test]
fn what_is_parked_goes_out_in_a_transaction_with_its_position_and_no_other_is_recorded_beside_it() {
    let mut bench = Bench::new();
    bench.transaction(200, &["a"]);
    assert!(!bench.written().0.expect("a batch").is_atomic);
    bench.send(begin(220));
    bench.send(insert(RELATION_OID, "b", "nobody.knows.v1", 10));
    bench.send(commit(220, 230));
    bench.delivered();
    let parked = bench.written().0.expect("a dead letter, and its parked form");
    assert!(parked.is_atomic, "delivered again after a crash, it would be counted twice");
    bench.wait(INTERVAL);
    assert_eq!(bench.written(), (None, None), "a position of before would follow that of the batch");
    bench.committed();
    assert_eq!(bench.engine.status(bench.now).flush, Lsn::new(230));
}

#[test]
fn a_release_begins_when_the_position_is_recorded_and_no_position_is_recorded_beside_it() {
    let mut bench = Bench::new();
    bench.transaction(200, &["a"]);
    let _ = bench.written();
    bench.send(begin(220));
    bench.send(insert(RELATION_OID, "b", "nobody.knows.v1", 10));
    bench.send(commit(220, 230));
    bench.delivered();
    let (dead, _) = bench.written();
    bench.committed();
    bench.transaction(240, &["c"]);
    let _ = bench.written();
    bench.delivered();
    bench.engine.router.routes = vec![Route::new("*", "users.created")];
    let head = EventPosition { final_lsn: Lsn::new(220), ordinal: 0 };
    bench.engine.release(head, Action::Redrive);
    let asked = bench.commands();
    assert!(asked.iter().any(|command| matches!(command, Command::ReadParked(_))), "{asked:?}");
    assert!(asked.contains(&Command::Record(at(250))));
    let parked = &dead.expect("a dead letter").records[1];
    let value = parked.value.as_ref().expect("a value");
    bench.engine.handle_parked(vec![Waiting::parse(&parked.key, value).expect("a parked event")]);
    bench.transaction(260, &["d"]);
    assert_eq!(bench.written(), (None, None), "the release is next, and its position is not recorded yet");
    bench.recorded();
    let (release, position) = bench.written();
    let release = release.expect("the release");
    assert_eq!((release.is_atomic, release.position, position), (true, at(250), None));
    bench.committed();
    assert_eq!(bench.written().0.map(|batch| batch.position), Some(at(270)));
}
