//! The way to the source, as the relay's takeover goes it.
//!
//! ```text
//!   lease ─▶ own stream on the slot ─▶ init 0 ─▶ init 1 ─▶ position read ─▶ lease proven ─▶ position proven
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use cdc_relay::dead_letter::DeadLetterContext;
use cdc_relay::engine::{Engine, EngineSettings, Table};
use cdc_relay::parking::Parking;
use cdc_relay::position::{self, Identity, Mismatch, PositionRecord, StreamOptions};
use cdc_relay::router::{Route, Router};
use cdc_relay::row::ColumnNames;
use replication_protocol::Lsn;

use super::{Relay, STANDBY_US, Servers, State, Step, Working};
use crate::env::Env;
use crate::kafka::{self, PARKED};
use crate::postgres::{PATIENCE_US, Postgres};
use crate::sink::Sink;
use crate::sometimes::Sometimes;

/// After this a standby ends the sessions of a holder that does not answer.
const FROZEN_MAX_US: u64 = 5_000_000;

impl Relay {
    /// One step on the way to the source.
    pub(super) fn take(&mut self, servers: &mut Servers, env: &mut Env) -> Step {
        let postgres = &mut servers.postgres;
        match self.state {
            State::Down => self.state = State::Waiting,
            State::Waiting => self.take_lease(servers, env),
            State::Leased => {
                if !postgres.has_slot {
                    self.halt("the slot is gone", env);
                    env.seen.note(Sometimes::SlotGoneHalted);
                    return Ok(());
                }
                if postgres.lease != self.lease || postgres.shutdown_deadline.is_some() {
                    self.trouble("the lease is lost", STANDBY_US, env);
                    return Ok(());
                }
                self.stream = Some(postgres.start_replication(env.now));
                self.socket.clear();
                self.deaf = false;
                self.state = State::Streaming;
            }
            State::Streaming if servers.kafka.is_up(env.now) => {
                servers.kafka.end_forgotten(env, &mut servers.truth)?;
                self.state = State::First(servers.kafka.init(0, env, &mut servers.truth)?);
            }
            State::First(epoch) if servers.kafka.is_up(env.now) => {
                self.state = State::Both([epoch, servers.kafka.init(1, env, &mut servers.truth)?]);
            }
            State::Both(epochs) if servers.kafka.is_up(env.now) => self.begin(epochs, servers, env),
            State::Streaming | State::First(_) | State::Both(_) => {}
            State::Working(_) | State::Closing(_) => {}
        }
        Ok(())
    }

    fn take_lease(&mut self, servers: &mut Servers, env: &mut Env) {
        let postgres = &mut servers.postgres;
        if postgres.lease.is_some() {
            let is_frozen = servers
                .holder_frozen_since
                .is_some_and(|since| env.now.saturating_sub(since) > FROZEN_MAX_US);
            if is_frozen {
                env.seen.note(Sometimes::FrozenTakenOver);
                env.tell(|| format!("relay {} ends the sessions of the frozen one", self.name));
                postgres.lease = None;
                postgres.stream = None;
            }
            self.wake_at = env.now + STANDBY_US;
            return;
        }
        let lease = postgres.new_session();
        postgres.lease = Some(lease);
        self.lease = Some(lease);
        servers.holder_frozen_since = None;
        self.halted = None;
        self.state = State::Leased;
        env.tell(|| format!("relay {} has the lease", self.name));
    }

    /// Position read, lease proven again, position proven: the stream begins.
    fn begin(&mut self, epochs: [u32; 2], servers: &mut Servers, env: &mut Env) {
        let Some(record) = servers.kafka.last_position(env.now, env.bug).cloned() else {
            env.seen.note(Sometimes::EndNotYetSeen);
            self.trouble("the end of the position topic cannot be read", 100_000, env);
            return;
        };
        let postgres = &servers.postgres;
        if postgres.lease != self.lease {
            self.trouble("the lease is lost", STANDBY_US, env);
            return;
        }
        let identity = Identity { system_id: postgres.system_id.to_string(), timeline: postgres.timeline };
        let confirmed = Lsn::new(postgres.confirmed);
        let proven =
            position::prove(Some(&record), &identity, "tailrace_users", confirmed, StreamOptions::default());
        let start = match proven {
            Ok(start) => start,
            Err(mismatch) => {
                let what = match mismatch {
                    Mismatch::SlotAhead { .. } => Sometimes::SlotAheadHalted,
                    Mismatch::System { .. } => Sometimes::SystemHalted,
                    Mismatch::NoRecord { .. }
                    | Mismatch::Unborn { .. }
                    | Mismatch::Timeline { .. }
                    | Mismatch::Slot { .. }
                    | Mismatch::Options => Sometimes::TimelineHalted,
                };
                env.seen.note(what);
                self.halt(&mismatch.to_string(), env);
                return;
            }
        };
        let log = &postgres.log;
        let first = log.partition_point(|entry| entry.lsn < postgres.confirmed);
        if log.get(first).is_some_and(|entry| entry.lsn < start.resume_lsn.as_u64()) {
            env.seen.note(Sometimes::CoveredDropped);
        }
        if log.iter().any(|entry| entry.lsn == start.resume_lsn.as_u64() && entry.changes.is_some()) {
            env.seen.note(Sometimes::Adjacent);
        }
        if start.partial.is_some() {
            env.seen.note(Sometimes::ResumedInside);
        }
        env.tell(|| format!("relay {} begins at {start:?}, confirmed {confirmed}", self.name));
        let parking = Parking::new(PARKED, 4_000, 1_000).with(servers.kafka.scan());
        if !parking.is_empty() {
            env.seen.note(Sometimes::StartedParked);
        }
        let ledger = PositionRecord { epoch: record.epoch + 1, ..record };
        let table = Table { schema: "public".into(), name: "outbox".into() };
        let engine =
            Engine::new(settings(), router(), table, ColumnNames::default(), start, parking, env.clocks());
        let is_at_least_once = servers.may_repeat && env.random.chance(700);
        if !is_at_least_once && servers.truth.has_delivered() {
            env.seen.note(Sometimes::SwitchedToOnce);
        }
        self.sink = Some(Sink::new(epochs, is_at_least_once));
        self.state = State::Working(Box::new(Working {
            engine,
            ledger,
            statuses: VecDeque::new(),
            wanted: None,
            releasing: None,
        }));
    }
}

fn settings() -> EngineSettings {
    EngineSettings {
        buffer_bytes_max: 16 * 1024,
        status_interval: Duration::from_micros(PATIENCE_US / 3),
        status_interval_min: Duration::from_millis(100),
        idle_position_interval: Duration::from_secs(1),
        silence_max: Duration::from_micros(PATIENCE_US * 2),
        catch_up_lag: Duration::from_millis(250),
        catch_up_interval: Duration::from_millis(50),
    }
}

fn router() -> Router {
    Router {
        routes: vec![Route::new("users.*", "users.created"), Route::new("orders.*", "{event_name}")],
        record_bytes_max: 4_000,
        dead_letters: DeadLetterContext::new("users", "public.outbox", kafka::DEAD_LETTERS),
    }
}

/// The record that `init` leaves behind.
pub(crate) fn birth(postgres: &Postgres) -> PositionRecord {
    PositionRecord {
        source: "users".into(),
        system_id: postgres.system_id.to_string(),
        timeline: postgres.timeline,
        slot: "tailrace_users".into(),
        position: Some(position::Position::at(Lsn::new(Postgres::START))),
        epoch: 0,
        options: StreamOptions::default(),
    }
}
