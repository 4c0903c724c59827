//! The heart of the relay, sans-IO: frames of the stream go in, batches for Kafka and status replies come out.
//!
//! ```text
//!  handle_copy_data ─▶ transaction ─▶ router ─▶ building ─▶ Publish(batch) ─▶ in flight ─▶ handle_outcome
//!                                                                                             │
//!  SendStatus(flush = durable) ◀──────────────────────────────── durable position ◀───────────┘
//! ```
//!
//! Between router and building stands the parking: what cannot be published holds back its key, see `engine/parking.rs`.
//!
//! What holds here, whatever the order of calls:
//! - The acknowledged LSN is the durable position, never more: it moves only when a batch is committed.
//! - A position is the `end_lsn` of a commit, or a keepalive's `wal_end` heard while nothing was pending.
//! - One batch is in flight. The next one begins after its outcome, so Kafka's order is the order of commits.
//! - Where events are delivered at least once, a batch is *delivered* before its position is *recorded*; only then is it durable.
//! - A batch goes out as soon as the one before has ended; only what is late already may wait for company, see `pace.rs`.
//! - Memory is bounded in bytes: [`Engine::wants_data`] says when to stop reading the socket.
//!
//! There is no clock here: time is an argument. Not here either: sockets, producers, tasks, and what to do when an
//! outcome is unknown (the caller drops the engine and starts again from the position in Kafka).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use replication_protocol::copy_data::{CopyData, PrimaryKeepalive, StandbyStatusUpdate, XLogData};
use replication_protocol::pgoutput::{Begin, Commit, Insert, Message, Relation};
use replication_protocol::{Lsn, PgTimestamp};

use crate::building::Building;
use crate::headers::Arena;
use crate::pace::Pace;
use crate::parking::{Parking, ParkingKey};
use crate::planted::{self, Bug};
use crate::position::Position;
use crate::record::{Batch, Outcome};
use crate::release::{Release, Released};
use crate::router::{self, Origin, Router};
use crate::row::{ColumnNames, ColumnPlan};
use crate::transaction::{CommitTime, Transaction};

/// The two clocks: one to measure with, one to write down.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Never goes back.
    pub monotonic: Instant,
    /// Microseconds since 1970.
    pub unix_us: i64,
}

/// Limits and intervals.
#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// How many bytes of records may wait; above, the socket is not read, and a larger transaction is split.
    pub buffer_bytes_max: usize,
    /// How often the status goes out although nothing happened.
    pub status_interval: Duration,
    /// How soon after a status the next one may tell of a new position.
    pub status_interval_min: Duration,
    /// How often a position without events is recorded.
    pub idle_position_interval: Duration,
    /// How long the server may be silent.
    pub silence_max: Duration,
    /// From this lag on the source is behind, and batches wait for company.
    pub catch_up_lag: Duration,
    /// How long after the batch before they wait at most.
    pub catch_up_interval: Duration,
}

/// What the caller carries out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send records and position in one Kafka transaction, and report its [`Outcome`].
    Publish(Arc<Batch>),
    /// Record a position whose events are delivered, and report [`Outcome::Recorded`].
    Record(Position),
    /// Tell the server.
    SendStatus(StandbyStatusUpdate),
    /// Read the first events that are parked of a key, and bring them by [`Engine::handle_parked`].
    ReadParked(ParkingKey),
    /// Answer the one who asked for the release.
    AnswerRelease(Released),
}

/// The outbox table of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

/// Where a source stands, for people and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Up to here everything is in Kafka.
    pub durable: Lsn,
    /// Up to here the log was received.
    pub received: Lsn,
    /// Events handed to Kafka and not yet committed there.
    pub in_flight_events: usize,
    /// Events decoded and not yet handed over.
    pub waiting_events: usize,
    /// The commit time of the oldest event that is not in Kafka, in microseconds since 1970.
    pub oldest_committed_at_us: Option<i64>,
    /// Events published since the engine started.
    pub published_events: u64,
    /// Of these, dead letters.
    pub dead_letters: u64,
    /// Keys that are parked.
    pub parked_keys: usize,
}

