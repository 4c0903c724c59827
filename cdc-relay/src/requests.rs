//! What operators ask of a source while it streams: what is parked, and to release it.
//!
//! ```text
//!   admin ─▶ Desk ─▶ the source's loop ─▶ engine ─▶ answer
//! ```
//!
//! A source that does not stream answers nothing: the questions are dropped, and who asked is told so.

use std::future::{Future, pending};
use std::pin::Pin;

use tailrace::relay::v1::parked_event::LeftOut;
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::config::{Config, KafkaConfig, SourceConfig};
use crate::parking::{ParkedKey, ParkingKey, Waiting};
use crate::release::{Action, Released};
use crate::row::Field;
use crate::sink::kafka::{self, SinkError};
use crate::source::{Catalog, SourceError};
use crate::transaction::EventPosition;

/// How many questions may wait for the source.
const WAITING_MAX: usize = 16;

/// A question, with the way for its answer.
#[derive(Debug)]
pub(crate) enum Request {
    /// Which keys are parked?
    List(oneshot::Sender<Vec<ParkedKey>>),
    /// Release the key that is held by the event at this position.
    Release(EventPosition, Action, oneshot::Sender<Released>),
}

/// Where questions to a source are left.
#[derive(Clone, Debug)]
pub(crate) struct Desk(mpsc::Sender<Request>);

/// The source does not stream, or has stopped before it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoAnswer;

/// A desk, and where its questions arrive.
pub(crate) fn desk() -> (Desk, mpsc::Receiver<Request>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Desk(sender), receiver)
}

impl Desk {
    pub(crate) async fn list(&self) -> Result<Vec<ParkedKey>, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::List(answer), answered).await
    }

    pub(crate) async fn release(
        &self,
        position: EventPosition,
        action: Action,
    ) -> Result<Released, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Release(position, action, answer), answered).await
    }

    async fn ask<T>(&self, request: Request, answered: oneshot::Receiver<T>) -> Result<T, NoAnswer> {
        self.0.try_send(request).map_err(|_| NoAnswer)?;
        answered.await.map_err(|_| NoAnswer)
    }
}

/// Drops the questions that wait.
pub(crate) fn dismiss(requests: &mut mpsc::Receiver<Request>) {
    while requests.try_recv().is_ok() {}
}

/// The questions to a source that streams, one release at a time.
pub(crate) struct DeskWork<'a> {
    kafka: KafkaConfig,
    source: SourceConfig,
    requests: &'a mut mpsc::Receiver<Request>,
    releasing: Option<oneshot::Sender<Released>>,
    reading: Option<Reading>,
}

type Reading = Pin<Box<dyn Future<Output = Result<Vec<Waiting>, SinkError>> + Send>>;

/// What the source is to do.
pub(crate) enum Work {
    /// Take the parked events that were asked for.
    Parked(Vec<Waiting>),
    /// Tell which keys are parked.
    List(oneshot::Sender<Vec<ParkedKey>>),
    /// Begin a release.
    Release(EventPosition, Action),
}

impl<'a> DeskWork<'a> {
    pub(crate) fn new(
        config: &Config,
        source: &SourceConfig,
        requests: &'a mut mpsc::Receiver<Request>,
    ) -> Self {
        Self { kafka: config.kafka.clone(), source: source.clone(), requests, releasing: None, reading: None }
    }

    /// Begins to read the first events of a key.
    pub(crate) fn read(&mut self, key: ParkingKey) {
        self.reading = Some(Box::pin(piece(self.kafka.clone(), self.source.clone(), key)));
    }

    /// Answers the release under way.
    pub(crate) fn answer(&mut self, released: Released) {
        if let Some(answer) = self.releasing.take() {
            // Who asked may be gone; what was done is done.
            let _ = answer.send(released);
        }
    }

    /// Waits for the next thing to do. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Work, SinkError> {
        if let Some(reading) = &mut self.reading {
            let piece = reading.await;
            self.reading = None;
            return piece.map(Work::Parked);
        }
        if self.releasing.is_some() {
            return pending().await;
        }
        match self.requests.recv().await {
            Some(Request::List(answer)) => Ok(Work::List(answer)),
            Some(Request::Release(position, action, answer)) => {
                self.releasing = Some(answer);
                Ok(Work::Release(position, action))
            }
            None => pending().await,
        }
    }
}

/// The first events that are parked of a key. Payloads that were too large to be parked are read from the outbox table;
/// one that is not there any more stays left out.
pub(crate) async fn piece(
    kafka: KafkaConfig,
    source: SourceConfig,
    key: ParkingKey,
) -> Result<Vec<Waiting>, SinkError> {
    let (name, bytes_max) = (source.name.clone(), source.buffer_bytes_max);
    let mut piece = clock::blocking(move || kafka::parked_events(&kafka, &name, &key, bytes_max)).await?;
    let mut bytes = 0;
    for (index, waiting) in piece.iter_mut().enumerate() {
        if waiting.left_out == LeftOut::Payload {
            match payload(&source, waiting).await {
                Ok(Some(payload)) => waiting.complete(payload),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(source = source.name, error = %error, "cannot read the payload of a parked event");
                }
            }
        }
        bytes += waiting.record.memory_size();
        if bytes > bytes_max && index > 0 {
            piece.truncate(index);
            break;
        }
    }
    Ok(piece)
}

async fn payload(source: &SourceConfig, waiting: &Waiting) -> Result<Option<Vec<u8>>, SourceError> {
    let catalog = Catalog::connect(&source.connection).await?;
    let table = &source.table;
    let columns = catalog.table_columns(&table.schema, &table.name).await?;
    let column = |field| source.columns.find(field, columns.iter().map(|column| column.name.as_str()));
    let (Some(id), Some(payload)) = (column(Field::Id), column(Field::Payload)) else { return Ok(None) };
    let (id, payload) = (columns.get(id), columns.get(payload));
    let (Some(id), Some(payload)) = (id, payload) else { return Ok(None) };
    let Some(event_id) = waiting.event_id() else { return Ok(None) };
    catalog.row_bytes(&table.schema, &table.name, id, event_id, payload).await
}
