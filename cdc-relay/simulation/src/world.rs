//! One schedule: who does what next, which faults strike, and how it must end.
//!
//! ```text
//!   writing under faults ─▶ healed: everything must get through ─▶ check ─▶ a slot that does not fit: must halt
//! ```

use crate::env::Env;
use crate::kafka::Kafka;
use crate::postgres::Postgres;
use crate::relay::{Relay, Servers, birth};
use crate::sometimes::Sometimes;
use crate::truth::Truth;

/// How many transactions each schedule commits at least.
pub(crate) const TRANSACTIONS_MIN: u64 = 300;
/// More steps than a healed schedule needs.
const HEALED_STEPS_MAX: u64 = 400_000;

/// The kinds of fault; a schedule has some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    KillRelay,
    FreezeRelay,
    StopRelay,
    CutLink,
    HalfOpenLink,
    SlowLink,
    CrashPostgres,
    RestartPostgres,
    EndWalsender,
    EndLease,
    BrokerDown,
    UnknownOutcome,
    ForgottenTransaction,
    JumpClock,
    RefusedRecords,
    UnroutableRows,
    Operator,
}

impl Fault {
    pub(crate) const ALL: [Self; 17] = [
        Self::KillRelay,
        Self::FreezeRelay,
        Self::StopRelay,
        Self::CutLink,
        Self::HalfOpenLink,
        Self::SlowLink,
        Self::CrashPostgres,
        Self::RestartPostgres,
        Self::EndWalsender,
        Self::EndLease,
        Self::BrokerDown,
        Self::UnknownOutcome,
        Self::ForgottenTransaction,
        Self::JumpClock,
        Self::RefusedRecords,
        Self::UnroutableRows,
        Self::Operator,
    ];
}

pub(crate) struct World {
    pub(crate) env: Env,
    servers: Servers,
    relays: Vec<Relay>,
    faults: Vec<Fault>,
    fault_per_10_000: u64,
}

impl World {
    pub(crate) fn new(mut env: Env) -> Self {
        let mut postgres = Postgres::new(&mut env.random);
        let birth = birth(&postgres);
        let truth = Truth::new(birth.position);
        let mut kafka = Kafka::new(birth);
        let share = 150 + env.random.below(500);
        let mut faults: Vec<_> = Fault::ALL.into_iter().filter(|_| env.random.chance(share)).collect();
        let may_repeat = env.random.chance(300);
        if may_repeat {
            // What the broker refuses at least once may be passed by what was sent with it: that is promised nowhere.
            faults.retain(|fault| *fault != Fault::RefusedRecords);
            kafka.record_bytes_max = usize::MAX;
        }
        let has = |fault| faults.contains(&fault);
        postgres.refusable_per_mille = if has(Fault::RefusedRecords) { 8 } else { 0 };
        postgres.unroutable_per_mille = if has(Fault::UnroutableRows) { 5 } else { 0 };
        kafka.unknown_per_mille = if has(Fault::UnknownOutcome) { 40 } else { 0 };
        kafka.forgets_per_mille = if has(Fault::ForgottenTransaction) { 20 } else { 0 };
        let count = if env.random.chance(600) { 2 } else { 1 };
        let fault_per_10_000 = 10 + env.random.below(90);
        env.tell(|| format!("{count} relays, may repeat: {may_repeat}, faults: {faults:?}"));
        let servers = Servers { postgres, kafka, truth, holder_frozen_since: None, may_repeat };
        Self { env, servers, relays: (0..count).map(Relay::new).collect(), faults, fault_per_10_000 }
    }

    pub(crate) fn run(&mut self) -> Result<(), String> {
        while self.servers.postgres.commits < TRANSACTIONS_MIN {
            self.step(true)?;
            if self.env.random.below(10_000) < self.fault_per_10_000 && !self.faults.is_empty() {
                self.strike();
            }
        }
        self.heal();
        let mut steps = 0;
        while !self.is_through() {
            self.step(false)?;
            steps += 1;
            if steps > HEALED_STEPS_MAX {
                return Err("everything is healed, but not everything gets through".into());
            }
        }
        self.servers.truth.finish(&self.servers.postgres.log, &self.servers.kafka)?;
        self.unfit()
    }

    /// Transactions and rows so far.
    pub(crate) const fn written(&self) -> (u64, u64) {
        (self.servers.postgres.commits, self.servers.postgres.rows())
    }

    fn is_through(&self) -> bool {
        let end = self.servers.postgres.last_end();
        self.servers.postgres.confirmed >= end && self.relays.iter().any(|relay| relay.is_idle_at(end))
    }

    fn step(&mut self, writes: bool) -> Result<(), String> {
        let Self { env, servers, relays, .. } = self;
        env.now += match env.random.below(20) {
            0 => env.random.below(100_000),
            1..=3 => env.random.below(10_000),
            _ => env.random.below(500),
        };
        let chosen = env.random.index(relays.len());
        let Some(relay) = relays.get_mut(chosen) else { return Ok(()) };
        match env.random.below(16) {
            0 | 1 => {
                if writes && servers.postgres.is_up(env.now) {
                    servers.postgres.write(&mut env.random);
                    servers.truth.learn(&servers.postgres.log);
                }
                Ok(())
            }
            2..=4 => servers.postgres.serve(env),
            5 | 6 => {
                relays.iter_mut().for_each(|relay| relay.deliver(&mut servers.postgres, env));
                Ok(())
            }
            7..=9 => relay.sink_step(servers, env),
            10 => {
                if env.random.chance(20) {
                    servers.postgres.checkpoint();
                }
                servers.kafka.pass_time(env, &mut servers.truth)
            }
            11 if !writes => {
                relay.operate(servers, env, true);
                Ok(())
            }
            _ => relay.step(servers, env),
        }
    }

