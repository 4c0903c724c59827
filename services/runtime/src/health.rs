//! Readiness as the sum of named conditions. A process is ready when every condition holds and nobody asked it to
//! stop.
//!
//! It checks nothing by itself: each part of the process reports the condition that it knows about. A *remark* is a
//! condition that is shown, here and as a metric, and that the process works without.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use metrics::gauge;
use tokio::sync::watch;

use crate::shutdown::Shutdown;

const STARTING: &str = "starting";

/// The conditions of one process; clones share them.
#[derive(Clone)]
pub struct Readiness {
    shared: Arc<Shared>,
}

struct Shared {
    conditions: Mutex<BTreeMap<&'static str, State>>,
    changes: watch::Sender<()>,
    shutdown: Shutdown,
}

/// How a condition stands.
#[derive(Clone, Debug, Eq, PartialEq)]
struct State {
    outcome: Result<(), String>,
    /// Whether the process is not ready without it.
    vital: bool,
}

impl Readiness {
    /// No condition yet, and so not ready: nobody has said that anything works.
    pub fn new(shutdown: Shutdown) -> Self {
        let shared = Shared { conditions: Mutex::default(), changes: watch::Sender::new(()), shutdown };
        Self { shared: Arc::new(shared) }
    }

    /// Adds a condition, which has failed ("starting") until its owner says otherwise.
    pub fn condition(&self, name: &'static str) -> Condition {
        self.add(name, true)
    }

    /// Adds a condition that the process is ready without, but whose failure is told.
    pub fn remark(&self, name: &'static str) -> Condition {
        self.add(name, false)
    }

    fn add(&self, name: &'static str, vital: bool) -> Condition {
        let condition = Condition { name, vital, readiness: self.clone() };
        condition.fail(STARTING);
        condition
    }

    /// Whether there are conditions, every one holds, and no shutdown was requested.
    pub fn ready(&self) -> bool {
        let conditions = self.conditions();
        let mut vital = conditions.values().filter(|state| state.vital).peekable();
        !self.shared.shutdown.requested()
            && vital.peek().is_some()
            && vital.all(|state| state.outcome.is_ok())
    }

    /// Whether a shutdown was requested.
    pub(crate) fn stopping(&self) -> bool {
        self.shared.shutdown.requested()
    }

    /// Returns when [`Readiness::ready`] differs from `before`.
    pub async fn changed_from(&self, before: bool) {
        let mut changes = self.shared.changes.subscribe();
        while self.ready() == before {
            tokio::select! {
                _ = changes.changed() => {}
                () = self.shared.shutdown.wait() => return,
            }
        }
    }

    fn set(&self, name: &'static str, state: State) {
        gauge!("tailrace_condition", "name" => name).set(if state.outcome.is_ok() { 1.0 } else { 0.0 });
        let before = self.conditions().insert(name, state.clone());
        if before != Some(state) {
            self.shared.changes.send_replace(());
        }
    }

    fn conditions(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, State>> {
        // A panic while holding the lock cannot leave half a change: each change is one insert.
        self.shared.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line per condition, as `/readyz` shows it.
impl fmt::Display for Readiness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shared.shutdown.requested() {
            writeln!(formatter, "process: stopping")?;
        }
        for (name, state) in self.conditions().iter() {
            match &state.outcome {
                Ok(()) => writeln!(formatter, "{name}: ok")?,
                Err(why) if state.vital => writeln!(formatter, "{name}: {why}")?,
                Err(why) => writeln!(formatter, "{name}: {why} (works on without)")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Readiness").field(&self.to_string()).finish()
    }
}

/// A fact that must hold for the process to be ready, reported by the part that knows it.
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    vital: bool,
    readiness: Readiness,
}

impl Condition {
    /// The condition holds.
    pub fn ok(&self) {
        self.readiness.set(self.name, State { outcome: Ok(()), vital: self.vital });
    }

    /// The condition does not hold; `why` is shown to operators on the ops port.
    pub fn fail(&self, why: impl Into<String>) {
        self.readiness.set(self.name, State { outcome: Err(why.into()), vital: self.vital });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_condition_has_failed_until_its_owner_says_otherwise() {
        let readiness = Readiness::new(Shutdown::new());
        assert!(!readiness.ready(), "nobody has said that anything works");
        let database = readiness.condition("postgres");
        assert!(!readiness.ready());
        assert_eq!(readiness.to_string(), "postgres: starting\n");
        database.ok();
        assert!(readiness.ready());
        database.fail("connection refused");
        assert_eq!(readiness.to_string(), "postgres: connection refused\n");
    }

    #[test]
    fn a_remark_is_told_and_does_not_count() {
        let readiness = Readiness::new(Shutdown::new());
        let projection = readiness.remark("projection");
        assert!(!readiness.ready(), "nobody has said that anything works");
        readiness.condition("postgres").ok();
        projection.fail("no Kafka");
        assert!(readiness.ready());
        assert_eq!(readiness.to_string(), "postgres: ok\nprojection: no Kafka (works on without)\n");
    }

    #[test]
    fn a_stopping_process_is_not_ready_whatever_its_conditions_say() {
        let shutdown = Shutdown::new();
        let readiness = Readiness::new(shutdown.clone());
        readiness.condition("postgres").ok();
        shutdown.request();
        assert!(!readiness.ready());
        assert_eq!(readiness.to_string(), "process: stopping\npostgres: ok\n");
    }
}
