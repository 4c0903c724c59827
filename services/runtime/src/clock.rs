//! Time at the edges of a process: read here, passed on as an argument.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{Timestamp, Unit};

/// Now, as exactly as Postgres keeps it: what a call returns must equal what a later call reads.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    now.round(Unit::Microsecond).unwrap_or(now)
}

/// A moment in its wire form.
pub fn on_wire(moment: Timestamp) -> pbjson_types::Timestamp {
    // The wire counts nanoseconds forwards from the second below, the library from the second nearest to 1970.
    let borrow = i64::from(moment.subsec_nanosecond() < 0);
    let nanos = moment.subsec_nanosecond() + if borrow == 1 { 1_000_000_000 } else { 0 };
    pbjson_types::Timestamp { seconds: moment.as_second() - borrow, nanos }
}

/// The time in which waits are measured: it only goes on. Clones share it, so that a test can set it forward where it would
/// have to sleep.
#[derive(Clone, Debug, Default)]
pub struct Monotonic {
    stopped_at: Option<Instant>,
    ahead_ns: Arc<AtomicU64>,
}

impl Monotonic {
    /// Goes on only when it is set forward.
    pub fn stopped() -> Self {
        Self { stopped_at: Some(Instant::now()), ahead_ns: Arc::default() }
    }

    /// Now.
    pub fn now(&self) -> Instant {
        let ahead = Duration::from_nanos(self.ahead_ns.load(Ordering::Relaxed));
        self.stopped_at.unwrap_or_else(Instant::now) + ahead
    }

    /// Sets it forward.
    pub fn skip(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.ahead_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(nanosecond: i128, seconds: i64, nanos: i32) {
        let moment = Timestamp::from_nanosecond(nanosecond).expect("a moment");
        assert_eq!(on_wire(moment), pbjson_types::Timestamp { seconds, nanos });
    }

    #[test]
    fn waits_pass_by_themselves_or_by_being_skipped() {
        let (running, stopped) = (Monotonic::default(), Monotonic::stopped());
        let (before, start) = (Instant::now(), stopped.now());
        assert!(running.now() >= before);
        assert_eq!(stopped.now(), start);
        for clock in [running, stopped] {
            let (start, hour) = (clock.now(), Duration::from_secs(3600));
            clock.clone().skip(hour);
            assert!(clock.now() >= start + hour);
        }
    }

    #[test]
    fn nanoseconds_count_forwards_on_the_wire() {
        check(1_500_000_000, 1, 500_000_000);
        check(-500_000_000, -1, 500_000_000);
        check(0, 0, 0);
    }
}