/// The state of one source while it streams.
#[derive(Debug)]
pub struct Engine {
    settings: EngineSettings,
    router: Router,
    table: Table,
    columns: ColumnNames,
    /// Per relation of this connection: how to read its rows, or `None` if it is not the outbox.
    relations: HashMap<u32, Option<ColumnPlan>>,
    /// The position when the stream began: what it covers was published by an earlier run.
    start: Position,
    durable: Position,
    /// Up to here everything is in Kafka; the position of it may not be, if events are delivered at least once.
    delivered: Position,
    recording: Option<Position>,
    transaction: Option<Transaction>,
    building: Building,
    pace: Pace,
    arena: Arena,
    in_flight: Option<InFlight>,
    parking: Parking,
    release: Option<Release>,
    answer: Option<Released>,
    received: Lsn,
    /// The server asked for a status.
    reply_owed: bool,
    /// The server wants to see progress now (it pings, or shuts down and waits for us): record even an idle position.
    position_wanted: bool,
    draining: bool,
    heard_at: Instant,
    status_sent_at: Option<Instant>,
    status_flush: Lsn,
    position_written_at: Instant,
    published_events: u64,
    dead_letters: u64,
}

impl Engine {
    /// Starts from the position that Kafka holds, and from the keys that are parked there.
    pub fn new(
        settings: EngineSettings,
        router: Router,
        table: Table,
        columns: ColumnNames,
        start: Position,
        parking: Parking,
        now: Now,
    ) -> Self {
        let pace = Pace::new(settings.catch_up_lag, settings.catch_up_interval, settings.buffer_bytes_max);
        Self {
            settings,
            router,
            table,
            columns,
            relations: HashMap::new(),
            start,
            durable: start,
            delivered: start,
            recording: None,
            transaction: None,
            building: Building::default(),
            pace,
            arena: Arena::default(),
            in_flight: None,
            parking,
            release: None,
            answer: None,
            received: start.resume_lsn,
            reply_owed: false,
            position_wanted: false,
            draining: false,
            heard_at: now.monotonic,
            status_sent_at: None,
            status_flush: Lsn::ZERO,
            position_written_at: now.monotonic,
            published_events: 0,
            dead_letters: 0,
        }
    }

    /// Takes the body of one CopyData frame.
    ///
    /// # Errors
    /// If the stream is not what the protocol says. The engine must not be used any further.
    pub fn handle_copy_data(&mut self, now: Now, body: Bytes) -> Result<(), EngineError> {
        self.heard_at = now.monotonic;
        match CopyData::parse(body)? {
            CopyData::XLogData(data) => self.handle_data(now, data),
            CopyData::PrimaryKeepalive(keepalive) => {
                self.handle_keepalive(keepalive);
                Ok(())
            }
            // A newer server's addition carries no rows of ours.
            CopyData::Unknown(_) => Ok(()),
        }
    }

    /// Takes the end of the batch in flight, or of the recording of a position.
    ///
    /// # Errors
    /// If the broker refuses even a dead letter.
    pub fn handle_outcome(&mut self, now: Now, outcome: Outcome) -> Result<(), EngineError> {
        if outcome == Outcome::Recorded {
            self.durable = self.recording.take().expect("a position was to be recorded");
            self.position_written_at = now.monotonic;
            return Ok(());
        }
        let InFlight { batch, purpose, .. } =
            self.in_flight.take().expect("an outcome belongs to the batch in flight");
        match outcome {
            Outcome::Committed | Outcome::Delivered | Outcome::Recorded => {
                self.count(&batch);
                self.delivered = batch.position;
                if outcome == Outcome::Committed || planted::is(Bug::DeliveredIsDurable) {
                    self.durable = batch.position;
                    self.position_written_at = now.monotonic;
                }
                match purpose {
                    Purpose::Stream => Ok(()),
                    Purpose::Release => self.release_committed(),
                }
            }
            // Sent together, one record's size is blamed on its neighbours: only a record sent alone is convicted.
            Outcome::Refused { .. } if !batch.one_by_one => {
                let again = Batch { one_by_one: true, ..Batch::clone(&batch) };
                self.in_flight = Some(self.outgoing(again, purpose));
                Ok(())
            }
            Outcome::Refused { indexes, message } => match purpose {
                Purpose::Stream => {
                    let again = self.without_refused(&batch, &indexes, &message)?;
                    self.in_flight = Some(self.outgoing(again, purpose));
                    Ok(())
                }
                Purpose::Release => self.release_refused(&batch, &indexes, &message),
            },
        }
    }

    /// The keys that are parked.
    pub fn parking(&self) -> &Parking {
        &self.parking
    }

