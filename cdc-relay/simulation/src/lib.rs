//! A deterministic simulation of the relay: the real engine and the real proof of the position, between a model of
//! Postgres, a model of Kafka and a model of the relay's loop, all from one seed and a simulated clock.
//!
//! ```text
//!   postgres ─ frames ─▶ relay (Engine, prove) ─ batches ─▶ sink ─▶ kafka ─▶ truth (checks each commit)
//!       ▲────── statuses ──────┘ (truth checks each acknowledgement)
//! ```
//!
//! No threads, no sockets, no real time: the same seed is the same schedule, step by step.

use std::panic::{AssertUnwindSafe, catch_unwind};

mod delivery;
mod env;
mod frames;
mod kafka;
#[cfg(feature = "planted-bugs")]
pub mod planted;
mod postgres;
mod random;
mod relay;
mod sink;
mod sometimes;
mod truth;
mod world;

pub use sometimes::{Seen, Sometimes};

use env::Env;
use world::World;

/// A bug in the model of the loop and the sink, where the real ones are not driven by the simulation: it shows that the
/// checker would see such a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopBug {
    /// A start does not fence the producers before it.
    FencingLost,
    /// An unknown outcome is taken for a commit.
    UnknownTakenAsCommitted,
    /// The position is read only up to the last stable offset.
    StalePosition,
    /// At least once, a batch counts as delivered with its last record, whatever became of the others.
    PrefixBroken,
}

/// What became of a schedule.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What did not hold.
    pub failure: Option<String>,
    /// What was seen on the way.
    pub seen: Seen,
    /// How many transactions were committed.
    pub transactions: u64,
    /// How many rows were written to the outbox.
    pub rows: u64,
    /// Every step of interest, if asked for.
    pub trace: Vec<String>,
}

/// Runs the schedule of a seed.
pub fn run(seed: u64, bug: Option<LoopBug>, with_trace: bool) -> Ended {
    let mut world = World::new(Env::new(seed, bug, with_trace));
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let failure = match ended {
        Ok(result) => result.err(),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            Some(format!("panic: {}", words.unwrap_or_default()))
        }
    };
    let (transactions, rows) = world.written();
    let (seen, trace) = world.env.into_trace();
    Ended { failure, seen, transactions, rows, trace }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_gets_through_once_and_in_order_whatever_strikes() {
        for seed in 0..120 {
            let ended = run(seed, None, false);
            assert_eq!(ended.failure, None, "cargo xtask simulate --seed {seed}");
            assert!(ended.transactions >= 300, "{}", ended.transactions);
        }
    }

    #[test]
    fn a_seed_is_a_schedule() {
        let (first, second) = (run(3, None, true), run(3, None, true));
        assert_eq!(first.trace, second.trace);
        assert_ne!(first.trace, run(4, None, true).trace);
        assert!(first.trace.iter().any(|step| step.contains("publishes")), "{:?}", first.trace);
    }
}
