//! Kafka: one transaction per batch, records and position together.
//!
//! ```text
//!   relay loop (async)                 thread of the source (blocking)
//!     open ───────────────────────────▶ end what is forgotten, init_transactions of both ids, read position and parked keys
//!     publish(batch, position) ───────▶ begin · records · position · flush · commit
//!     outcome() ◀───────────────────── Committed | Refused | SinkError
//! ```
//!
//! At least once, a second thread sends the records without a transaction (`Delivered`), and this one records positions
//! (`Recorded`) and publishes what is parked or released: both stay in transactions, so that a relay which wakes up after
//! another took over can put nothing back, and nothing is parked twice.
//!
//! librdkafka's calls block, and `commit_transaction` can for seconds: a source's calls run on one thread of its own, so
//! the loop that answers Postgres never waits. Two transactional ids take turns, because a coordinator that is still
//! writing the markers of one refuses its next transaction for 20 ms; the second begins only after the first's commit
//! returned, both carry the position, both are initialised before it is read.
//!
//! This folder is the only one that names rdkafka.

use std::sync::{Arc, mpsc};
use std::thread;

use tokio::sync::{mpsc as async_mpsc, oneshot};

use crate::config::{Delivery, KafkaConfig};
use crate::parking::{ParkingKey, Scan, Waiting};
use crate::position::PositionRecord;
use crate::record::{Batch, Outcome};

mod client;
mod cluster;
mod error;
mod forgotten;
mod log_reader;
mod ongoing;
mod parked_reader;
mod polled;
mod position_reader;
mod producer;
mod security;
mod topics;
mod wire;

pub use error::SinkError;
pub use topics::{Topics, parked_topic, position_topic};

use forgotten::Stage;
use producer::{IdempotentProducer, Producers};

/// Outcomes in the order of the batches, and losses of a connection.
type Outcomes = async_mpsc::UnboundedSender<Result<Outcome, SinkError>>;

/// The topics of one source, open for writing. Dropping it ends its thread after the call under way.
#[derive(Debug)]
pub struct KafkaSink {
    jobs: mpsc::Sender<Job>,
    /// Where batches go that need no transaction.
    deliveries: Option<mpsc::Sender<Arc<Batch>>>,
    outcomes: async_mpsc::UnboundedReceiver<Result<Outcome, SinkError>>,
    ended: Vec<oneshot::Receiver<()>>,
}

/// What Kafka holds of a source.
#[derive(Debug)]
pub struct Found {
    /// The last position, if there ever was one.
    pub position: Option<PositionRecord>,
    /// What is parked.
    pub parked: Scan,
}

struct Job {
    batch: Option<Arc<Batch>>,
    position: PositionRecord,
}

impl KafkaSink {
    /// Fences every earlier producer of the source and settles what they left open, then reads the position and what is parked.
    ///
    /// The caller must hold the source's lease: this stops whoever published before.
    ///
    /// # Errors
    /// If Kafka cannot be reached or refuses.
    pub async fn open(
        config: &KafkaConfig,
        source: &str,
        topics: Topics,
        delivery: Delivery,
    ) -> Result<(Self, Found), SinkError> {
        let (jobs, inbox) = mpsc::channel();
        let (outbox, outcomes) = async_mpsc::unbounded_channel();
        let (opened, is_open) = oneshot::channel();
        let (kafka, name, outbox_of_jobs) = (config.clone(), source.to_owned(), outbox.clone());
        let serving = on_thread(format!("kafka-{source}"), move || {
            serve(&kafka, &name, &topics, opened, &inbox, &outbox_of_jobs);
        })?;
        let found = is_open.await.map_err(|_| SinkError::ended())??;
        let mut sink = Self { jobs, deliveries: None, outcomes, ended: vec![serving] };
        if delivery == Delivery::AtLeastOnce {
            sink.deliver_at_least_once(config, source, outbox)?;
        }
        Ok((sink, found))
    }

    fn deliver_at_least_once(
        &mut self,
        config: &KafkaConfig,
        source: &str,
        outbox: Outcomes,
    ) -> Result<(), SinkError> {
        let (deliveries, inbox) = mpsc::channel();
        let (config, name) = (config.clone(), source.to_owned());
        let delivering =
            on_thread(format!("events-{source}"), move || deliver(&config, &name, &inbox, &outbox))?;
        self.deliveries = Some(deliveries);
        self.ended.push(delivering);
        Ok(())
    }

