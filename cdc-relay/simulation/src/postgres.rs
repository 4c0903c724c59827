//! A model of Postgres: interleaved transactions, a log, one slot with its walsender, one lease.
//!
//! ```text
//!   open transactions ─▶ log of commits ─▶ walsender ─▶ wire ─▶ relay
//!                                 ▲ confirmed ◀── status ◀──────┘
//! ```
//!
//! A commit is sent iff its record does not begin before the confirmed position; the server believes a status unchecked.

use std::collections::VecDeque;

use bytes::Bytes;
use replication_protocol::StandbyStatusUpdate;

use crate::env::Env;
use crate::frames::{self, FOREIGN_OID, OUTBOX_OID};
use crate::random::Random;
use crate::sometimes::{Seen, Sometimes};

/// How many frames may be on the way; more waits for the reader.
const WIRE_FRAMES_MAX: usize = 24;
/// How long the server waits for a status, in microseconds.
pub(crate) const PATIENCE_US: u64 = 6_000_000;

/// A row of the outbox. Its payload follows from its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) id: u64,
    /// The aggregate; `None` is a malformed row without one.
    pub(crate) key: Option<u64>,
    pub(crate) event_type: &'static str,
    pub(crate) payload_bytes: usize,
}

impl Row {
    pub(crate) fn payload(&self) -> String {
        format!("{{\"n\":{},\"x\":\"{}\"}}", self.id, "x".repeat(self.payload_bytes))
    }
}

/// What one frame of a transaction says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Outbox(Row),
    Foreign,
    Message,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) lsn: u64,
    pub(crate) end: u64,
    /// `None` is a message outside transactions.
    pub(crate) changes: Option<Vec<Change>>,
}

/// The walsender and the wire to its relay.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) session: u64,
    /// The entry that is being sent, and how far.
    entry: usize,
    change: usize,
    sent_end: u64,
    described: [bool; 2],
    pub(crate) wire: VecDeque<Bytes>,
    statuses: VecDeque<StandbyStatusUpdate>,
    /// Nothing passes any more, and neither side knows.
    pub(crate) half_open: bool,
    /// The link is slow until then.
    pub(crate) slow_until: u64,
    heard_at: u64,
    asked: bool,
}

#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) log: Vec<Entry>,
    open: Vec<Vec<Change>>,
    pub(crate) wal_end: u64,
    pub(crate) confirmed: u64,
    /// The confirmed position as of the last checkpoint.
    saved: u64,
    pub(crate) up_at: u64,
    pub(crate) shutdown_deadline: Option<u64>,
    pub(crate) lease: Option<u64>,
    pub(crate) stream: Option<Stream>,
    sessions: u64,
    pub(crate) system_id: u64,
    pub(crate) timeline: u32,
    pub(crate) has_slot: bool,
    rows: u64,
    sends_empty: bool,
    pub(crate) commits: u64,
    pub(crate) refusable_per_mille: u64,
    pub(crate) unroutable_per_mille: u64,
}

impl Postgres {
    pub(crate) const START: u64 = 0x100_0000;

    pub(crate) fn new(random: &mut Random) -> Self {
        Self {
            log: Vec::new(),
            open: Vec::new(),
            wal_end: Self::START,
            confirmed: Self::START,
            saved: Self::START,
            up_at: 0,
            shutdown_deadline: None,
            lease: None,
            stream: None,
            sessions: 0,
            system_id: 7,
            timeline: 1,
            has_slot: true,
            rows: 0,
            sends_empty: random.chance(300),
            commits: 0,
            refusable_per_mille: 0,
            unroutable_per_mille: 0,
        }
    }

    pub(crate) const fn is_up(&self, now: u64) -> bool {
        now >= self.up_at
    }

    pub(crate) const fn new_session(&mut self) -> u64 {
        self.sessions += 1;
        self.sessions
    }

    /// One step of the clients: a change, a commit, a rollback, a message or other log.
    pub(crate) fn write(&mut self, random: &mut Random) {
        if self.shutdown_deadline.is_some() {
            return;
        }
        if self.open.is_empty() || (self.open.len() < 4 && random.chance(250)) {
            self.open.push(Vec::new());
        }
        let chosen = random.index(self.open.len());
        match random.below(100) {
            0..=44 => {
                let times = if random.chance(12) { 30 + random.below(60) } else { 1 + random.below(3) };
                for _ in 0..times {
                    self.wal_end += 8 * (1 + random.below(12));
                    let change = self.change(random);
                    if let Some(open) = self.open.get_mut(chosen) {
                        open.push(change);
                    }
                }
            }
            45..=49 => {
                self.open.swap_remove(chosen);
                self.wal_end += 8;
            }
            50..=54 => self.wal_end += 8 * (1 + random.below(500)),
            55..=57 => {
                let lsn = self.wal_end;
                self.wal_end += 48;
                self.log.push(Entry { lsn, end: self.wal_end, changes: None });
            }
            _ => {
                let changes = self.open.swap_remove(chosen);
                let lsn = self.wal_end;
                self.wal_end += 40 + 8 * random.below(4);
                self.commits += 1;
                self.log.push(Entry { lsn, end: self.wal_end, changes: Some(changes) });
            }
        }
    }

