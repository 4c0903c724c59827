//! The caller's deadline, as the protocol writes it in `grpc-timeout`.
//!
//! The library knows it too, but what it answers has no reason and is no `DEADLINE_EXCEEDED`; so it is held to here, a little before.

use std::time::Duration;

use http::HeaderMap;
use tonic::{Code, Status};

use crate::error::Problem;

const HEADER: &str = "grpc-timeout";
/// What the protocol allows.
const DIGITS_MAX: usize = 8;
/// How much earlier than asked the answer goes out: also the caller stops listening at his deadline.
const MARGIN: Duration = Duration::from_millis(5);

/// How long the call may take; none: as long as it takes. What is no deadline is none.
pub(super) fn limit(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let amount: u64 = digits.parse().ok().filter(|_| is_number)?;
    let limit = match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    };
    Some(limit.saturating_sub(MARGIN))
}

/// What a caller is told whose deadline passed.
pub(super) fn exceeded() -> Problem {
    Problem::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "The deadline passed before the answer.")
}

/// The same as an answer.
pub(super) fn answer() -> http::Response<tonic::body::Body> {
    Status::from(exceeded()).into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &'static str, expected_ms: Option<u64>) {
        let headers =
            HeaderMap::from_iter([(HEADER.parse().expect("a name"), text.parse().expect("a value"))]);
        let expected = expected_ms.map(|ms| Duration::from_millis(ms).saturating_sub(MARGIN));
        assert_eq!(limit(&headers), expected, "{text}");
    }

    #[test]
    fn a_deadline_is_a_number_and_a_unit() {
        check("2H", Some(7_200_000));
        check("3M", Some(180_000));
        check("4S", Some(4_000));
        check("300m", Some(300));
        check("20000u", Some(20));
        check("50000000n", Some(50));
        check("0n", Some(0));
        for none in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S", "S1"] {
            check(none, None);
        }
    }
}