    /// Hands over a batch; its outcome follows.
    pub fn publish(&self, batch: Arc<Batch>, position: PositionRecord) {
        // A thread that has ended says so in `outcome`.
        match &self.deliveries {
            Some(deliveries) if !batch.is_atomic => drop(deliveries.send(batch)),
            Some(_) | None => drop(self.jobs.send(Job { batch: Some(batch), position })),
        }
    }

    /// Writes a position alone; its outcome follows.
    pub fn record(&self, position: PositionRecord) {
        let _ = self.jobs.send(Job { batch: None, position });
    }

    /// Waits for the outcome of the batch handed over. Cancel-safe.
    ///
    /// # Errors
    /// If the outcome is unknown, a connection was lost even at rest (the last transactions may be without their end), or
    /// another relay has taken the source: the sink must be closed and opened anew.
    pub async fn outcome(&mut self) -> Result<Outcome, SinkError> {
        self.outcomes.recv().await.unwrap_or_else(|| Err(SinkError::ended()))
    }

    /// Waits until the threads' last calls have returned: after that, nothing of this sink reaches Kafka.
    pub async fn close(self) {
        drop((self.jobs, self.deliveries));
        for ended in self.ended {
            let _ = ended.await;
        }
    }
}

/// The last committed position of a source. Blocks, and stops nobody: whoever publishes now may write a later one.
///
/// # Errors
/// If Kafka does not answer or the topic cannot be read.
pub fn last_position(config: &KafkaConfig, source: &str) -> Result<Option<PositionRecord>, SinkError> {
    position_reader::last(config, source)
}

/// The first events that are parked of a key. Blocks.
///
/// # Errors
/// If Kafka does not answer or the topic cannot be read.
pub fn parked_events(
    config: &KafkaConfig,
    source: &str,
    key: &ParkingKey,
    bytes_max: usize,
) -> Result<Vec<Waiting>, SinkError> {
    parked_reader::piece(config, source, key, bytes_max)
}

/// Runs it on a thread of its own; the receiver hears of its end.
fn on_thread(name: String, run: impl FnOnce() + Send + 'static) -> Result<oneshot::Receiver<()>, SinkError> {
    let (on_end, ended) = oneshot::channel();
    let thread = thread::Builder::new().name(name).spawn(move || {
        run();
        let _ = on_end.send(());
    });
    thread.map_err(SinkError::thread)?;
    Ok(ended)
}

/// Sends batches without transactions, until one fails.
fn deliver(config: &KafkaConfig, source: &str, inbox: &mpsc::Receiver<Arc<Batch>>, outbox: &Outcomes) {
    let mut producer = match IdempotentProducer::open(config, source, outbox) {
        Ok(producer) => producer,
        Err(error) => {
            let _ = outbox.send(Err(error));
            return;
        }
    };
    for batch in inbox {
        let outcome = producer.deliver(&batch.records, batch.one_by_one);
        let is_over = outcome.is_err();
        if outbox.send(outcome).is_err() || is_over {
            return;
        }
    }
}

fn serve(
    config: &KafkaConfig,
    source: &str,
    topics: &Topics,
    opened: oneshot::Sender<Result<Found, SinkError>>,
    inbox: &mpsc::Receiver<Job>,
    outbox: &Outcomes,
) {
    let (mut producers, found) = match take(config, source, topics, outbox) {
        Ok(taken) => taken,
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    if opened.send(Ok(found)).is_err() {
        return;
    }
    for job in inbox {
        let outcome = match job.batch.as_deref() {
            Some(batch) => producers.publish(&batch.records, batch.one_by_one, &job.position),
            None => producers.publish(&[], false, &job.position).map(|_| Outcome::Recorded),
        };
        let is_over = outcome.is_err();
        if outbox.send(outcome).is_err() || is_over {
            return;
        }
    }
}

/// Makes the source's transactions ours, with nothing of an earlier producer left open.
fn take(
    config: &KafkaConfig,
    source: &str,
    topics: &Topics,
    outbox: &Outcomes,
) -> Result<(Producers, Found), SinkError> {
    let was_any_ongoing = forgotten::end(config, source, topics, Stage::BeforeInit)?;
    let producers = Producers::open(config, source, outbox)?;
    if was_any_ongoing {
        // The broker may have died once more while it was aborting.
        forgotten::end(config, source, topics, Stage::AfterInit)?;
    }
    let (position, parked) =
        both(|| position_reader::last(config, source), || parked_reader::all(config, source));
    let found = Found { position: position?, parked: parked? };
    Ok((producers, found))
}

/// Does two things at once: a start waits for Kafka and for little else.
fn both<A: Send, B>(first: impl FnOnce() -> A + Send, second: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        (first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), second)
    })
}
