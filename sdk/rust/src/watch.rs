//! A stream of events that outlives its connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::try_unfold;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, Streaming};

use crate::backoff::Backoff;
use crate::calls::Calls;
use crate::failure::{failure_of, is_passing};
use crate::stream::v1::event_stream_service_client::EventStreamServiceClient;
use crate::stream::v1::watch_request::Start;
use crate::stream::v1::watch_response::Message;
use crate::stream::v1::{WatchRequest, WatchResponse};

/// Where a watch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WatchState {
    /// Not begun.
    Idle,
    /// A call is under way and nothing has arrived yet.
    Connecting,
    /// Events arrive that were in the topics before this call.
    CatchingUp,
    /// What arrives is new.
    Live,
    /// The call failed; the next begins after a wait.
    Waiting,
    /// The call failed and another would fail likewise.
    Failed,
}

/// How a watch goes on.
#[derive(Clone)]
pub struct WatchOptions {
    /// The bounds of the waits between calls, to which comes what the server's `RetryInfo` asks for.
    pub backoff: Backoff,
    /// How long silence may last before the call is given up for a new one.
    pub abandon_after: Duration,
    /// Called with each new state.
    pub on_state: Arc<dyn Fn(WatchState) + Send + Sync>,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            backoff: Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(30) },
            abandon_after: Duration::from_secs(45),
            on_state: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for WatchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchOptions").field("backoff", &self.backoff).finish_non_exhaustive()
    }
}

/// A stream of events that outlives its connections: each new call begins after the last cursor, so that a reader sees every
/// event once, in order.
///
/// It does not buffer, filter or deduplicate, and it does not look at the events. Dropping it ends the call.
#[derive(Debug)]
pub struct Watch {
    events: EventStreamServiceClient<Calls>,
    request: WatchRequest,
    options: WatchOptions,
    renews_token: bool,
    call: Option<Streaming<WatchResponse>>,
    state: WatchState,
    attempt: u32,
}

impl Watch {
    pub(crate) fn new(
        events: EventStreamServiceClient<Calls>,
        request: WatchRequest,
        options: WatchOptions,
        renews_token: bool,
    ) -> Self {
        Self { events, request, options, renews_token, call: None, state: WatchState::Idle, attempt: 0 }
    }

    /// Where it stands.
    pub fn state(&self) -> WatchState {
        self.state
    }

    /// The cursor after the last response that was read.
    pub fn cursor(&self) -> Option<&str> {
        match &self.request.start {
            Some(Start::Cursor(cursor)) => Some(cursor),
            Some(Start::Live(_) | Start::Earliest(_) | Start::Newest(_)) | None => None,
        }
    }

    /// The next response. It can be dropped and called again: nothing is lost.
    ///
    /// # Errors
    ///
    /// When another call would fail like the last (no permission, a bad request). Call it again to go on after the last
    /// cursor.
    pub async fn next(&mut self) -> Result<WatchResponse, Status> {
        loop {
            match timeout(self.options.abandon_after, self.receive()).await {
                Ok(Ok(response)) => return Ok(self.read(response)),
                Ok(Err(status)) => self.recover(status).await?,
                Err(_) => self.recover(Status::unavailable("nothing was heard from the server")).await?,
            }
        }
    }

    /// The responses as a stream, which ends with the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<WatchResponse, Status>> + Send {
        try_unfold(self, |mut watch| async move { Ok(Some((watch.next().await?, watch))) })
    }

    async fn receive(&mut self) -> Result<WatchResponse, Status> {
        let call = match self.call.take() {
            Some(call) => self.call.insert(call),
            None => {
                self.enter(WatchState::Connecting);
                let call = self.events.watch(self.request.clone()).await?.into_inner();
                self.call.insert(call)
            }
        };
        call.message().await?.ok_or_else(|| Status::unavailable("the server ended the stream"))
    }

    fn read(&mut self, response: WatchResponse) -> WatchResponse {
        self.attempt = 0;
        if !response.cursor.is_empty() {
            self.request.start = Some(Start::Cursor(response.cursor.clone()));
        }
        if matches!(response.message, Some(Message::CaughtUp(_))) {
            self.enter(WatchState::Live);
        } else if self.state == WatchState::Connecting {
            self.enter(WatchState::CatchingUp);
        }
        response
    }

    async fn recover(&mut self, status: Status) -> Result<(), Status> {
        self.call = None;
        let has_begun = self.state != WatchState::Connecting;
        if status.code() == Code::Unauthenticated && self.renews_token && has_begun {
            return Ok(());
        }
        if !is_passing(status.code()) {
            self.enter(WatchState::Failed);
            return Err(status);
        }
        self.enter(WatchState::Waiting);
        let wait = failure_of(&status).retry_after + self.options.backoff.draw(self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        sleep(wait).await;
        Ok(())
    }

    fn enter(&mut self, state: WatchState) {
        self.state = state;
        (self.options.on_state)(state);
    }
}
