//! A model of Kafka: logs, two transactional producers with fencing epochs, and a coordinator with its bad days.
//!
//! ```text
//!   begin ─▶ append … ─▶ commit ─┬─▶ done, and the answer arrives or is lost
//!                                ├─▶ never arrives, or long after
//!                                └─▶ decided, and its end is never written
//! ```

use cdc_relay::parking::{ParkingKey, Scan, Waiting};
use cdc_relay::position::PositionRecord;
use cdc_relay::record::Record;

use crate::LoopBug;
use crate::env::Env;
use crate::sometimes::Sometimes;
use crate::truth::Truth;

pub(crate) const DEAD_LETTERS: &str = "dead-letter";
pub(crate) const PARKED: &str = "tailrace.parked.users";
const PARTITIONS: u64 = 3;
/// After this the coordinator aborts a transaction whose producer is gone.
const TRANSACTION_TIMEOUT_US: u64 = 10_000_000;
/// How much of a parked key is read at once.
const PIECE_BYTES_MAX: usize = 4_000;

/// The transaction of `init`, committed before all else. What needs none is told as one of its records.
const BIRTH: usize = 0;

/// The partition of a record follows from its key.
pub(crate) fn partition(record: &Record) -> u64 {
    record.key.iter().fold(7_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)))
        % PARTITIONS
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// To be committed, but its end is not written.
    Decided,
    Committed,
    Aborted,
}

#[derive(Debug)]
struct Transaction {
    producer: usize,
    end: End,
    begun_at: u64,
    /// Until then readers do not see that it has ended.
    ends_at: u64,
    records: Vec<Record>,
    position: Option<PositionRecord>,
}

/// The producer has been replaced.
#[derive(Debug)]
pub(crate) struct Fenced;

/// How a commit request ended, as far as its sender can tell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CommitAnswer {
    Done,
    Unknown,
    Fenced,
}

#[derive(Debug)]
struct Log {
    topic: String,
    partition: u64,
    entries: Vec<(usize, Record)>,
}

#[derive(Debug)]
struct LateCommit {
    at: u64,
    producer: usize,
    epoch: u32,
    transaction: usize,
}

#[derive(Debug)]
pub(crate) struct Kafka {
    transactions: Vec<Transaction>,
    logs: Vec<Log>,
    positions: Vec<(usize, PositionRecord)>,
    epochs: [u32; 2],
    late: Vec<LateCommit>,
    pub(crate) up_at: u64,
    /// The largest record of an event topic; parked ones may have a little less.
    pub(crate) record_bytes_max: usize,
    pub(crate) unknown_per_mille: u64,
    pub(crate) forgets_per_mille: u64,
}

impl Kafka {
    pub(crate) fn new(birth: PositionRecord) -> Self {
        let first = Transaction {
            producer: 0,
            end: End::Committed,
            begun_at: 0,
            ends_at: 0,
            records: Vec::new(),
            position: Some(birth.clone()),
        };
        Self {
            transactions: vec![first],
            logs: Vec::new(),
            positions: vec![(BIRTH, birth)],
            epochs: [0; 2],
            late: Vec::new(),
            up_at: 0,
            record_bytes_max: 2_500,
            unknown_per_mille: 0,
            forgets_per_mille: 0,
        }
    }

    pub(crate) const fn is_up(&self, now: u64) -> bool {
        now >= self.up_at
    }

    /// Whether the broker takes a record of this size.
    pub(crate) fn takes(&self, record: &Record) -> bool {
        let limit = match &*record.topic {
            DEAD_LETTERS => usize::MAX,
            PARKED => self.record_bytes_max / 10 * 9,
            _ => self.record_bytes_max,
        };
        record.wire_size() <= limit
    }

    /// `init_transactions`: the producers before are fenced, what they left open is ended.
    pub(crate) fn init(&mut self, producer: usize, env: &mut Env, truth: &mut Truth) -> Result<u32, String> {
        let open = self.transactions.iter().rposition(|transaction| {
            transaction.producer == producer && matches!(transaction.end, End::Open | End::Decided)
        });
        if let Some(open) = open {
            env.seen.note(Sometimes::OpenedWhileOpen);
            self.end_forgotten(env, truth)?;
            self.abort(open);
        }
        if env.bug != Some(LoopBug::FencingLost)
            && let Some(epoch) = self.epochs.get_mut(producer)
        {
            *epoch += 1;
        }
        Ok(self.epochs.get(producer).copied().unwrap_or_default())
    }

    fn check(&self, producer: usize, epoch: u32) -> Result<(), Fenced> {
        if self.epochs.get(producer) == Some(&epoch) { Ok(()) } else { Err(Fenced) }
    }