    fn change(&mut self, random: &mut Random) -> Change {
        match random.below(10) {
            0 => return Change::Foreign,
            1 => return Change::Message,
            _ => {}
        }
        self.rows += 1;
        let refusable = random.chance(self.refusable_per_mille);
        let unroutable = random.chance(self.unroutable_per_mille);
        let payload_bytes = match random.below(10) {
            _ if refusable && random.chance(300) => 6_000,
            _ if refusable => 3_000 + random.index(600),
            0 => 400,
            _ => random.index(60),
        };
        let event_type = match random.below(2) {
            _ if unroutable => "strange.thing.v1",
            0 => "users.created.v1",
            _ => "orders.created.v1",
        };
        let key = (!unroutable || !random.chance(100)).then(|| random.below(12));
        Change::Outbox(Row { id: self.rows, key, event_type, payload_bytes })
    }

    pub(crate) const fn rows(&self) -> u64 {
        self.rows
    }

    /// The end of the last commit.
    pub(crate) fn last_end(&self) -> u64 {
        self.log.last().map_or(Self::START, |entry| entry.end)
    }

    pub(crate) fn forget_open(&mut self) {
        self.open.clear();
    }

    /// Everything unsaved is lost: sessions, open transactions, and how far the slot was confirmed.
    pub(crate) fn crash(&mut self, now: u64, away: u64, random: &mut Random, seen: &mut Seen) {
        if self.stream.is_some() {
            seen.note(Sometimes::ServerCrashed);
        }
        self.open.clear();
        self.lease = None;
        self.stream = None;
        self.shutdown_deadline = None;
        if self.saved < self.confirmed && random.chance(900) {
            seen.note(Sometimes::SlotWentBack);
            self.confirmed = self.saved;
        }
        self.up_at = now + away;
    }

    pub(crate) const fn checkpoint(&mut self) {
        self.saved = self.confirmed;
    }

    /// START_REPLICATION at 0/0: from the confirmed position.
    pub(crate) fn start_replication(&mut self, now: u64) -> u64 {
        let session = self.new_session();
        let entry = self.log.partition_point(|entry| entry.lsn < self.confirmed);
        self.stream = Some(Stream {
            session,
            entry,
            change: 0,
            sent_end: self.confirmed,
            described: [false; 2],
            wire: VecDeque::new(),
            statuses: VecDeque::new(),
            half_open: false,
            slow_until: 0,
            heard_at: now,
            asked: false,
        });
        session
    }

    /// One step of the walsender.
    pub(crate) fn serve(&mut self, env: &mut Env) -> Result<(), String> {
        if !self.is_up(env.now) {
            return Ok(());
        }
        self.take_statuses(env)?;
        self.pass_time(env);
        if let Some(stream) = &mut self.stream
            && stream.wire.len() < WIRE_FRAMES_MAX
        {
            let frames = 1 + env.random.below(6);
            for _ in 0..frames {
                send_next(stream, &self.log, self.wal_end, self.sends_empty, env);
            }
        }
        Ok(())
    }

