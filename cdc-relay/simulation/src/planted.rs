//! Bugs planted on purpose, one at a time: the simulation must find each.

use cdc_relay::planted::{self, Bug};

use crate::{LoopBug, run};

/// A bug in the relay's own code, or in the model of its loop.
#[derive(Clone, Copy, Debug)]
pub enum Planted {
    /// In `cdc-relay`.
    Engine(Bug),
    /// In the model.
    Loop(LoopBug),
}

/// All of them.
pub const PLANTED: &[Planted] = &{
    let mut all = [Planted::Loop(LoopBug::FencingLost); Bug::ALL.len() + 4];
    let mut index = 0;
    while index < Bug::ALL.len() {
        all[index] = Planted::Engine(Bug::ALL[index]);
        index += 1;
    }
    all[index + 1] = Planted::Loop(LoopBug::UnknownTakenAsCommitted);
    all[index + 2] = Planted::Loop(LoopBug::StalePosition);
    all[index + 3] = Planted::Loop(LoopBug::PrefixBroken);
    all
};

impl Planted {
    /// The bug's name; one in the model says so.
    pub fn name(self) -> String {
        match self {
            Self::Engine(bug) => format!("{bug:?}"),
            Self::Loop(bug) => format!("{bug:?} (model)"),
        }
    }
}

/// The bug of this name.
pub fn named(name: &str) -> Option<Planted> {
    PLANTED.iter().copied().find(|bug| bug.name().split(' ').next() == Some(name))
}

/// Plants a bug; one in the model is returned, for [`run`].
pub fn plant(bug: Planted) -> Option<LoopBug> {
    let (engine, model) = match bug {
        Planted::Engine(bug) => (Some(bug), None),
        Planted::Loop(bug) => (None, Some(bug)),
    };
    planted::plant(engine);
    model
}

/// Runs schedules until one fails: how many it took, and what failed.
pub fn catch(bug: Planted, first: u64, schedules: u64) -> Option<(u64, String)> {
    let loop_bug = plant(bug);
    let caught = (1..=schedules)
        .find_map(|count| run(first + count - 1, loop_bug, false).failure.map(|failure| (count, failure)));
    planted::plant(None);
    caught
}