    /// Notices what time alone brings about.
    ///
    /// # Errors
    /// If the server has been silent for too long.
    pub fn handle_timeout(&mut self, now: Now) -> Result<(), EngineError> {
        let silence = now.monotonic.saturating_duration_since(self.heard_at);
        if self.wants_data() && silence >= self.settings.silence_max {
            return Err(EngineError::Silence(silence));
        }
        Ok(())
    }

    /// What is to be done now, one command at a time until there is none.
    pub fn poll_command(&mut self, now: Now) -> Option<Command> {
        if let Some(status) = self.due_status(now) {
            return Some(Command::SendStatus(status));
        }
        if let Some(answer) = self.answer.take() {
            return Some(Command::AnswerRelease(answer));
        }
        if let Some(position) = self.position_to_record(now) {
            return Some(Command::Record(position));
        }
        if self.in_flight.is_none() && !self.draining {
            if let Some(key) = self.piece_to_read() {
                return Some(Command::ReadParked(key));
            }
            self.in_flight = self.release_batch().map(|batch| self.outgoing(batch, Purpose::Release));
            if let Some(answer) = self.answer.take() {
                return Some(Command::AnswerRelease(answer));
            }
        }
        let is_release_next = !self.draining && self.release.as_ref().is_some_and(Release::is_loaded);
        let is_free =
            self.in_flight.is_none() || planted::is(Bug::SecondInFlight) && self.building.committed_len() > 0;
        if is_free && !is_release_next {
            let was_full = !self.wants_data();
            self.in_flight = self.next_batch(now).map(|batch| self.outgoing(batch, Purpose::Stream));
            if was_full {
                // We did not listen, so the server was not silent.
                self.heard_at = now.monotonic;
            }
        }
        let in_flight = self.in_flight.as_mut().filter(|in_flight| !in_flight.handed_over)?;
        in_flight.handed_over = true;
        self.pace.handed_over(now.monotonic);
        if planted::is(Bug::AckTooEarly) {
            (self.durable, self.delivered) = (in_flight.batch.position, in_flight.batch.position);
        }
        Some(Command::Publish(Arc::clone(&in_flight.batch)))
    }

    /// When [`Engine::handle_timeout`] and [`Engine::poll_command`] are to be called at the latest.
    pub fn next_timeout(&self) -> Instant {
        let status = self.status_due_at();
        let silence = self.heard_at + self.settings.silence_max;
        let idle =
            self.idle_position().map(|_| self.position_written_at + self.settings.idle_position_interval);
        let idle = if self.in_flight.is_some() { None } else { idle };
        let silence = Some(silence).filter(|_| self.wants_data());
        [silence, idle, self.record_due_at(), self.waits_until()]
            .into_iter()
            .flatten()
            .fold(status, Instant::min)
    }

    /// Whether the socket may be read: not while as many bytes wait as may.
    pub fn wants_data(&self) -> bool {
        !self.draining && self.building.bytes() < self.settings.buffer_bytes_max
    }

    /// Stops taking data: what is complete is still published, what is not is sent again to the next run.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether everything complete is in Kafka.
    pub fn is_drained(&self) -> bool {
        self.draining && self.in_flight.is_none() && self.is_recorded() && self.building.committed_len() == 0
    }

    /// The status to take leave with.
    pub fn status(&self, now: Now) -> StandbyStatusUpdate {
        let flush = self.durable.resume_lsn;
        StandbyStatusUpdate {
            write: self.received.max(flush),
            flush,
            apply: flush,
            clock: PgTimestamp::from_unix_micros(now.unix_us),
            reply: false,
        }
    }

    /// Where the source stands.
    pub fn progress(&self) -> Progress {
        let in_flight = self.in_flight.as_ref().map(|in_flight| &in_flight.batch.records);
        let oldest = in_flight.and_then(|records| records.first()).or_else(|| self.building.first());
        Progress {
            durable: self.durable.resume_lsn,
            received: self.received,
            in_flight_events: in_flight.map_or(0, Vec::len),
            waiting_events: self.building.len(),
            oldest_committed_at_us: oldest.map(|record| record.committed_at_us),
            published_events: self.published_events,
            dead_letters: self.dead_letters,
            parked_keys: self.parking.len(),
        }
    }

