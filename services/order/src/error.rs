//! Why a command of this service fails, in words of its own; `grpc.rs` gives them a status.

use tailrace_runtime::postgres::Failure;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Error(#[from] pub(crate) Kind);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("the request id was used for another request")]
    RequestReused,
    #[error("no such order")]
    NotFound,
    #[error("the order is not placed any more")]
    NotPlaced,
    #[error("the order changed meanwhile")]
    EtagMismatch,
    #[error("the order changes too often")]
    Contended,
    #[error("the buyer is deleted")]
    BuyerDeleted,
    #[error("the buyer is not known here, or not yet")]
    BuyerUnknown,
    #[error("something inside failed")]
    Inside(#[source] Failure),
}

/// What failed inside: see [`Error::inside`].
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Kind::Inside(failure).into()
    }
}

impl Error {
    /// A failure that the caller can do nothing about, except try again when it is the database's absence.
    pub(crate) fn inside(failure: impl Into<Failure>) -> Self {
        Kind::Inside(failure.into()).into()
    }

    /// Whether the order as it is, and not something inside, stands against the change.
    pub(crate) fn is_refusal(&self) -> bool {
        match self.0 {
            Kind::NotFound | Kind::NotPlaced | Kind::EtagMismatch | Kind::Contended => true,
            Kind::RequestReused | Kind::BuyerDeleted | Kind::BuyerUnknown | Kind::Inside(_) => false,
        }
    }
}