    pub(crate) fn begin(&mut self, producer: usize, now: u64) -> usize {
        self.transactions.push(Transaction {
            producer,
            end: End::Open,
            begun_at: now,
            ends_at: now,
            records: Vec::new(),
            position: None,
        });
        self.transactions.len() - 1
    }

    pub(crate) fn append(
        &mut self,
        producer: usize,
        epoch: u32,
        transaction: usize,
        record: &Record,
    ) -> Result<(), Fenced> {
        self.check(producer, epoch)?;
        self.write(transaction, record);
        Ok(())
    }

    /// Takes a record without a transaction: whoever sends it, and everybody sees it.
    pub(crate) fn deliver(&mut self, record: &Record) {
        self.write(BIRTH, record);
    }

    /// Whether nobody was initialised after the producers with these epochs.
    pub(crate) fn are_last(&self, epochs: [u32; 2]) -> bool {
        self.epochs == epochs
    }

    fn write(&mut self, transaction: usize, record: &Record) {
        let partition = partition(record);
        let found =
            self.logs.iter_mut().find(|log| log.partition == partition && *log.topic == *record.topic);
        let entry = (transaction, record.clone());
        match found {
            Some(log) => log.entries.push(entry),
            None => {
                let topic = record.topic.to_string();
                self.logs.push(Log { topic, partition, entries: vec![entry] });
            }
        }
    }

    pub(crate) fn append_position(
        &mut self,
        producer: usize,
        epoch: u32,
        transaction: usize,
        position: &PositionRecord,
    ) -> Result<(), Fenced> {
        self.check(producer, epoch)?;
        self.positions.push((transaction, position.clone()));
        if let Some(transaction) = self.transactions.get_mut(transaction) {
            transaction.position = Some(position.clone());
        }
        Ok(())
    }

    /// EndTxn with its many ends. `records` are those of the batch, in its order.
    pub(crate) fn commit(
        &mut self,
        producer: usize,
        epoch: u32,
        transaction: usize,
        records: Vec<Record>,
        env: &mut Env,
        truth: &mut Truth,
    ) -> Result<CommitAnswer, String> {
        if self.check(producer, epoch).is_err() || !self.is_open(transaction) {
            return Ok(CommitAnswer::Fenced);
        }
        if let Some(open) = self.transactions.get_mut(transaction) {
            open.records = records;
        }
        if env.random.chance(self.forgets_per_mille) {
            env.tell(|| format!("kafka decides transaction {transaction} and forgets its end"));
            if let Some(open) = self.transactions.get_mut(transaction) {
                open.end = End::Decided;
            }
            return Ok(CommitAnswer::Unknown);
        }
        if !env.random.chance(self.unknown_per_mille) {
            self.complete(transaction, env, truth)?;
            return Ok(CommitAnswer::Done);
        }
        match env.random.below(3) {
            0 => {
                env.seen.note(Sometimes::UnknownCommitted);
                env.tell(|| format!("kafka commits transaction {transaction}, the answer is lost"));
                self.complete(transaction, env, truth)?;
            }
            1 => {
                env.seen.note(Sometimes::UnknownAborted);
                env.tell(|| format!("the commit of transaction {transaction} is lost on its way"));
            }
            _ => {
                env.tell(|| format!("the commit of transaction {transaction} is late"));
                let at = env.now + env.random.below(8_000_000);
                self.late.push(LateCommit { at, producer, epoch, transaction });
            }
        }
        Ok(CommitAnswer::Unknown)
    }

    fn is_open(&self, transaction: usize) -> bool {
        self.transactions.get(transaction).is_some_and(|transaction| transaction.end == End::Open)
    }

    fn complete(&mut self, transaction: usize, env: &mut Env, truth: &mut Truth) -> Result<(), String> {
        let Some(transaction) = self.transactions.get_mut(transaction) else { return Ok(()) };
        transaction.end = End::Committed;
        transaction.ends_at = env.now + env.random.below(100_000);
        let position = transaction.position.as_ref().and_then(|record| record.position);
        let position = position.ok_or("a transaction was committed without a position")?;
        truth.transaction(&transaction.records, &position)
    }

    pub(crate) fn abort(&mut self, transaction: usize) {
        if self.is_open(transaction)
            && let Some(transaction) = self.transactions.get_mut(transaction)
        {
            transaction.end = End::Aborted;
        }
    }