    fn strike(&mut self) {
        let Self { env, servers, relays, faults, .. } = self;
        let Some(fault) = faults.get(env.random.index(faults.len())).copied() else { return };
        let chosen = env.random.index(relays.len());
        let Some(relay) = relays.get_mut(chosen) else { return };
        let (now, length) = (env.now, env.random.below(4_000_000));
        let stream = servers.postgres.stream.as_mut();
        match fault {
            Fault::KillRelay if !relay.is_down() => relay.kill(servers, env),
            Fault::FreezeRelay => freeze_or_thaw(relay, servers, env),
            Fault::StopRelay => relay.drain(),
            Fault::CutLink | Fault::EndWalsender => {
                if stream.is_some_and(|stream| !stream.wire.is_empty()) {
                    env.seen.note(Sometimes::LinkCut);
                }
                env.tell(|| format!("{fault:?}"));
                servers.postgres.stream = None;
            }
            Fault::HalfOpenLink => {
                if let Some(stream) = stream {
                    env.tell(|| "the link is half open".into());
                    stream.half_open = true;
                }
            }
            Fault::SlowLink => {
                if let Some(stream) = stream {
                    stream.slow_until = now + length;
                }
            }
            Fault::CrashPostgres if servers.postgres.is_up(now) => {
                env.tell(|| "postgres crashes".into());
                servers.postgres.crash(now, length / 4, &mut env.random, &mut env.seen);
            }
            Fault::RestartPostgres if servers.postgres.is_up(now) => {
                env.tell(|| "postgres is asked to stop".into());
                servers.postgres.forget_open();
                servers.postgres.shutdown_deadline = Some(now + 3 * length);
            }
            Fault::EndLease => servers.postgres.lease = None,
            Fault::BrokerDown => {
                env.tell(|| "the broker is away".into());
                servers.kafka.up_at = now + length * 5;
            }
            Fault::JumpClock => {
                env.seen.note(Sometimes::ClockJumped);
                let jump = i64::try_from(env.random.below(7_200_000_000)).unwrap_or_default();
                env.wall_us += jump - 3_600_000_000;
            }
            Fault::Operator => relay.operate(servers, env, false),
            Fault::KillRelay
            | Fault::CrashPostgres
            | Fault::RestartPostgres
            | Fault::UnknownOutcome
            | Fault::ForgottenTransaction
            | Fault::RefusedRecords
            | Fault::UnroutableRows => {}
        }
    }

    fn heal(&mut self) {
        let Self { env, servers, relays, .. } = self;
        env.tell(|| "everything is healed".into());
        servers.postgres.forget_open();
        servers.kafka.up_at = 0;
        servers.kafka.unknown_per_mille = 0;
        servers.kafka.forgets_per_mille = 0;
        if env.random.chance(500) {
            servers.kafka.record_bytes_max = servers.kafka.record_bytes_max.max(1 << 20);
        }
        servers.holder_frozen_since = None;
        for relay in relays {
            relay.frozen_since = None;
        }
    }

    /// A slot that does not fit the position must halt the source, and nothing may be published.
    fn unfit(&mut self) -> Result<(), String> {
        let Self { env, servers, relays, .. } = self;
        let kind = env.random.below(8);
        if kind > 3 {
            return Ok(());
        }
        for relay in relays.iter_mut() {
            relay.kill(servers, env);
        }
        let postgres = &mut servers.postgres;
        for _ in 0..40 {
            postgres.write(&mut env.random);
        }
        servers.truth.learn(&postgres.log);
        let words = match kind {
            0 => {
                postgres.wal_end += 8;
                postgres.confirmed = postgres.wal_end;
                "went forward"
            }
            1 => {
                postgres.has_slot = false;
                "is gone"
            }
            2 => {
                postgres.system_id += 1;
                "system"
            }
            _ => {
                postgres.timeline += 1;
                "timeline"
            }
        };
        env.tell(|| format!("from now on the slot does not fit: {words}"));
        let before = servers.truth.durable();
        for _ in 0..40_000 {
            self.step(false)?;
            let halted = self.relays.iter().find_map(|relay| relay.halted.as_ref());
            if let Some(halted) = halted {
                if !halted.contains(words) {
                    return Err(format!("the source halted for another reason: {halted}"));
                }
                return Ok(());
            }
            if self.servers.truth.durable() != before || self.relays.iter().any(Relay::is_working) {
                return Err(format!("a slot that does not fit ({words}) did not halt the source"));
            }
        }
        Err("a slot that does not fit did not halt the source in time".into())
    }
}

fn freeze_or_thaw(relay: &mut Relay, servers: &mut Servers, env: &mut Env) {
    let name = relay.name;
    let holds = relay.lease.is_some() && relay.lease == servers.postgres.lease;
    if relay.frozen_since.take().is_none() {
        relay.frozen_since = Some(env.now);
        env.tell(|| format!("relay {name} is frozen"));
    } else {
        env.tell(|| format!("relay {name} is thawed"));
    }
    if holds {
        servers.holder_frozen_since = relay.frozen_since;
    }
}