    fn take_statuses(&mut self, env: &mut Env) -> Result<(), String> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if stream.half_open {
            stream.statuses.clear();
            return Ok(());
        }
        while let Some(status) = stream.statuses.pop_front() {
            stream.heard_at = env.now;
            stream.asked = false;
            let flush = status.flush.as_u64();
            if flush > 0 {
                if flush > self.wal_end {
                    return Err(format!(
                        "{flush:X} was acknowledged, but the log ends at {:X}",
                        self.wal_end
                    ));
                }
                let is_idle =
                    flush > self.confirmed && !self.log.iter().rev().any(|entry| entry.end == flush);
                if is_idle {
                    env.seen.note(Sometimes::IdleAcknowledged);
                }
                self.confirmed = flush;
            }
            if status.reply {
                stream.wire.push_back(frames::keepalive(stream.sent_end, false));
            }
        }
        Ok(())
    }

    /// Patience and shutdown.
    fn pass_time(&mut self, env: &mut Env) {
        if let Some(stream) = &mut self.stream {
            let silence = env.now.saturating_sub(stream.heard_at);
            if silence > PATIENCE_US / 2 && !stream.asked {
                stream.asked = true;
                stream.wire.push_back(frames::keepalive(stream.sent_end, true));
            }
            if silence > PATIENCE_US {
                env.seen.note(Sometimes::WalsenderTimedOut);
                self.stream = None;
            }
        }
        let Some(deadline) = self.shutdown_deadline else { return };
        let caught_up = self.stream.as_ref().is_none_or(|stream| {
            stream.entry == self.log.len()
                && stream.sent_end == self.wal_end
                && self.confirmed >= self.wal_end
        });
        if caught_up || env.now > deadline {
            if caught_up && self.stream.is_some() {
                env.seen.note(Sometimes::ServerShutDown);
            }
            env.tell(|| format!("postgres stops (all acknowledged: {caught_up})"));
            let away = env.random.below(500_000);
            self.crash(env.now, away, &mut env.random, &mut env.seen);
        } else if let Some(stream) = &mut self.stream
            && stream.wire.is_empty()
        {
            stream.wire.push_back(frames::keepalive(stream.sent_end, true));
        }
    }

    /// Takes a status off the relay's hands; false if its stream is gone.
    pub(crate) fn receive(&mut self, session: u64, status: StandbyStatusUpdate) -> bool {
        match &mut self.stream {
            Some(stream) if stream.session == session => {
                stream.statuses.push_back(status);
                true
            }
            _ => false,
        }
    }
}

/// Puts the next frame on the wire.
fn send_next(stream: &mut Stream, log: &[Entry], wal_end: u64, sends_empty: bool, env: &mut Env) {
    let Some(entry) = log.get(stream.entry) else {
        stream.sent_end = wal_end;
        if env.random.chance(60) {
            let reply = env.random.chance(200);
            stream.wire.push_back(frames::keepalive(wal_end, reply));
        }
        return;
    };
    let Some(changes) = &entry.changes else {
        stream.wire.push_back(frames::x_log_data(entry.lsn, &frames::message(false, entry.lsn)));
        stream.entry += 1;
        stream.sent_end = entry.end;
        return;
    };
    if changes.is_empty() && !sends_empty {
        stream.entry += 1;
        stream.sent_end = entry.end;
        return;
    }
    if stream.change == 0 && env.random.chance(20) {
        // Everything before this commit was looked at.
        stream.sent_end = entry.lsn;
        stream.wire.push_back(frames::keepalive(entry.lsn, env.random.chance(500)));
    }
    if stream.change > 0 && env.random.chance(15) {
        env.seen.note(Sometimes::KeepaliveInside);
        stream.wire.push_back(frames::keepalive(entry.lsn, env.random.chance(500)));
    }
    match stream.change {
        0 => stream.wire.push_back(frames::x_log_data(entry.lsn, &frames::begin(entry.lsn))),
        number => match changes.get(number - 1) {
            Some(change) => send_change(stream, *change, entry.lsn),
            None => {
                // A backlog is sent late.
                let clock_us = if env.random.chance(400) { 1_000_000 } else { 0 };
                let commit = frames::commit(entry.lsn, entry.end);
                stream.wire.push_back(frames::x_log_data_at(entry.end, clock_us, &commit));
                stream.entry += 1;
                stream.change = 0;
                stream.sent_end = entry.end;
                return;
            }
        },
    }
    stream.change += 1;
}

fn send_change(stream: &mut Stream, change: Change, lsn: u64) {
    let (table, name) = match change {
        Change::Outbox(_) => (0, "outbox"),
        Change::Foreign => (1, "users"),
        Change::Message => {
            stream.wire.push_back(frames::x_log_data(lsn, &frames::message(true, lsn)));
            return;
        }
    };
    let oid = if table == 0 { OUTBOX_OID } else { FOREIGN_OID };
    if let Some(described @ false) = stream.described.get_mut(table) {
        *described = true;
        stream.wire.push_back(frames::x_log_data(0, &frames::relation(oid, name)));
    }
    let frame = match change {
        Change::Outbox(row) => {
            let key = row.key.map_or_else(String::new, |key| format!("k{key}"));
            let id = format!("e{}", row.id);
            frames::insert(oid, [&id, "agg", &key, row.event_type, &row.payload()])
        }
        Change::Foreign | Change::Message => {
            frames::insert(oid, ["f", "agg", "k1", "users.created.v1", "{}"])
        }
    };
    stream.wire.push_back(frames::x_log_data(lsn, &frame));
}