    /// Ends what was decided and not ended, as it was decided.
    pub(crate) fn end_forgotten(&mut self, env: &mut Env, truth: &mut Truth) -> Result<(), String> {
        for index in 0..self.transactions.len() {
            if self.transactions.get(index).is_some_and(|transaction| transaction.end == End::Decided) {
                env.seen.note(Sometimes::Forgotten);
                self.complete(index, env, truth)?;
            }
        }
        Ok(())
    }

    /// What happens with time: late requests arrive, old transactions are aborted.
    pub(crate) fn pass_time(&mut self, env: &mut Env, truth: &mut Truth) -> Result<(), String> {
        while let Some(index) = self.late.iter().position(|late| late.at <= env.now) {
            let late = self.late.swap_remove(index);
            if self.check(late.producer, late.epoch).is_ok() && self.is_open(late.transaction) {
                env.seen.note(Sometimes::CommittedLate);
                env.tell(|| format!("the late commit of transaction {} arrives", late.transaction));
                self.complete(late.transaction, env, truth)?;
            }
        }
        let recent = self.transactions.len().saturating_sub(8);
        for index in recent..self.transactions.len() {
            let old = self.transactions.get(index).filter(|transaction| {
                transaction.end == End::Open
                    && env.now.saturating_sub(transaction.begun_at) > TRANSACTION_TIMEOUT_US
            });
            if let Some(old) = old {
                env.seen.note(Sometimes::TransactionTimedOut);
                if let Some(epoch) = self.epochs.get_mut(old.producer) {
                    *epoch += 1;
                }
                self.abort(index);
            }
        }
        Ok(())
    }

    /// The last committed position. `None` while the end of the topic cannot be read.
    pub(crate) fn last_position(&self, now: u64, bug: Option<LoopBug>) -> Option<&PositionRecord> {
        let end = |index: usize| {
            let transaction = self.transactions.get(index)?;
            Some(if transaction.ends_at > now { End::Open } else { transaction.end })
        };
        let mut last = None;
        for (transaction, record) in &self.positions {
            match end(*transaction) {
                Some(End::Committed) => last = Some(record),
                // The last stable offset: a reader that stops here would take a stale position.
                Some(End::Open | End::Decided) if bug == Some(LoopBug::StalePosition) => return last,
                Some(End::Open | End::Decided) => return None,
                Some(End::Aborted) | None => {}
            }
        }
        last
    }

    fn committed<'a>(&'a self, log: &'a Log) -> impl Iterator<Item = &'a Record> {
        log.entries.iter().filter_map(|(transaction, record)| {
            let transaction = self.transactions.get(*transaction)?;
            (transaction.end == End::Committed).then_some(record)
        })
    }

    fn parked(&self) -> impl Iterator<Item = &Record> {
        self.logs.iter().filter(|log| log.topic == PARKED).flat_map(|log| self.committed(log))
    }

    /// What a starting relay learns of parked keys.
    pub(crate) fn scan(&self) -> Scan {
        let mut scan = Scan::default();
        for record in self.parked() {
            scan.take(&record.key, record.value.as_deref());
        }
        scan
    }

    /// The first events that are parked of a key, as the sink reads them.
    pub(crate) fn piece(&self, key: &ParkingKey) -> Vec<Waiting> {
        let of_key = || self.parked().filter_map(|record| Some((key.position_in(&record.key)?, record)));
        let released =
            of_key().filter(|(_, record)| record.value.is_none()).map(|(position, _)| position).max();
        let mut piece = std::collections::BTreeMap::new();
        for (position, record) in of_key().filter(|(position, _)| Some(*position) > released) {
            if let Some(waiting) =
                record.value.as_deref().and_then(|value| Waiting::parse(&record.key, value))
            {
                piece.insert(position, waiting);
            }
        }
        let mut bytes = 0;
        let mut is_first = true;
        let mut fits = |waiting: &Waiting| {
            bytes += waiting.record.memory_size();
            std::mem::take(&mut is_first) || bytes <= PIECE_BYTES_MAX
        };
        piece.into_values().take_while(&mut fits).collect()
    }

    /// The event topics as a `read_committed` reader sees them.
    pub(crate) fn event_logs(&self) -> impl Iterator<Item = (String, impl Iterator<Item = &Record>)> {
        let events = self.logs.iter().filter(|log| log.topic != PARKED && log.topic != DEAD_LETTERS);
        events.map(|log| (format!("{}-{}", log.topic, log.partition), self.committed(log)))
    }

    /// Whether the source's name stands at a partial position now.
    pub(crate) fn is_inside(&self) -> bool {
        self.last_position(u64::MAX, None)
            .and_then(|record| record.position)
            .is_some_and(|at| at.partial.is_some())
    }
}
