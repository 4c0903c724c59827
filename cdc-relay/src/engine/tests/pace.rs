//! What is late may wait for company; nothing else does.

use super::*;

const INTERVAL: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_millis(250);

impl Bench {
    /// A transaction of one row that was made so long before it is sent.
    fn late(&mut self, final_lsn: u64, payload_bytes: usize, lag: Duration) {
        self.send(begin(final_lsn));
        self.send(insert(RELATION_OID, "a", "users.created.v1", payload_bytes));
        self.send_late(commit(final_lsn, final_lsn + 10), lag);
    }
}

/// A source whose first batch, handed over now, has ended.
fn behind() -> Bench {
    let mut bench = Bench::new();
    bench.late(200, 10, LATE);
    assert!(bench.published().is_some(), "the first waits for nobody");
    bench.committed();
    bench
}

#[test]
fn what_is_late_waits_for_company_until_the_interval_is_over() {
    let mut bench = behind();
    bench.late(220, 10, LATE);
    assert_eq!(bench.published(), None);
    assert_eq!(bench.engine.next_timeout(), bench.now.monotonic + INTERVAL);
    bench.late(240, 10, LATE);
    bench.wait(INTERVAL);
    let batch = bench.published().expect("it waits no longer");
    assert_eq!((batch.records.len(), batch.position), (2, at(250)));
}

#[test]
fn it_waits_no_longer_for_what_half_of_the_buffer_holds_already() {
    let mut bench = behind();
    bench.late(220, (1 << 20) / 2, LATE);
    assert!(bench.published().is_some());
}

#[test]
fn what_is_not_late_goes_out_at_once_and_takes_along_what_waits() {
    let mut bench = behind();
    bench.late(220, 10, LATE);
    bench.late(240, 10, LATE - Duration::from_micros(1));
    assert_eq!(bench.published().map(|batch| batch.records.len()), Some(2));
    bench.committed();
    // The server's clock was set back between commit and sending.
    bench.send(begin(260));
    bench.send(insert(RELATION_OID, "a", "users.created.v1", 10));
    let mut early = x_log_data(&commit(260, 270));
    early[17..25].copy_from_slice(&(-1_000_000_i64).to_be_bytes());
    bench.engine.handle_copy_data(bench.now, early.into()).expect("a good frame");
    assert!(bench.published().is_some());
}

#[test]
fn a_drain_does_not_wait() {
    let mut bench = behind();
    bench.late(220, 10, LATE);
    assert_eq!(bench.published(), None);
    bench.engine.drain();
    assert!(bench.published().is_some());
}
