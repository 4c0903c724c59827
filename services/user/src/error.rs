//! Why a command of this service fails, in words of its own; `grpc.rs` gives them a status.

use std::time::Duration;

use tailrace_runtime::postgres::Failure;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct Error(#[from] pub(crate) Kind);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("the e-mail address is taken")]
    EmailTaken,
    #[error("the request id was used for another request")]
    RequestReused,
    #[error("no such user")]
    NotFound,
    #[error("the user is deleted")]
    Deleted,
    #[error("the user is not deleted")]
    NotDeleted,
    #[error("the user changed meanwhile")]
    EtagMismatch,
    #[error("the user changes too often")]
    Contended,
    #[error("address or password is wrong")]
    WrongCredentials,
    #[error("the refresh token cannot be used")]
    RefreshTokenInvalid,
    #[error("the current password is wrong")]
    WrongPassword,
    #[error("too many wrong passwords of late")]
    TooManyTries(Duration),
    #[error("too many passwords are waiting to be hashed")]
    Overloaded,
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

    /// Whether the users as they are, and not something inside, stand against a change.
    pub(crate) fn is_refusal(&self) -> bool {
        match self.0 {
            Kind::NotFound
            | Kind::Deleted
            | Kind::NotDeleted
            | Kind::EtagMismatch
            | Kind::Contended
            | Kind::EmailTaken => true,
            Kind::RequestReused
            | Kind::WrongCredentials
            | Kind::RefreshTokenInvalid
            | Kind::WrongPassword
            | Kind::TooManyTries(_)
            | Kind::Overloaded
            | Kind::Inside(_) => false,
        }
    }
}
