//! What every part of a schedule shares: chance, time, the trace, and what was seen.

use std::time::{Duration, Instant};

use cdc_relay::engine::Now;

use crate::LoopBug;
use crate::random::Random;
use crate::sometimes::Seen;

pub(crate) struct Env {
    pub(crate) random: Random,
    /// Simulated microseconds since the schedule began.
    pub(crate) now: u64,
    /// The wall clock's microseconds since 1970 at the beginning, jumps included.
    pub(crate) wall_us: i64,
    origin: Instant,
    pub(crate) seen: Seen,
    pub(crate) bug: Option<LoopBug>,
    trace: Option<Vec<String>>,
}

impl Env {
    pub(crate) fn new(seed: u64, bug: Option<LoopBug>, with_trace: bool) -> Self {
        Self {
            random: Random::new(seed),
            now: 0,
            wall_us: 1_700_000_000_000_000,
            origin: Instant::now(),
            seen: Seen::default(),
            bug,
            trace: with_trace.then(Vec::new),
        }
    }

    pub(crate) fn clocks(&self) -> Now {
        let elapsed = i64::try_from(self.now).unwrap_or(i64::MAX);
        Now {
            monotonic: self.origin + Duration::from_micros(self.now),
            unix_us: self.wall_us.saturating_add(elapsed),
        }
    }

    pub(crate) fn tell(&mut self, words: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} s  {}", Duration::from_micros(self.now).as_secs_f64(), words()));
        }
    }

    pub(crate) fn into_trace(self) -> (Seen, Vec<String>) {
        (self.seen, self.trace.unwrap_or_default())
    }
}