    fn handle_data(&mut self, now: Now, data: XLogData) -> Result<(), EngineError> {
        self.received = self.received.max(data.end);
        match Message::parse(data.data)? {
            Message::Begin(begin) => self.begin(begin),
            Message::Insert(insert) => self.insert(now, insert),
            Message::Commit(commit) => self.commit(commit, data.clock),
            Message::Relation(relation) => self.relation(relation),
            Message::Message(message) if message.transactional => {
                let transaction = self.transaction.as_mut();
                transaction.ok_or(EngineError::Outside("a transactional message"))?.count();
                Ok(())
            }
            // The publication is for inserts; a table's other life and messages outside transactions are not events.
            Message::Message(_)
            | Message::Update(_)
            | Message::Delete(_)
            | Message::Truncate(_)
            | Message::Origin(_)
            | Message::Type(_)
            | Message::Unknown(_) => Ok(()),
        }
    }

    fn handle_keepalive(&mut self, keepalive: PrimaryKeepalive) {
        self.received = self.received.max(keepalive.wal_end);
        self.reply_owed |= keepalive.reply_requested;
        let quiet = self.transaction.is_none() && self.in_flight.is_none() && self.building.len() == 0;
        if quiet || planted::is(Bug::KeepalivePending) {
            self.building.commit(Position::at(keepalive.wal_end));
            self.position_wanted |= keepalive.reply_requested;
        }
    }

    fn begin(&mut self, begin: Begin) -> Result<(), EngineError> {
        if self.transaction.is_some() {
            return Err(EngineError::OutOfOrder("BEGIN inside a transaction"));
        }
        let unix_us = begin.commit_time.unix_micros();
        let committed_at = CommitTime { unix_us, text: self.arena.text(router::rfc3339(unix_us)) };
        self.transaction = Some(Transaction::begin(begin.final_lsn, committed_at, &self.start));
        Ok(())
    }

    fn insert(&mut self, now: Now, insert: Insert) -> Result<(), EngineError> {
        let transaction = self.transaction.as_mut().ok_or(EngineError::Outside("a row"))?;
        if planted::is(Bug::ForeignUncounted)
            && matches!(self.relations.get(&insert.relation_oid), Some(None))
        {
            return Ok(());
        }
        let Some(position) = transaction.count() else { return Ok(()) };
        let plan = self.relations.get(&insert.relation_oid);
        let Some(plan) = plan.ok_or(EngineError::OutOfOrder("a row of a table that was not described"))?
        else {
            return Ok(());
        };
        let row = plan.read(&insert.new, &mut self.arena);
        let committed_at = transaction.committed_at();
        let origin = Origin { position, committed_at, decoded_at_ms: now.unix_us.div_euclid(1_000) };
        let routed = self.router.route(row, &origin, &mut self.arena);
        self.parking.admit(routed, &self.router.dead_letters, |record| self.building.push(record))?;
        Ok(())
    }

    fn commit(&mut self, commit: Commit, sent_at: PgTimestamp) -> Result<(), EngineError> {
        let transaction =
            self.transaction.take().ok_or(EngineError::OutOfOrder("COMMIT outside a transaction"))?;
        if commit.commit_lsn != transaction.final_lsn() || commit.end_lsn <= commit.commit_lsn {
            return Err(EngineError::OutOfOrder("COMMIT of another transaction"));
        }
        self.pace.committed(transaction.committed_at().unix_us, sent_at);
        // What an earlier run published whole moves nothing: the position is already past it.
        if commit.end_lsn > self.start.resume_lsn || planted::is(Bug::PositionGoesBack) {
            let more = u64::from(planted::is(Bug::AckOneByteMore));
            self.building.commit(Position::at(Lsn::new(commit.end_lsn.as_u64() + more)));
        }
        Ok(())
    }

    fn relation(&mut self, relation: Relation) -> Result<(), EngineError> {
        let is_outbox = relation.namespace == self.table.schema && relation.name == self.table.name;
        let plan = if is_outbox { Some(self.columns.resolve(&relation)?) } else { None };
        self.relations.insert(relation.oid, plan);
        Ok(())
    }

    /// The batch to publish next: whole commits first, else a piece of a transaction that is too large to wait for,
    /// else a position without events when it is due.
    fn next_batch(&mut self, now: Now) -> Option<Batch> {
        if self.building.committed_len() > 0 {
            let is_due = self.waits_until().is_none_or(|until| now.monotonic >= until);
            return if is_due { self.building.take_committed() } else { None };
        }
        if let Some(transaction) = &self.transaction
            && self.building.bytes() >= self.settings.buffer_bytes_max
        {
            let complete = self.building.position().unwrap_or(self.delivered).resume_lsn;
            let resume_lsn = complete.max(self.delivered.resume_lsn);
            let partial = Some(transaction.partial()).filter(|_| !planted::is(Bug::PartialForgotten));
            let position = Position { resume_lsn, partial };
            return Some(self.building.take_all(position));
        }
        let wanted = std::mem::take(&mut self.position_wanted);
        let position = self.idle_position()?;
        let since = now.monotonic.saturating_duration_since(self.position_written_at);
        let is_due = wanted || since >= self.settings.idle_position_interval;
        is_due.then(|| Batch::new(Vec::new(), position))
    }

