//! A model of the sink: one batch at a time, two producers in turn, an outcome for each batch; at least once, a second thread
//! that delivers.

use std::collections::VecDeque;
use std::sync::Arc;

use cdc_relay::position::PositionRecord;
use cdc_relay::record::{Batch, Outcome, Record};

use crate::LoopBug;
use crate::delivery::Delivery;
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
    jobs: VecDeque<Job>,
    running: Option<Running>,
    /// Batches that need no transaction; `None` if all do.
    deliveries: Option<VecDeque<Arc<Batch>>>,
    /// What is being delivered: one batch, but for a planted bug.
    delivering: Vec<Delivery>,
    outcomes: VecDeque<(u64, Result<Outcome, SinkTrouble>)>,
    over: bool,
}

#[derive(Debug)]
struct Job {
    batch: Option<Arc<Batch>>,
    position: PositionRecord,
}

#[derive(Debug)]
struct Running {
    job: Job,
    transaction: usize,
    /// The order in which the brokers take the records.
    order: Vec<usize>,
    appended: usize,
    position_at: usize,
    position_done: bool,
    since: u64,
}

impl Sink {
    pub(crate) fn new(epochs: [u32; 2], is_at_least_once: bool) -> Self {
        Self {
            epochs,
            turn: 0,
            jobs: VecDeque::new(),
            running: None,
            deliveries: is_at_least_once.then(VecDeque::new),
            delivering: Vec::new(),
            outcomes: VecDeque::new(),
            over: false,
        }
    }

    pub(crate) fn publish(&mut self, batch: Arc<Batch>, position: PositionRecord) {
        match &mut self.deliveries {
            Some(deliveries) if !batch.is_atomic => deliveries.push_back(batch),
            Some(_) | None => self.jobs.push_back(Job { batch: Some(batch), position }),
        }
    }

    /// Records a position alone. False if every batch carries its own.
    pub(crate) fn record(&mut self, position: PositionRecord) -> bool {
        self.jobs.push_back(Job { batch: None, position });
        self.deliveries.is_some()
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
        self.deliveries.iter_mut().for_each(VecDeque::clear);
        self.running.is_none() && self.delivering.is_empty()
    }

    /// One step of a thread.
    pub(crate) fn step(&mut self, kafka: &mut Kafka, env: &mut Env, truth: &mut Truth) -> Result<(), String> {
        if self.over {
            return Ok(());
        }
        if self.deliveries.is_some() && env.random.chance(500) {
            return self.deliver(kafka, env, truth);
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
                kafka.append_position(producer, epoch, running.transaction, &running.job.position)
            } else if let Some(index) = running.order.get(running.appended) {
                running.appended += 1;
                match running.job.records().get(*index).filter(|record| kafka.takes(record)) {
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
        if !kafka.is_up(env.now) {
            return;
        }
        let Some(job) = self.jobs.pop_front() else { return };
        self.turn = 1 - self.turn;
        let transaction = kafka.begin(self.turn, env.now);
        let order = shuffled(job.records(), env);
        let position_at = env.random.index(order.len() + 1);
        let since = env.now;
        self.running =
            Some(Running { job, transaction, order, appended: 0, position_at, position_done: false, since });
    }

    /// One step of the thread that delivers.
    fn deliver(&mut self, kafka: &mut Kafka, env: &mut Env, truth: &mut Truth) -> Result<(), String> {
        if self.delivering.iter().all(Delivery::is_told)
            && let Some(batch) = self.deliveries.as_mut().and_then(VecDeque::pop_front)
        {
            let order = shuffled(&batch.records, env);
            self.delivering.push(Delivery::begin(batch, order, env.now));
        }
        if self.delivering.is_empty() {
            return Ok(());
        }
        let chosen = env.random.index(self.delivering.len());
        let Some(delivery) = self.delivering.get_mut(chosen) else { return Ok(()) };
        if !kafka.is_up(env.now) {
            if env.now.saturating_sub(delivery.since) > STEP_DEADLINE_US {
                env.seen.note(Sometimes::BrokerDown);
                self.end(Err(SinkTrouble::Unknown), env);
            }
            return Ok(());
        }
        // Nobody fences a producer without transactions.
        let is_stale = !kafka.are_last(self.epochs);
        for _ in 0..=env.random.below(12) {
            if let Some(record) = delivery.step(env) {
                kafka.deliver(&record);
                if is_stale {
                    env.seen.note(Sometimes::ZombieDelivered);
                }
                if truth.delivered(&record, is_stale)? {
                    env.seen.note(Sometimes::Repeated);
                }
            }
        }
        let (is_over, is_done) = (delivery.take_end(env.bug), delivery.is_done());
        if is_done {
            self.delivering.swap_remove(chosen);
        }
        if is_over {
            self.tell(Ok(Outcome::Delivered), env);
        }
        Ok(())
    }

    fn finish(&mut self, kafka: &mut Kafka, env: &mut Env, truth: &mut Truth) -> Result<(), String> {
        let Some(running) = &self.running else { return Ok(()) };
        let records = running.job.records();
        let one_by_one = running.job.batch.as_ref().is_some_and(|batch| batch.one_by_one);
        let refused: Vec<usize> =
            (0..records.len()).filter(|index| !records.get(*index).is_some_and(|r| kafka.takes(r))).collect();
        if let Some(first) = refused.first() {
            env.seen.note(Sometimes::Refused);
            let indexes = match (one_by_one, env.random.chance(300)) {
                (true, false) => vec![*first],
                (true, true) => refused,
                // Sent together, all that shared the request are blamed.
                (false, _) => (0..records.len()).collect(),
            };
            if one_by_one {
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
        let (transaction, records) = (running.transaction, records.to_vec());
        let done = if running.job.batch.is_some() { Outcome::Committed } else { Outcome::Recorded };
        let answer = kafka.commit(self.turn, epoch, transaction, records, env, truth)?;
        let outcome = match answer {
            CommitAnswer::Done => Ok(done),
            CommitAnswer::Unknown if env.bug == Some(LoopBug::UnknownTakenAsCommitted) => Ok(done),
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
        if outcome.is_err() {
            self.delivering.clear();
            self.over = true;
        }
        self.tell(outcome, env);
    }

    fn tell(&mut self, outcome: Result<Outcome, SinkTrouble>, env: &mut Env) {
        let delay = if env.random.chance(200) { env.random.below(300_000) } else { env.random.below(2_000) };
        self.outcomes.push_back((env.now + delay, outcome));
    }
}

impl Job {
    fn records(&self) -> &[Record] {
        self.batch.as_ref().map_or(&[], |batch| &batch.records)
    }
}

/// An order in which the brokers may take the records: any, but for those of one partition.
fn shuffled(records: &[Record], env: &mut Env) -> Vec<usize> {
    let mut queues: Vec<((&str, u64), VecDeque<usize>)> = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let partition = (&*record.topic, partition(record));
        match queues.iter_mut().find(|(of, _)| *of == partition) {
            Some((_, queue)) => queue.push_back(index),
            None => queues.push((partition, VecDeque::from([index]))),
        }
    }
    if env.random.chance(500) {
        return (0..records.len()).collect();
    }
    let mut order = Vec::with_capacity(records.len());
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
