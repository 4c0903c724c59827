//! The stream: `CopyData` frames in, status updates out, in two halves so that one `select!` can hold both.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use replication_protocol::StandbyStatusUpdate;
use replication_protocol::frame::{self, Frame, FrameError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tracing::debug;

use super::backend;
use super::error::{Attempt, SourceError, SourceErrorKind};
use super::socket::Duplex;
use super::startup::Session;
use super::wire::within;

/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 256 << 10;
/// With less room than this left in the buffer, the next read gets a new one.
const READ_BYTES_MIN: usize = 32 << 10;

/// A started stream. Its halves are fields so that a loop can await both.
pub struct ReplicationStream {
    /// What the server sends.
    pub reader: FrameReader,
    /// What we tell it.
    pub writer: StatusWriter,
    backend_pid: i32,
}

impl ReplicationStream {
    pub(super) fn new(session: Session) -> Self {
        let Session { wire, backend_pid, server_version: _ } = session;
        let (read, write) = tokio::io::split(wire.stream);
        Self {
            reader: FrameReader {
                socket: read,
                // What came with the answer to START_REPLICATION is the beginning of the stream.
                received: wire.received,
                frame_bytes_max: wire.frame_bytes_max,
                ended: None,
            },
            writer: StatusWriter { socket: write, outgoing: BytesMut::new(), next: None, flushed: true },
            backend_pid,
        }
    }

    /// The process on the server that sends this stream.
    pub const fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// Ends the stream in order: the last status, then the end of the copy, then whatever the server still sends until
    /// it is ready again. Then the slot has taken the status and is free.
    ///
    /// # Errors
    /// If the server does not confirm within `limit`, or the stream had failed before. The status may be lost then,
    /// which costs a repetition and no event.
    pub async fn finish(mut self, last: StandbyStatusUpdate, limit: Duration) -> Result<(), SourceError> {
        within(limit, Attempt::Finish, async {
            self.writer.queue(last);
            self.writer.flush().await?;
            self.writer.send(frontend::copy_done).await?;
            self.reader.drain_until_ready().await?;
            self.writer.send(frontend::terminate).await
        })
        .await
    }
}

/// The reading half.
pub struct FrameReader {
    socket: ReadHalf<Box<dyn Duplex>>,
    received: BytesMut,
    frame_bytes_max: usize,
    /// Once the stream has ended nothing may be read from it again, and every call says why.
    ended: Option<SourceError>,
}

impl FrameReader {
    /// Waits for bytes and appends the bodies of all `CopyData` frames that are complete then, without copying them;
    /// at least one. What one call adds is bounded by one read, or by one frame if that is longer.
    ///
    /// Cancel safe: when dropped while it waits, nothing is lost.
    ///
    /// # Errors
    /// When the stream has ended, for the reason it ended, after all frames before the end were given out.
    /// Every later call returns the same.
    pub async fn next_frames(&mut self, bodies: &mut Vec<Bytes>) -> Result<(), SourceError> {
        let before = bodies.len();
        loop {
            if let Some(reason) = &self.ended {
                return Err(reason.clone());
            }
            self.ended = self.split_frames(bodies).err();
            if bodies.len() > before {
                return Ok(());
            }
            if self.ended.is_none() {
                self.ended = self.fill().await.err();
            }
        }
    }

    /// Gives out every complete frame in the buffer.
    fn split_frames(&mut self, bodies: &mut Vec<Bytes>) -> Result<(), SourceError> {
        while let Some(Frame { tag, body }) =
            frame::split(&mut self.received, self.frame_bytes_max).map_err(unreadable)?
        {
            match tag {
                b'd' => bodies.push(body),
                b'E' => return Err(SourceError::server(Attempt::Stream, &backend::server_message(body))),
                // The server ends the copy or completes the command by itself only when it goes away.
                b'c' | b'C' | b'Z' => return Err(SourceError::closed(Attempt::Stream)),
                b'N' => {
                    if let Some(loss) = backend::loss_in_notice(body) {
                        return Err(SourceError::server(Attempt::Stream, &loss));
                    }
                }
                b'S' => {}
                tag => debug!(frame.tag = tag, "the server sent a frame that the relay does not know"),
            }
        }
        Ok(())
    }

    /// One read. Dropped while it waits, it has read nothing.
    async fn fill(&mut self) -> Result<(), SourceError> {
        if self.received.capacity() - self.received.len() < READ_BYTES_MIN {
            self.received.reserve(READ_BYTES);
        }
        match self.socket.read_buf(&mut self.received).await {
            Ok(0) => Err(SourceError::closed(Attempt::Stream)),
            Ok(_) => Ok(()),
            Err(error) => Err(SourceError::broken(Attempt::Stream, error)),
        }
    }

    /// Throws away what comes until the server waits for a command again.
    async fn drain_until_ready(&mut self) -> Result<(), SourceError> {
        if let Some(reason) = &self.ended {
            return Err(reason.clone());
        }
        loop {
            match frame::split(&mut self.received, self.frame_bytes_max).map_err(unreadable)? {
                Some(Frame { tag: b'Z', .. }) => return Ok(()),
                Some(Frame { tag: b'E', body }) => {
                    return Err(SourceError::server(Attempt::Finish, &backend::server_message(body)));
                }
                Some(_) => {}
                None => self.fill().await?,
            }
        }
    }
}

/// The writing half. It holds one status at most: a later one replaces one that has not begun to be sent.
pub struct StatusWriter {
    socket: WriteHalf<Box<dyn Duplex>>,
    /// The rest of the frame that is being sent.
    outgoing: BytesMut,
    next: Option<StandbyStatusUpdate>,
    /// Whether everything written has left the TLS layer.
    flushed: bool,
}

impl StatusWriter {
    /// Takes note of the status to be sent next. [`StatusWriter::flush`] sends it.
    pub fn queue(&mut self, status: StandbyStatusUpdate) {
        self.next = Some(status);
    }

    /// Whether there is nothing for [`StatusWriter::flush`] to do.
    pub fn is_idle(&self) -> bool {
        self.outgoing.is_empty() && self.next.is_none() && self.flushed
    }

    /// Sends what was queued; returns at once if there is nothing.
    ///
    /// Cancel safe: when dropped while it waits, the next call goes on where it was.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn flush(&mut self) -> Result<(), SourceError> {
        while !self.is_idle() {
            if self.outgoing.is_empty()
                && let Some(status) = self.next.take()
            {
                frame::put_copy_data(&status.to_bytes(), &mut self.outgoing);
            }
            self.write_out().await.map_err(|error| SourceError::broken(Attempt::Stream, error))?;
        }
        Ok(())
    }

    /// [`StatusWriter::queue`] and [`StatusWriter::flush`] in one.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn send_status(&mut self, status: StandbyStatusUpdate) -> Result<(), SourceError> {
        self.queue(status);
        self.flush().await
    }

    /// Sends a frame that is not a status, behind what is queued.
    async fn send(&mut self, put_frame: impl FnOnce(&mut BytesMut)) -> Result<(), SourceError> {
        put_frame(&mut self.outgoing);
        self.write_out().await.map_err(|error| SourceError::broken(Attempt::Finish, error))
    }

    async fn write_out(&mut self) -> io::Result<()> {
        while self.outgoing.has_remaining() {
            self.flushed = false;
            self.socket.write_buf(&mut self.outgoing).await?;
        }
        self.socket.flush().await?;
        self.flushed = true;
        Ok(())
    }
}

fn unreadable(error: FrameError) -> SourceError {
    match error {
        FrameError::TooLong { .. } => {
            let mend = "raise the limit of frame bytes in the settings, or take the row out of the outbox";
            SourceError::refused(SourceErrorKind::Halt, Attempt::Stream, error.to_string(), mend, None)
        }
        FrameError::TooShort { .. } => SourceError::protocol(Attempt::Stream, error.to_string()),
    }
}
