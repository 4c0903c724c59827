//! Why an engine gives up. Its caller starts again from the position in Kafka.

use std::time::Duration;

use replication_protocol::ParseError;

use crate::parking::TooManyParked;
use crate::row::MissingColumn;

/// Why the engine cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Bytes that are no message.
    #[error("the replication stream cannot be read")]
    Parse(#[from] ParseError),
    /// Messages in an order that cannot be.
    #[error("the replication stream is out of order: {0}")]
    OutOfOrder(&'static str),
    /// A row or message without its BEGIN.
    #[error("the replication stream is out of order: {0} outside a transaction")]
    Outside(&'static str),
    /// The outbox table is not what the configuration says.
    #[error(transparent)]
    MissingColumn(#[from] MissingColumn),
    /// The server says nothing, not even that it is alive.
    #[error("the server has been silent for {} s", .0.as_secs())]
    Silence(Duration),
    /// Not even the reason can be published.
    #[error("the broker refuses a dead letter: {0}; allow larger records on the dead-letter topic")]
    DeadLetterRefused(String),
    /// More keys would be parked than may be.
    #[error(transparent)]
    TooManyParked(#[from] TooManyParked),
}
