//! What is known of each source, for the admin service, for metrics and for readiness. Written by the source's loop and
//! by the watch over its slot; says each trouble once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use replication_protocol::Lsn;
use tailrace_runtime::health::Condition;

use crate::clock;
use crate::engine::Progress;
use crate::source::{PublicationCoverage, SlotRow};
use crate::trouble::Trouble;

/// An event that waits longer than this makes the relay not ready.
const OLDEST_UNDELIVERED_MAX: Duration = Duration::from_secs(60);

/// The board of one source. Cheap to clone: all clones show the same.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    source: String,
    condition: Condition,
    status: Mutex<Status>,
}

/// What the board shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) problem: String,
    pub(crate) progress: Option<Progress>,
    /// Counted over earlier streams of this process.
    pub(crate) published_before: u64,
    pub(crate) dead_letters_before: u64,
    pub(crate) retries: u64,
    pub(crate) slot: Option<Slot>,
    /// The server's process that sends our stream.
    stream_pid: Option<i32>,
    /// The trouble that the log has already told of.
    said: Option<Trouble>,
    /// The last stream ended here with events that it could not publish: its trouble is over when this is passed.
    stuck_at: Option<Lsn>,
}

/// What the relay does with a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Starting,
    Streaming,
    Standby,
    Waiting,
    Halted,
}

/// The slot, as last asked.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) row: SlotRow,
    pub(crate) coverage: Option<PublicationCoverage>,
    pub(crate) wal_end: Lsn,
}

impl Slot {
    /// Whether inserts into the outbox still reach the stream.
    pub(crate) fn publication_covers_outbox(&self) -> bool {
        self.coverage.is_some_and(|coverage| coverage.inserts && coverage.table)
    }

    /// Whether the server still keeps the log that we need.
    fn is_safe(&self) -> bool {
        !matches!(self.row.wal_status.as_deref(), Some("unreserved" | "lost"))
    }
}

impl Status {
    pub(crate) fn published_events(&self) -> u64 {
        self.published_before + self.progress.map_or(0, |progress| progress.published_events)
    }

    pub(crate) fn dead_letters(&self) -> u64 {
        self.dead_letters_before + self.progress.map_or(0, |progress| progress.dead_letters)
    }

    /// The end of the log, as last heard on either way.
    pub(crate) fn wal_end(&self) -> Lsn {
        let heard = self.progress.map_or(Lsn::ZERO, |progress| progress.received);
        heard.max(self.slot.as_ref().map_or(Lsn::ZERO, |slot| slot.wal_end))
    }

    pub(crate) fn lag_bytes(&self) -> u64 {
        self.progress.map_or(0, |progress| self.wal_end().bytes_since(progress.durable))
    }

    /// How long the oldest event that is not in Kafka has been committed.
    pub(crate) fn lag(&self, now_us: i64) -> Duration {
        let oldest = self.progress.and_then(|progress| progress.oldest_committed_at_us);
        let age_us = oldest.map_or(0, |oldest| now_us.saturating_sub(oldest));
        Duration::from_micros(u64::try_from(age_us).unwrap_or(0))
    }

    /// Forgets the trouble, unless the events that it began with are still not published.
    fn recover(&mut self, durable: Lsn) {
        if self.stuck_at.is_none_or(|stuck_at| durable > stuck_at) {
            self.problem.clear();
            (self.said, self.stuck_at) = (None, None);
        }
    }

    fn readiness(&self, now_us: i64) -> Result<(), String> {
        match self.state {
            State::Streaming if self.stuck_at.is_some() => return Err(self.problem.clone()),
            State::Streaming => {}
            State::Starting if self.problem.is_empty() => return Err("starting".into()),
            State::Standby => return Err("standing by: another relay holds this source".into()),
            State::Starting | State::Waiting | State::Halted => return Err(self.problem.clone()),
        }
        if self.lag(now_us) > OLDEST_UNDELIVERED_MAX {
            return Err(format!("an event has waited {} s for Kafka", self.lag(now_us).as_secs()));
        }
        match &self.slot {
            Some(slot) if !slot.publication_covers_outbox() => {
                Err("the publication does not cover inserts into the outbox table".into())
            }
            Some(slot) if !slot.is_safe() => {
                Err("the server no longer keeps the log that the slot needs".into())
            }
            _ => Ok(()),
        }
    }
}

