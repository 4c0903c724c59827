//! A model of the relay's loop and of its way to a source, around the real engine and the real proof of the position.
//!
//! ```text
//!   down ─▶ waiting ─▶ lease ─▶ stream ─▶ init 0 ─▶ init 1 ─▶ read ─▶ proven ─▶ working ─▶ closing ─▶ waiting
//! ```
//!
//! Every arrow is a step of its own, so anything may happen between two.

use std::collections::VecDeque;

use bytes::Bytes;
use cdc_relay::EventPosition;
use cdc_relay::engine::{Command, Engine};
use cdc_relay::parking::ParkingKey;
use cdc_relay::position::{Position, PositionRecord};
use cdc_relay::release::{Action, Released};
use replication_protocol::StandbyStatusUpdate;

use crate::env::Env;
use crate::kafka::{Kafka, PARKED};
use crate::postgres::Postgres;
use crate::sink::Sink;
use crate::sometimes::Sometimes;
use crate::truth::Truth;

mod takeover;

pub(crate) use takeover::birth;

/// How often a standby asks for the lease.
const STANDBY_US: u64 = 500_000;
/// How often a halted source is looked at again.
const HALTED_US: u64 = 15_000_000;

/// The servers that a relay talks to, and the checker that watches.
pub(crate) struct Servers {
    pub(crate) postgres: Postgres,
    pub(crate) kafka: Kafka,
    pub(crate) truth: Truth,
    /// Since when the process that holds the lease is frozen.
    pub(crate) holder_frozen_since: Option<u64>,
    /// Whether a relay may be set to deliver at least once.
    pub(crate) may_repeat: bool,
}

pub(crate) struct Relay {
    pub(crate) name: usize,
    state: State,
    pub(crate) frozen_since: Option<u64>,
    wake_at: u64,
    pub(crate) lease: Option<u64>,
    stream: Option<u64>,
    /// The link is half open: the end of the stream does not arrive here.
    deaf: bool,
    /// What the socket holds.
    socket: VecDeque<Bytes>,
    sink: Option<Sink>,
    pub(crate) halted: Option<String>,
    pub(crate) refusal_to_release: Option<EventPosition>,
}

enum State {
    Down,
    Waiting,
    Leased,
    Streaming,
    /// The first producer is initialised, with this epoch.
    First(u32),
    Both([u32; 2]),
    Working(Box<Working>),
    Closing(u64),
}

struct Working {
    engine: Engine,
    ledger: PositionRecord,
    statuses: VecDeque<StandbyStatusUpdate>,
    wanted: Option<(ParkingKey, u64)>,
    releasing: Option<(EventPosition, Action)>,
}

type Step = Result<(), String>;

impl Working {
    /// The record of a position. What is written is what a later relay reads.
    fn record(&self, position: Position) -> Result<PositionRecord, String> {
        let record = PositionRecord { position: Some(position), ..self.ledger.clone() };
        let text = serde_json::to_string(&record).map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }
}

impl Relay {
    pub(crate) const fn new(name: usize) -> Self {
        Self {
            name,
            state: State::Waiting,
            frozen_since: None,
            wake_at: 0,
            lease: None,
            stream: None,
            deaf: false,
            socket: VecDeque::new(),
            sink: None,
            halted: None,
            refusal_to_release: None,
        }
    }

    pub(crate) const fn is_working(&self) -> bool {
        matches!(self.state, State::Working(_))
    }

    pub(crate) const fn is_down(&self) -> bool {
        matches!(self.state, State::Down)
    }

