//! A model of the sink's thread: one batch at a time, two producers in turn, an outcome for each batch.

use std::collections::VecDeque;
use std::sync::Arc;

use cdc_relay::position::PositionRecord;
use cdc_relay::record::{Batch, Outcome};

use crate::LoopBug;
use crate::env::Env;
use crate::kafka::{CommitAnswer, Kafka, partition};
use crate::sometimes::Sometimes;
use crate::truth::Truth;

/// How long a step of a transaction may take.
const STEP_DEADLINE_US: u64 = 10_000_000;

/// Why a sink must be opened anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SinkTrouble {
    Unknown,
    Fenced,
}

#[derive(Debug)]
pub(crate) struct Sink {
    epochs: [u32; 2],
    turn: usize,
    jobs: VecDeque<(Arc<Batch>, PositionRecord)>,
    running: Option<Running>,
    outcomes: VecDeque<(u64, Result<Outcome, SinkTrouble>)>,
    over: bool,
}

#[derive(Debug)]
struct Running {
    batch: Arc<Batch>,
    position: PositionRecord,
    transaction: usize,
    /// The order in which the brokers take the records.
    order: Vec<usize>,
    appended: usize,
    position_at: usize,
    position_done: bool,
    since: u64,
}

impl Sink {
    pub(crate) fn new(epochs: [u32; 2]) -> Self {
        let (jobs, outcomes) = (VecDeque::new(), VecDeque::new());
        Self { epochs, turn: 0, jobs, running: None, outcomes, over: false }
    }

    pub(crate) fn publish(&mut self, batch: Arc<Batch>, position: PositionRecord) {
        self.jobs.push_back((batch, position));
    }

    /// The next outcome, once it has arrived.
    pub(crate) fn outcome(&mut self, now: u64) -> Option<Result<Outcome, SinkTrouble>> {
        let (at, _) = self.outcomes.front()?;
        if *at > now {
            return None;
        }
        self.outcomes.pop_front().map(|(_, outcome)| outcome)
    }

    /// No more jobs: true once the call under way has returned.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.jobs.clear();
        self.running.is_none()
    }

    /// One step of the thread.
    pub(crate) fn step(&mut self, kafka: &mut Kafka, env: &mut Env, truth: &mut Truth) -> Result<(), String> {
        if self.over {
            return Ok(());
        }
        let Some(running) = &mut self.running else {
            self.begin(kafka, env);
            return Ok(());
        };
        if !kafka.is_up(env.now) {
            if env.now.saturating_sub(running.since) > STEP_DEADLINE_US {
                env.seen.note(Sometimes::BrokerDown);
                self.end(Err(SinkTrouble::Unknown), env);
            }
            return Ok(());
        }
        let epoch = self.epochs.get(self.turn).copied().unwrap_or_default();
        let producer = self.turn;
        for _ in 0..=env.random.below(12) {
            let result = if running.appended == running.position_at && !running.position_done {
                running.position_done = true;
                kafka.append_position(producer, epoch, running.transaction, &running.position)
            } else if let Some(index) = running.order.get(running.appended) {
                running.appended += 1;
                match running.batch.records.get(*index).filter(|record| kafka.takes(record)) {
                    Some(record) => kafka.append(producer, epoch, running.transaction, record),
                    None => Ok(()),
                }
            } else {
                return self.finish(kafka, env, truth);
            };
            if result.is_err() {
                env.seen.note(Sometimes::ZombieFenced);
                self.end(Err(SinkTrouble::Fenced), env);
                return Ok(());
            }
        }
        Ok(())
    }

    fn begin(&mut self, kafka: &mut Kafka, env: &mut Env) {
        let Some((batch, position)) = self.jobs.pop_front() else { return };
        if !kafka.is_up(env.now) {
            self.jobs.push_front((batch, position));
            return;
        }
        self.turn = 1 - self.turn;
        let transaction = kafka.begin(self.turn, env.now);
        let order = shuffled(&batch, env);
        let position_at = env.random.index(order.len() + 1);
        let since = env.now;
        self.running = Some(Running {
            batch,
            position,
            transaction,
            order,
            appended: 0,
            position_at,
            position_done: false,
            since,
        });
    }

    fn finish(&mut self, kafka: &mut Kafka, env: &mut Env, truth: &mut Truth) -> Result<(), String> {
        let Some(running) = &self.running else { return Ok(()) };
        let records = &running.batch.records;
        let refused: Vec<usize> =
            (0..records.len()).filter(|index| !records.get(*index).is_some_and(|r| kafka.takes(r))).collect();
        if let Some(first) = refused.first() {
            env.seen.note(Sometimes::Refused);
            let indexes = match (running.batch.one_by_one, env.random.chance(300)) {
                (true, false) => vec![*first],
                (true, true) => refused,
                // Sent together, all that shared the request are blamed.
                (false, _) => (0..records.len()).collect(),
            };
            if running.batch.one_by_one {
                env.seen.note(Sometimes::RefusedAlone);
            }
            let (transaction, turn) = (running.transaction, self.turn);
            kafka.abort(transaction);
            let epoch = kafka.init(turn, env, truth)?;
            if let Some(place) = self.epochs.get_mut(turn) {
                *place = epoch;
            }
            self.end(Ok(Outcome::Refused { indexes, message: "too large".into() }), env);
            return Ok(());
        }
        let epoch = self.epochs.get(self.turn).copied().unwrap_or_default();
        let (transaction, records) = (running.transaction, records.clone());
        let answer = kafka.commit(self.turn, epoch, transaction, records, env, truth)?;
        let outcome = match answer {
            CommitAnswer::Done => Ok(Outcome::Committed),
            CommitAnswer::Unknown if env.bug == Some(LoopBug::UnknownTakenAsCommitted) => {
                Ok(Outcome::Committed)
            }
            CommitAnswer::Unknown => Err(SinkTrouble::Unknown),
            CommitAnswer::Fenced => {
                env.seen.note(Sometimes::ZombieFenced);
                Err(SinkTrouble::Fenced)
            }
        };
        self.end(outcome, env);
        Ok(())
    }

    fn end(&mut self, outcome: Result<Outcome, SinkTrouble>, env: &mut Env) {
        self.running = None;
        self.over = outcome.is_err();
        let delay = if env.random.chance(200) { env.random.below(300_000) } else { env.random.below(2_000) };
        self.outcomes.push_back((env.now + delay, outcome));
    }
}

/// An order in which the brokers may take the records: any, but for those of one partition.
fn shuffled(batch: &Batch, env: &mut Env) -> Vec<usize> {
    let mut queues: Vec<((&str, u64), VecDeque<usize>)> = Vec::new();
    for (index, record) in batch.records.iter().enumerate() {
        let partition = (&*record.topic, partition(record));
        match queues.iter_mut().find(|(of, _)| *of == partition) {
            Some((_, queue)) => queue.push_back(index),
            None => queues.push((partition, VecDeque::from([index]))),
        }
    }
    if env.random.chance(500) {
        return (0..batch.records.len()).collect();
    }
    let mut order = Vec::with_capacity(batch.records.len());
    while !queues.is_empty() {
        let chosen = env.random.index(queues.len());
        match queues.get_mut(chosen).and_then(|(_, queue)| queue.pop_front()) {
            Some(index) => order.push(index),
            None => {
                queues.swap_remove(chosen);
            }
        }
    }
    order
}
