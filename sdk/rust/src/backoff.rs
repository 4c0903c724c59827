//! How long to wait before the next attempt.

use std::time::Duration;

/// Doublings beyond this many change nothing: the bound is reached.
const DOUBLINGS_MAX: u32 = 31;

/// The bounds of the waits: full jitter, anywhere between nothing and a bound that doubles from `base` up to `cap`, so that
/// many clients of one restarted server do not return at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first wait.
    pub base: Duration,
    /// What no wait exceeds.
    pub cap: Duration,
}

impl Backoff {
    /// The wait before an attempt; 0 is the first retry. The random number is in [0, 1).
    pub(crate) fn delay(self, attempt: u32, random: f64) -> Duration {
        let bound = self.base.saturating_mul(1 << attempt.min(DOUBLINGS_MAX));
        bound.min(self.cap).mul_f64(random)
    }

    /// The wait with a random number of its own.
    pub(crate) fn draw(self, attempt: u32) -> Duration {
        self.delay(attempt, fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_bound() {
        let backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(30) };
        let expected = [(0, 0.0, 0), (0, 1.0, 500), (3, 0.5, 2000), (6, 1.0, 30_000), (1000, 1.0, 30_000)];
        for (attempt, random, millis) in expected {
            assert_eq!(backoff.delay(attempt, random), Duration::from_millis(millis), "{attempt} {random}");
        }
    }
}
