//! What can go wrong on the way to Postgres, sorted by what can be done about it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::backend::ServerMessage;
use super::policy;
use super::tls;

/// A failure on the way to Postgres. Its text names what was attempted, what happened and what mends it;
/// a cause below it (of the socket, of TLS) is its [`Error::source`]. It holds no secret.
#[derive(Debug, Clone)]
pub struct SourceError(Arc<Inner>);

/// What can be done about a [`SourceError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// It passes by itself: wait and connect again.
    Retry,
    /// Another process streams from the slot: wait, or take over from it.
    SlotBusy {
        /// The process on the server, if the server named it.
        pid: Option<i32>,
    },
    /// It does not pass: someone must mend what the text names.
    Halt,
    /// Postgres does not let us in, or not do this: someone must mend the credentials or the permission.
    Denied,
}

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    Connect,
    IdentifySystem,
    CreateSlot,
    DropSlot,
    StartReplication,
    Stream,
    Finish,
    Catalog,
    Lease,
}

#[derive(Debug)]
struct Inner {
    kind: SourceErrorKind,
    attempt: Attempt,
    sqlstate: Option<String>,
    what: String,
    mend: &'static str,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SourceError {
    /// What can be done about it.
    pub fn kind(&self) -> SourceErrorKind {
        self.0.kind
    }

    /// The five characters with which the server names the failure, if the server sent it.
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.sqlstate.as_deref()
    }

    /// The server said so.
    pub(super) fn server(attempt: Attempt, message: &ServerMessage) -> Self {
        let (kind, mend) = policy::classify(attempt, &message.sqlstate, &message.text);
        Self::build(kind, attempt, Some(message.sqlstate.clone()), message.text.clone(), mend, None)
    }

    /// The connection broke; it will come back.
    pub(super) fn broken(attempt: Attempt, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let what = "the connection broke".to_owned();
        Self::build(SourceErrorKind::Retry, attempt, None, what, "", Some(source.into()))
    }

    /// The server closed the connection without a word.
    pub(super) fn closed(attempt: Attempt) -> Self {
        let what = "the server closed the connection".to_owned();
        Self::build(SourceErrorKind::Retry, attempt, None, what, "", None)
    }

    /// It took longer than it may.
    pub(super) fn timed_out(attempt: Attempt, limit: Duration) -> Self {
        let what = format!("no answer within {} ms", limit.as_millis());
        let mend = policy::timed_out(attempt);
        Self::build(SourceErrorKind::Retry, attempt, None, what, mend, None)
    }

    /// The other side does not speak the protocol as we know it.
    pub(super) fn protocol(attempt: Attempt, what: impl Into<String>) -> Self {
        let mend = "check that the host and port are those of Postgres itself and not of a pooler";
        Self::build(SourceErrorKind::Halt, attempt, None, what.into(), mend, None)
    }

    /// Someone must mend something that the server did not say with a code.
    pub(super) fn refused(
        kind: SourceErrorKind,
        attempt: Attempt,
        what: impl Into<String>,
        mend: &'static str,
        source: Option<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::build(kind, attempt, None, what.into(), mend, source)
    }

    /// TLS did not accept the server, or the settings for it.
    pub(super) fn untrusted(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let what = "the TLS handshake failed".to_owned();
        let mend = "the certificate must be made out to this host and signed by the given authority";
        Self::build(SourceErrorKind::Denied, Attempt::Connect, None, what, mend, Some(source.into()))
    }

    /// The password would not be bound to the TLS connection, although it must be.
    pub(super) fn unbound() -> Self {
        let what = "the server does not bind the password to the TLS connection, which channel_binding=require asks for";
        let mend = "let pg_hba.conf use scram-sha-256, store the password so, connect to Postgres itself and not to \
                    something that ends TLS before it, and let the certificate be signed with RSA or ECDSA";
        Self::refused(SourceErrorKind::Denied, Attempt::Connect, what, mend, None)
    }

    /// What `tokio-postgres` reports about an ordinary connection.
    pub(super) fn client(attempt: Attempt, error: tokio_postgres::Error) -> Self {
        let Some(database) = error.as_db_error() else {
            if is_unbound(&error) {
                return Self::unbound();
            }
            return if tls::is_refusal(&error) {
                Self::untrusted(error)
            } else {
                Self::broken(attempt, error)
            };
        };
        let message = ServerMessage {
            sqlstate: database.code().code().to_owned(),
            text: database.message().to_owned(),
            routine: String::new(),
        };
        Self::server(attempt, &message)
    }

    fn build(
        kind: SourceErrorKind,
        attempt: Attempt,
        sqlstate: Option<String>,
        what: String,
        mend: &'static str,
        source: Option<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(Inner { kind, attempt, sqlstate, what, mend, source }))
    }
}

/// It tells this only in the words of its cause.
fn is_unbound(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|cause| cause.to_string() == "server did not use channel binding")
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { attempt, sqlstate, what, mend, .. } = &*self.0;
        write!(f, "{attempt}: {what}")?;
        if let Some(sqlstate) = sqlstate {
            write!(f, " (SQLSTATE {sqlstate})")?;
        }
        if mend.is_empty() { Ok(()) } else { write!(f, "; {mend}") }
    }
}

impl Error for SourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "cannot connect to Postgres",
            Self::IdentifySystem => "cannot identify the Postgres system",
            Self::CreateSlot => "cannot create the replication slot",
            Self::DropSlot => "cannot drop the replication slot",
            Self::StartReplication => "cannot start replication",
            Self::Stream => "the replication stream ended",
            Self::Finish => "cannot end the replication stream in order",
            Self::Catalog => "cannot read Postgres' catalog",
            Self::Lease => "cannot hold the lease of the source",
        })
    }
}
