//! A model of the thread that delivers at least once: records without a transaction, told of one by one and in any order.
//!
//! ```text
//!   unsent ─▶ the topic, seen at once ─▶ unacknowledged ─▶ delivered, once nothing is left
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use cdc_relay::record::{Batch, Record};

use crate::LoopBug;
use crate::env::Env;
use crate::sometimes::Sometimes;

/// A batch on its way.
#[derive(Debug)]
pub(crate) struct Delivery {
    batch: Arc<Batch>,
    /// What the brokers have not taken, in an order in which they may.
    unsent: VecDeque<usize>,
    /// What they have taken without having said so.
    unacknowledged: Vec<usize>,
    pub(crate) since: u64,
    is_told: bool,
    is_last_acknowledged: bool,
}

impl Delivery {
    /// Begins, with this order of the brokers.
    pub(crate) fn begin(batch: Arc<Batch>, order: Vec<usize>, now: u64) -> Self {
        Self {
            batch,
            unsent: order.into(),
            unacknowledged: Vec::new(),
            since: now,
            is_told: false,
            is_last_acknowledged: false,
        }
    }

    /// The next record that a broker takes, if it takes one now rather than telling of an earlier one.
    pub(crate) fn step(&mut self, env: &mut Env) -> Option<Record> {
        if self.unacknowledged.is_empty() || env.random.chance(500) {
            let index = self.unsent.pop_front()?;
            self.unacknowledged.push(index);
            return self.batch.records.get(index).cloned();
        }
        let chosen = env.random.index(self.unacknowledged.len());
        if chosen > 0 {
            env.seen.note(Sometimes::ToldUnordered);
        }
        let index = self.unacknowledged.swap_remove(chosen);
        self.is_last_acknowledged |= index + 1 == self.batch.records.len();
        None
    }

    /// Whether everything was told of.
    pub(crate) fn is_done(&self) -> bool {
        self.unsent.is_empty() && self.unacknowledged.is_empty()
    }

    /// Whether its end may be told now; once.
    pub(crate) fn take_end(&mut self, bug: Option<LoopBug>) -> bool {
        let is_end = self.is_done() || bug == Some(LoopBug::PrefixBroken) && self.is_last_acknowledged;
        is_end && !std::mem::replace(&mut self.is_told, is_end)
    }

    /// Whether its end was told.
    pub(crate) const fn is_told(&self) -> bool {
        self.is_told
    }
}