    /// How long complete commits wait for company, if they do.
    fn waits_until(&self) -> Option<Instant> {
        let may_wait = self.building.committed_len() > 0 && self.in_flight.is_none() && !self.draining;
        self.pace.waits_until(self.building.bytes()).filter(|_| may_wait)
    }

    /// A position that no event would carry to Kafka. Before the end of a half-published transaction there is none: the
    /// record would forget how far that has come.
    fn idle_position(&self) -> Option<Position> {
        let position = self.building.position().filter(|_| self.building.len() == 0)?;
        let is_news = position.resume_lsn > self.delivered.resume_lsn || planted::is(Bug::PositionGoesBack);
        let is_past_partial =
            self.delivered.partial.is_none_or(|partial| position.resume_lsn > partial.final_lsn)
                || planted::is(Bug::IdleForgetsPartial);
        (is_news && is_past_partial && self.transaction.is_none()).then_some(position)
    }

    fn due_status(&mut self, now: Now) -> Option<StandbyStatusUpdate> {
        if !self.reply_owed && now.monotonic < self.status_due_at() {
            return None;
        }
        let silence = now.monotonic.saturating_duration_since(self.heard_at);
        let status =
            StandbyStatusUpdate { reply: silence >= self.settings.silence_max / 2, ..self.status(now) };
        assert!(status.flush <= self.durable.resume_lsn, "only what is durable is acknowledged");
        self.reply_owed = false;
        self.status_sent_at = Some(now.monotonic);
        self.status_flush = status.flush;
        Some(status)
    }

    fn status_due_at(&self) -> Instant {
        let Some(sent_at) = self.status_sent_at else { return self.heard_at };
        let moved = self.durable.resume_lsn > self.status_flush;
        sent_at + if moved { self.settings.status_interval_min } else { self.settings.status_interval }
    }

    /// The position that is to be recorded now, if events are delivered whose position is not. Not beside a batch that carries
    /// one: it would take that back.
    fn position_to_record(&mut self, now: Now) -> Option<Position> {
        let is_carried = self.in_flight.as_ref().is_some_and(|in_flight| in_flight.batch.is_atomic);
        let is_due = self.record_due_at().is_some_and(|due_at| now.monotonic >= due_at);
        if is_carried && !planted::is(Bug::RecordedBeside) || !is_due {
            return None;
        }
        self.recording = Some(self.delivered);
        self.recording
    }

    /// When the position of what is delivered is to be recorded: no more often than the server may be told of it, for each
    /// recording is a transaction that Kafka has to end; at once if somebody waits for it.
    fn record_due_at(&self) -> Option<Instant> {
        if self.recording.is_some() || self.is_recorded() {
            return None;
        }
        let is_awaited = self.draining || self.release.is_some();
        let interval = if is_awaited { Duration::ZERO } else { self.settings.status_interval_min };
        Some(self.position_written_at + interval)
    }

    /// Whether the position of all that is delivered is recorded.
    fn is_recorded(&self) -> bool {
        self.durable == self.delivered
    }

    /// The batch as it is handed over: what is parked is as it was parked once, also where events may be delivered again.
    fn outgoing(&self, mut batch: Batch, purpose: Purpose) -> InFlight {
        let is_parking = batch.records.iter().any(|record| self.parking.is_parked(record));
        batch.is_atomic = is_parking && !planted::is(Bug::ParkedDelivered);
        InFlight { batch: Arc::new(batch), purpose, handed_over: false }
    }

    fn count(&mut self, batch: &Batch) {
        for record in batch.records.iter().filter(|record| !self.parking.is_parked(record)) {
            self.published_events += 1;
            self.dead_letters += u64::from(self.router.is_dead_letter(record));
        }
    }
}

/// The batch that Kafka is to take, or is taking.
#[derive(Debug)]
struct InFlight {
    batch: Arc<Batch>,
    purpose: Purpose,
    handed_over: bool,
}

/// Where a batch comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Stream,
    Release,
}

mod error;
mod parking;
#[cfg(test)]
mod tests;

pub use error::EngineError;
