//! Time at the edges of a process: read here, passed on as an argument.

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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(nanosecond: i128, seconds: i64, nanos: i32) {
        let moment = Timestamp::from_nanosecond(nanosecond).expect("a moment");
        assert_eq!(on_wire(moment), pbjson_types::Timestamp { seconds, nanos });
    }

    #[test]
    fn nanoseconds_count_forwards_on_the_wire() {
        check(1_500_000_000, 1, 500_000_000);
        check(-500_000_000, -1, 500_000_000);
        check(0, 0, 0);
    }
}