impl Board {
    pub(crate) fn new(source: &str, condition: Condition) -> Self {
        let inner = Inner { source: source.to_owned(), condition, status: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn source(&self) -> &str {
        &self.inner.source
    }

    /// Whether the slot was told of more than we have in Kafka, which must never be. The slot must have been looked at
    /// before: what was confirmed then is durable by now. A slot that our own stream is not on says nothing: while we
    /// were frozen, another relay may have taken the source and be ahead of us.
    pub(crate) fn is_overtaken_by(&self, slot: &SlotRow) -> bool {
        let status = self.lock();
        let is_ours = status.state == State::Streaming
            && slot.active_pid.is_some_and(|pid| status.stream_pid == Some(pid));
        let durable = status.progress.filter(|_| is_ours).map(|progress| progress.durable);
        durable.is_some_and(|durable| slot.confirmed_flush_lsn.is_some_and(|confirmed| confirmed > durable))
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().clone()
    }

    /// An attempt begins. The trouble of the last one stays on the board until it is over.
    pub(crate) fn starting(&self) {
        self.lock().state = State::Starting;
    }

    /// The source is ours, from this progress on; that process of the server sends the stream.
    pub(crate) fn streaming(&self, progress: Progress, stream_pid: i32) {
        self.change(|status| {
            status.state = State::Streaming;
            status.stream_pid = Some(stream_pid);
            status.progress = Some(progress);
            status.recover(progress.durable);
        });
        tracing::info!(source = self.source(), position.lsn = %progress.durable, "streaming");
    }

    /// Says a trouble once: again only when it is another, or after the source has streamed.
    pub(crate) fn trouble(&self, trouble: &Trouble) {
        let (state, problem) = match trouble {
            Trouble::Standby => (State::Standby, String::new()),
            Trouble::Passing(problem) => (State::Waiting, problem.clone()),
            Trouble::Halted(problem) => (State::Halted, problem.clone()),
        };
        self.change(|status| {
            status.state = state;
            status.problem = problem;
            status.retries += u64::from(state != State::Standby);
        });
        if self.lock().said.replace(trouble.clone()).as_ref() == Some(trouble) {
            return;
        }
        let source = self.source();
        match trouble {
            Trouble::Standby => tracing::info!(source, "standing by: another relay holds this source"),
            Trouble::Passing(problem) => tracing::warn!(source, problem, "waiting; trying again by itself"),
            Trouble::Halted(problem) => tracing::error!(source, problem, "halted; an operator must decide"),
        }
    }

    pub(crate) fn progress(&self, progress: Progress) {
        let was_stuck = {
            let mut status = self.lock();
            status.progress = Some(progress);
            status.stuck_at.is_some()
        };
        if was_stuck {
            self.change(|status| status.recover(progress.durable));
        }
    }

    /// A stream ended: its counts are kept, nothing of it is in flight any more. What comes next has yet to start, and
    /// until then the source is not ready, however long closing takes.
    pub(crate) fn ended(&self, progress: Progress) {
        self.change(|status| {
            let has_more = progress.in_flight_events + progress.waiting_events > 0;
            status.state = State::Starting;
            status.stuck_at = has_more.then_some(progress.durable);
            status.published_before += progress.published_events;
            status.dead_letters_before += progress.dead_letters;
            status.progress =
                Some(Progress { published_events: 0, dead_letters: 0, in_flight_events: 0, ..progress });
        });
    }

    pub(crate) fn slot(&self, slot: Option<Slot>) {
        self.change(|status| status.slot = slot);
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        let readiness = {
            let mut status = self.lock();
            change(&mut status);
            status.readiness(clock::now().unix_us)
        };
        match readiness {
            Ok(()) => self.inner.condition.ok(),
            Err(why) => self.inner.condition.fail(why),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.inner.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tailrace_runtime::health::Readiness;
    use tailrace_runtime::shutdown::Shutdown;

    use super::*;

    const OURS: i32 = 17;

    fn progress(durable: u64) -> Progress {
        Progress {
            durable: Lsn::new(durable),
            received: Lsn::new(durable),
            in_flight_events: 0,
            waiting_events: 0,
            oldest_committed_at_us: None,
            published_events: 0,
            dead_letters: 0,
            parked_keys: 0,
        }
    }

    #[track_caller]
    fn check(active_pid: Option<i32>, confirmed: u64, expected: bool) {
        let board = Board::new("users", Readiness::new(Shutdown::new()).condition("relay"));
        let slot = SlotRow {
            plugin: None,
            database: None,
            active: active_pid.is_some(),
            active_pid,
            restart_lsn: None,
            confirmed_flush_lsn: Some(Lsn::new(confirmed)),
            wal_status: None,
            safe_wal_size_bytes: None,
        };
        assert!(!board.is_overtaken_by(&slot), "nothing is streamed yet");
        board.streaming(progress(100), OURS);
        assert_eq!(board.is_overtaken_by(&slot), expected, "{active_pid:?} {confirmed}");
        board.trouble(&Trouble::Standby);
        assert!(!board.is_overtaken_by(&slot), "nothing is streamed any more");
    }

    #[test]
    fn a_stream_that_gets_nowhere_is_not_ready_again_until_it_does() {
        let readiness = Readiness::new(Shutdown::new());
        let board = Board::new("users", readiness.condition("relay"));
        let is_ready = || board.lock().readiness(0).is_ok();
        let refused = Trouble::Passing("not authorised".into());
        let waiting = Progress { in_flight_events: 2, ..progress(100) };
        board.streaming(progress(100), OURS);
        assert!(is_ready());
        board.ended(waiting);
        board.trouble(&refused);
        assert!(!is_ready());
        board.streaming(progress(100), OURS);
        board.progress(waiting);
        assert!(!is_ready(), "the same events are still to be published");
        board.progress(progress(200));
        assert!(is_ready());
        // An unknown outcome that turns out to be known is another matter.
        board.ended(Progress { in_flight_events: 2, ..progress(300) });
        board.trouble(&refused);
        board.streaming(progress(400), OURS);
        assert!(is_ready());
    }

    #[test]
    fn a_slot_is_ahead_of_kafka_only_if_our_own_stream_is_on_it() {
        check(Some(OURS), 100, false);
        check(Some(OURS), 101, true);
        check(Some(OURS + 1), 101, false);
        check(None, 101, false);
    }
}
