//! Frames on a socket, for the time before the stream: one at a time, each answered before the next.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::frontend;
use replication_protocol::frame::{self, Frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::backend::{self, Malformed};
use super::error::{Attempt, SourceError, SourceErrorKind};
use super::socket::Duplex;

/// A socket, what was read from it and not yet used, and what we are at, which every error names.
pub(super) struct Wire {
    pub(super) stream: Box<dyn Duplex>,
    pub(super) received: BytesMut,
    pub(super) frame_bytes_max: usize,
    pub(super) attempt: Attempt,
}

/// A row of the simple protocol.
pub(super) type Row = Vec<Option<String>>;

impl Wire {
    /// Sends bytes that are whole frames.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        let attempt = self.attempt;
        self.stream.write_all(bytes).await.map_err(|error| SourceError::broken(attempt, error))?;
        self.stream.flush().await.map_err(|error| SourceError::broken(attempt, error))
    }

    /// The next frame that is not a notice or a changed parameter. An error is returned as a frame too.
    pub(super) async fn frame(&mut self) -> Result<Frame, SourceError> {
        loop {
            let next = frame::split(&mut self.received, self.frame_bytes_max)
                .map_err(|error| SourceError::protocol(self.attempt, error.to_string()))?;
            match next {
                Some(Frame { tag: b'N', .. }) => {}
                Some(frame) => return Ok(frame),
                None => self.fill().await?,
            }
        }
    }

    /// Sends a query of the simple protocol and collects its rows.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, SourceError> {
        self.send_query(sql).await?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            let Frame { tag, body } = self.frame().await?;
            match tag {
                b'D' => rows.push(backend::row(body).map_err(|error| self.malformed(error))?),
                b'E' => failure = Some(self.server_error(body)),
                b'Z' => return failure.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// Sends a query of the simple protocol.
    pub(super) async fn send_query(&mut self, sql: &str) -> Result<(), SourceError> {
        let mut frame = BytesMut::with_capacity(sql.len() + 6);
        frontend::query(sql, &mut frame).map_err(|_| {
            let what = "a name in the settings holds a zero byte";
            SourceError::refused(SourceErrorKind::Halt, self.attempt, what, "correct the name", None)
        })?;
        self.send(&frame).await
    }

    /// The error in the body of an 'E' frame.
    pub(super) fn server_error(&self, body: Bytes) -> SourceError {
        SourceError::server(self.attempt, &backend::server_message(body))
    }

    pub(super) fn malformed(&self, error: Malformed) -> SourceError {
        SourceError::protocol(self.attempt, error.to_string())
    }

    async fn fill(&mut self) -> Result<(), SourceError> {
        match self.stream.read_buf(&mut self.received).await {
            Ok(0) => Err(SourceError::closed(self.attempt)),
            Ok(_) => Ok(()),
            Err(error) => Err(SourceError::broken(self.attempt, error)),
        }
    }
}

/// Gives a step of the protocol its deadline.
pub(super) async fn within<T>(
    limit: Duration,
    attempt: Attempt,
    step: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    tokio::time::timeout(limit, step).await.unwrap_or_else(|_| Err(SourceError::timed_out(attempt, limit)))
}