    fn engine(&self) -> Option<&Engine> {
        if let State::Working(working) = &self.state { Some(&working.engine) } else { None }
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_idle_at(&self, end: u64) -> bool {
        self.engine().is_some_and(|engine| {
            let progress = engine.progress();
            let left = progress.waiting_events + progress.in_flight_events + progress.parked_keys;
            left == 0 && progress.durable.as_u64() >= end
        })
    }

    /// `kill -9`: the servers learn it when the kernel closes the sockets.
    pub(crate) fn kill(&mut self, servers: &mut Servers, env: &mut Env) {
        env.tell(|| format!("relay {} is killed", self.name));
        if self.is_working() && servers.kafka.is_inside() {
            env.seen.note(Sometimes::SplitAndKilled);
        }
        if let State::Working(working) = &self.state
            && working.releasing.is_some()
        {
            env.seen.note(Sometimes::KilledReleasing);
        }
        self.leave(servers);
        self.sink = None;
        self.state = State::Down;
        self.frozen_since = None;
        self.wake_at = env.now + env.random.below(3_000_000);
    }

    /// Gives back what the servers hold for it.
    fn leave(&mut self, servers: &mut Servers) {
        self.socket.clear();
        if let Some(session) = self.stream.take()
            && servers.postgres.stream.as_ref().is_some_and(|stream| stream.session == session)
        {
            servers.postgres.stream = None;
        }
        if let Some(lease) = self.lease.take()
            && servers.postgres.lease == Some(lease)
        {
            servers.postgres.lease = None;
        }
    }

    pub(crate) fn drain(&mut self) {
        if let State::Working(working) = &mut self.state {
            working.engine.drain();
        }
    }

    /// An operator asks for the release of a parked key.
    pub(crate) fn operate(&mut self, servers: &mut Servers, env: &mut Env, must_end: bool) {
        let refused = self.refusal_to_release;
        let State::Working(working) = &mut self.state else { return };
        if working.releasing.is_some() {
            return;
        }
        let keys = working.engine.parking().list();
        if keys.is_empty() {
            return;
        }
        let Some(key) = keys.get(env.random.index(keys.len())) else { return };
        let position = key.head.position;
        let discard = refused == Some(position) || (!must_end && env.random.chance(200));
        let action = if discard { Action::Discard } else { Action::Redrive };
        env.tell(|| format!("an operator asks: {action:?} {position}"));
        if discard {
            servers.truth.discards.insert((position.final_lsn.as_u64(), position.ordinal));
        }
        working.releasing = Some((position, action));
        working.engine.release(position, action);
    }

    /// One step of the sink's thread.
    pub(crate) fn sink_step(&mut self, servers: &mut Servers, env: &mut Env) -> Step {
        match &mut self.sink {
            Some(sink) if self.frozen_since.is_none() => {
                sink.step(&mut servers.kafka, env, &mut servers.truth)
            }
            _ => Ok(()),
        }
    }

    /// One step of the loop.
    pub(crate) fn step(&mut self, servers: &mut Servers, env: &mut Env) -> Step {
        if self.frozen_since.is_some() || env.now < self.wake_at {
            return Ok(());
        }
        if self.is_working() {
            return self.work(servers, env);
        }
        if let State::Closing(wait) = self.state {
            if self.sink.as_mut().is_none_or(Sink::is_closed) {
                self.sink = None;
                self.leave(servers);
                self.state = State::Waiting;
                self.wake_at = env.now + wait;
            }
            return Ok(());
        }
        if !servers.postgres.is_up(env.now) {
            self.trouble("postgres is away", 100_000, env);
            return Ok(());
        }
        self.take(servers, env)
    }

    fn halt(&mut self, words: &str, env: &mut Env) {
        self.halted = Some(words.to_owned());
        self.trouble(words, HALTED_US, env);
    }

    /// Gives the source up and takes it again later.
    fn trouble(&mut self, words: &str, wait: u64, env: &mut Env) {
        env.tell(|| format!("relay {}: {words}", self.name));
        self.state = State::Closing(wait);
    }

    fn work(&mut self, servers: &mut Servers, env: &mut Env) -> Step {
        self.carry_out(servers, env)?;
        let State::Working(working) = &mut self.state else { return Ok(()) };
        if working.engine.is_drained() {
            return self.say_goodbye(servers, env);
        }
        let now = env.clocks();
        match env.random.below(8) {
            0 => {
                if servers.postgres.lease != self.lease {
                    env.seen.note(Sometimes::LeaseLost);
                    self.trouble("the lease is lost", 50_000 + env.random.below(100_000), env);
                }
            }
            1 | 2 => {
                let outcome = self.sink.as_mut().and_then(|sink| sink.outcome(env.now));
                match outcome {
                    None => {}
                    Some(Ok(outcome)) => {
                        let result = working.engine.handle_outcome(now, outcome);
                        result.map_err(|error| format!("the engine gave up: {error}"))?;
                    }
                    Some(Err(trouble)) => {
                        self.trouble(&format!("{trouble:?}"), env.random.below(300_000), env);
                    }
                }
            }
            3 => {
                while let Some(status) = working.statuses.pop_front() {
                    let is_there =
                        self.stream.is_some_and(|session| servers.postgres.receive(session, status));
                    if !is_there && !self.deaf {
                        self.trouble("the stream is gone", 100_000, env);
                        break;
                    }
                }
            }
            4 => self.answer_desk(servers, env),
            5 => {
                if working.engine.next_timeout() <= now.monotonic
                    && let Err(error) = working.engine.handle_timeout(now)
                {
                    env.seen.note(Sometimes::HalfOpenNoticed);
                    self.trouble(&error.to_string(), 100_000, env);
                }
            }
            _ => self.read(servers, env)?,
        }
        if self.is_working() { self.carry_out(servers, env) } else { Ok(()) }
    }

    fn answer_desk(&mut self, servers: &Servers, env: &Env) {
        let State::Working(working) = &mut self.state else { return };
        let Some((key, _)) = working.wanted.take_if(|(_, at)| *at <= env.now) else { return };
        let mut piece = servers.kafka.piece(&key);
        for waiting in &mut piece {
            let payload = waiting.event_id().and_then(|id| servers.truth.payload(id));
            if let Some(payload) = payload {
                waiting.complete(payload);
            }
        }
        working.engine.handle_parked(piece);
    }

    fn read(&mut self, servers: &mut Servers, env: &mut Env) -> Step {
        let State::Working(working) = &mut self.state else { return Ok(()) };
        for _ in 0..=env.random.below(10) {
            if !working.engine.wants_data() {
                env.seen.note(Sometimes::FullBuffer);
                return Ok(());
            }
            let Some(body) = self.socket.pop_front() else { break };
            let result = working.engine.handle_copy_data(env.clocks(), body);
            result.map_err(|error| format!("the engine gave up: {error}"))?;
        }
        let session = servers.postgres.stream.as_ref().map(|stream| stream.session);
        if self.socket.is_empty() && session != self.stream && !self.deaf {
            self.trouble("the stream has ended", 100_000, env);
        }
        Ok(())
    }

    /// The network: moves frames from the server's side to the socket.
    pub(crate) fn deliver(&mut self, postgres: &mut Postgres, env: &mut Env) {
        let Some(stream) = &mut postgres.stream else { return };
        if Some(stream.session) != self.stream || self.socket.len() > 40 || env.now < stream.slow_until {
            return;
        }
        self.deaf = stream.half_open;
        for _ in 0..=env.random.below(12) {
            let Some(frame) = stream.wire.pop_front() else { return };
            if !stream.half_open {
                self.socket.push_back(frame);
            }
        }
    }

    fn carry_out(&mut self, servers: &mut Servers, env: &mut Env) -> Step {
        let State::Working(working) = &mut self.state else { return Ok(()) };
        let now = env.clocks();
        while let Some(command) = working.engine.poll_command(now) {
            match command {
                Command::Publish(batch) => {
                    env.tell(|| {
                        format!(
                            "relay {} publishes {} to {:?}",
                            self.name,
                            batch.records.len(),
                            batch.position
                        )
                    });
                    if batch.records.iter().any(|record| &*record.topic == PARKED) {
                        env.seen.note(Sometimes::Parked);
                    }
                    let position = working.record(batch.position)?;
                    if let Some(sink) = &mut self.sink {
                        sink.publish(batch, position);
                    }
                }
                Command::Record(position) => {
                    let record = working.record(position)?;
                    if !self.sink.as_mut().is_some_and(|sink| sink.record(record)) {
                        return Err("a position beside its batch, although once is exactly once".into());
                    }
                }
                Command::SendStatus(status) => {
                    servers.truth.acknowledge(status.flush.as_u64(), &servers.postgres.log)?;
                    working.statuses.push_back(status);
                }
                Command::ReadParked(key) => {
                    working.wanted = Some((key, env.now + env.random.below(50_000)));
                }
                Command::AnswerRelease(released) => {
                    let asked = working.releasing.take();
                    env.tell(|| format!("relay {} answers {released:?}", self.name));
                    match (released, asked) {
                        (Released::Done { .. }, Some((_, Action::Discard))) => {
                            env.seen.note(Sometimes::Discarded);
                        }
                        (Released::Done { .. }, _) => env.seen.note(Sometimes::Redriven),
                        (Released::StillRefused(_), Some((position, _))) => {
                            self.refusal_to_release = Some(position);
                        }
                        (Released::StillRefused(_) | Released::NotFound, _) => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// The last acknowledgement of a graceful stop.
    fn say_goodbye(&mut self, servers: &mut Servers, env: &mut Env) -> Step {
        let State::Working(working) = &mut self.state else { return Ok(()) };
        if !self.sink.as_mut().is_none_or(Sink::is_closed) {
            return Ok(());
        }
        let status = working.engine.status(env.clocks());
        servers.truth.acknowledge(status.flush.as_u64(), &servers.postgres.log)?;
        if let Some(session) = self.stream {
            servers.postgres.receive(session, status);
        }
        servers.postgres.serve(env)?;
        env.seen.note(Sometimes::Drained);
        env.tell(|| format!("relay {} has stopped", self.name));
        self.leave(servers);
        self.sink = None;
        self.state = State::Down;
        self.wake_at = env.now + env.random.below(2_000_000);
        Ok(())
    }
}
