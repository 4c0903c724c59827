//! The message of a call, which must arrive soon: one that comes byte by byte would hold its call for nothing.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status, body::Body};

use crate::error::Problem;

/// A request's body that fails when its end takes too long.
pub(super) struct Punctual {
    inner: Body,
    limit: Duration,
    /// Begins when the body is waited for: most are there at once.
    late: Option<Pin<Box<Sleep>>>,
}

impl Punctual {
    pub(super) fn new(inner: Body, limit: Duration) -> Self {
        Self { inner, limit, late: None }
    }
}

impl HttpBody for Punctual {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let limit = self.limit;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(limit)));
        late.as_mut().poll(context).map(|()| Some(Err(too_late(limit))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn too_late(limit: Duration) -> Status {
    let words =
        format!("The message of the call did not arrive within {}.", humantime::format_duration(limit));
    Problem::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", words).into_status()
}
