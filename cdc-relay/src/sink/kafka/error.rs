//! What can go wrong with Kafka, sorted by what the relay does about it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Kafka failed, or its answer is unknown.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Another producer with our ids was initialised.
    Fenced,
    /// A certificate that the client library takes and we do not.
    Untrusted,
    /// Everything else: start again from the position.
    Unavailable,
}

impl SinkError {
    /// Whether another relay has taken the source: stand by, and never initialise without the lease.
    pub fn is_fenced(&self) -> bool {
        self.kind == Kind::Fenced
    }

    /// Whether we do not take the certificate of a broker; rustls is stricter than OpenSSL, which the client library has.
    pub(super) fn is_untrusted(&self) -> bool {
        self.kind == Kind::Untrusted
    }

    pub(super) fn untrusted(message: String) -> Self {
        Self { kind: Kind::Untrusted, message }
    }

    pub(super) fn new(doing: &str, error: &KafkaError) -> Self {
        let kind = match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::InvalidProducerEpoch
                | RDKafkaErrorCode::ProducerFenced,
            ) => Kind::Fenced,
            _ => Kind::Unavailable,
        };
        let detail =
            if let KafkaError::Transaction(error) = error { error.string() } else { error.to_string() };
        Self { kind, message: format!("{doing}: {detail}") }
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self { kind: Kind::Unavailable, message: message.into() }
    }

    pub(super) fn thread(error: std::io::Error) -> Self {
        Self::unavailable(format!("cannot start a thread for Kafka: {error}"))
    }

    pub(crate) fn ended() -> Self {
        Self::unavailable("the thread that talks to Kafka has ended")
    }
}
