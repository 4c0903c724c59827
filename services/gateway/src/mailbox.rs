//! What waits for one subscriber to be sent, bounded in bytes.
//!
//! A channel bounds messages, and a message can be a megabyte. And when a subscriber reads too slowly, what waits is
//! thrown away at once: the subscriber never got it, so its last cursor leads to it again.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::Stream;
use tonic::Status;

use crate::wire::Frame;

/// A mailbox: the end to fill and the end to send from. A frame is accepted while less than `bytes_max` wait.
pub fn mailbox(bytes_max: usize) -> (Sender, Receiver) {
    let shared = Arc::new(Shared { state: Mutex::default(), bytes_max });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// The end to fill.
#[derive(Debug)]
pub struct Sender(Arc<Shared>);

/// The end to send from.
#[derive(Debug)]
pub struct Receiver(Arc<Shared>);

/// Nobody reads any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    end: Option<Status>,
    ended: bool,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Sender {
    /// Puts a frame in, as soon as there is room.
    pub async fn send(&self, frame: Frame) -> Result<(), Closed> {
        let mut frame = Some(frame);
        poll_fn(|context| {
            let mut state = self.0.lock();
            if state.closed {
                return Poll::Ready(Err(Closed));
            }
            if state.bytes >= self.0.bytes_max {
                state.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            if let Some(frame) = frame.take() {
                state.bytes += frame.size_bytes();
                state.frames.push_back(frame);
                state.wake_reader();
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Returns when nobody reads any more. Not to be awaited beside [`Sender::send`] from another task.
    pub async fn closed(&self) {
        poll_fn(|context| {
            let mut state = self.0.lock();
            if state.closed {
                return Poll::Ready(());
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Ends the stream after what waits.
    pub fn finish(self, status: Status) {
        let mut state = self.0.lock();
        state.end = Some(status);
        state.wake_reader();
    }

    /// Ends the stream in place of what waits.
    pub fn fail(self, status: Status) {
        let mut state = self.0.lock();
        state.frames.clear();
        state.bytes = 0;
        state.end = Some(status);
        state.wake_reader();
    }
}

impl Stream for Receiver {
    type Item = Result<Frame, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.lock();
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.size_bytes();
            if let Some(writer) = state.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        if let Some(status) = state.end.take() {
            state.ended = true;
            return Poll::Ready(Some(Err(status)));
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.frames.clear();
        state.bytes = 0;
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    fn frame(cursor: &str) -> Frame {
        Frame { cursor: cursor.to_owned(), message: Bytes::from_static(b"0123456789") }
    }

    fn next(receiver: &mut Receiver) -> Option<Option<Result<String, tonic::Code>>> {
        receiver
            .next()
            .now_or_never()
            .map(|item| item.map(|result| result.map(|frame| frame.cursor).map_err(|status| status.code())))
    }

    #[test]
    fn frames_come_out_in_order_and_then_the_end() {
        let (sender, mut receiver) = mailbox(1000);
        assert_eq!(next(&mut receiver), None);
        for cursor in ["a", "b"] {
            assert_eq!(sender.send(frame(cursor)).now_or_never(), Some(Ok(())));
        }
        sender.finish(Status::unavailable(""));
        assert_eq!(next(&mut receiver), Some(Some(Ok("a".to_owned()))));
        assert_eq!(next(&mut receiver), Some(Some(Ok("b".to_owned()))));
        assert_eq!(next(&mut receiver), Some(Some(Err(tonic::Code::Unavailable))));
        assert_eq!(next(&mut receiver), Some(None));
    }

    #[test]
    fn a_full_mailbox_makes_the_sender_wait_for_the_reader() {
        let (sender, mut receiver) = mailbox(1);
        assert_eq!(sender.send(frame("a")).now_or_never(), Some(Ok(())));
        assert_eq!(sender.send(frame("b")).now_or_never(), None);
        assert_eq!(next(&mut receiver), Some(Some(Ok("a".to_owned()))));
        assert_eq!(sender.send(frame("b")).now_or_never(), Some(Ok(())));
    }

    #[test]
    fn failing_throws_away_what_waits() {
        let (sender, mut receiver) = mailbox(1000);
        assert_eq!(sender.send(frame("a")).now_or_never(), Some(Ok(())));
        sender.fail(Status::resource_exhausted(""));
        assert_eq!(next(&mut receiver), Some(Some(Err(tonic::Code::ResourceExhausted))));
    }

    #[test]
    fn a_reader_that_left_closes_the_mailbox() {
        let (sender, receiver) = mailbox(1000);
        assert_eq!(sender.closed().now_or_never(), None);
        drop(receiver);
        assert_eq!(sender.closed().now_or_never(), Some(()));
        assert_eq!(sender.send(frame("a")).now_or_never(), Some(Err(Closed)));
    }
}
