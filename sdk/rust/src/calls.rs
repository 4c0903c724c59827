//! The transport of every client: token, retry, then the channel.
//!
//! ```text
//! request ─▶ request_id ─▶ token ─▶ ┌ send ─▶ UNAVAILABLE? wait ┐ ─▶ token refused? once more ─▶ answer
//!                                   └────────────◀──────────────┘
//! ```
//!
//! It works below the generated clients, on requests as they are on the wire, so that every method has it. A request is one
//! message and is held in memory; so is the answer, unless it is a stream.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::{BodyExt as _, Full};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower_service::Service;

use crate::methods::{self, Method};
use crate::request_id::{fill, new_request_id};
use crate::retry::{RetryOptions, retrying};
use crate::session::Tokens;

const TIMEOUT: &str = "grpc-timeout";

type Response = http::Response<Body>;

/// A transport that sends the caller's token and repeats what may be repeated.
#[derive(Clone)]
pub struct Calls {
    channel: Channel,
    tokens: Tokens,
    retry: RetryOptions,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("retry", &self.retry).finish_non_exhaustive()
    }
}

impl Service<http::Request<Body>> for Calls {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The channel is waited for where a failure of it can be retried.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let calls = self.clone();
        Box::pin(async move { Ok(calls.send(request).await.unwrap_or_else(Status::into_http)) })
    }
}

impl Calls {
    pub(crate) fn new(channel: Channel, tokens: Tokens, retry: RetryOptions) -> Self {
        Self { channel, tokens, retry }
    }

    async fn send(&self, request: http::Request<Body>) -> Result<Response, Status> {
        let method = methods::find(request.uri().path());
        let call = Call::read(request, method).await?;
        let token = self.tokens.token().await?;
        let answer = self.attempts(&call, token.as_deref()).await;
        match (&answer, &token) {
            (Err(status), Some(token)) if self.tokens.refused(token, status).await => {
                let next = self.tokens.token().await?;
                self.attempts(&call, next.as_deref()).await
            }
            _ => answer,
        }
    }

    async fn attempts(&self, call: &Call, token: Option<&str>) -> Result<Response, Status> {
        if call.is_repeatable {
            retrying(self.retry, call.deadline, || self.attempt(call, token)).await
        } else {
            self.attempt(call, token).await
        }
    }

    async fn attempt(&self, call: &Call, token: Option<&str>) -> Result<Response, Status> {
        let request = call.request(token)?;
        let mut channel = self.channel.clone();
        let answer = async {
            poll_fn(|context| channel.poll_ready(context)).await?;
            channel.call(request).await
        };
        let response = answer.await.map_err(|error| lost(&error))?;
        if let Some(status) = failed(response.headers()) {
            return Err(status);
        }
        if call.streams { Ok(response) } else { whole(response).await }
    }
}

/// A call that can be sent more than once.
struct Call {
    head: http::request::Parts,
    body: Bytes,
    deadline: Option<Instant>,
    is_repeatable: bool,
    streams: bool,
}

impl Call {
    async fn read(request: http::Request<Body>, method: Option<&Method>) -> Result<Self, Status> {
        let (head, body) = request.into_parts();
        let mut body = body.collect().await?.to_bytes();
        if let Some(field) = method.and_then(|method| method.request_id) {
            body = fill(body, field, &new_request_id());
        }
        let deadline = timeout(&head.headers).map(|timeout| Instant::now() + timeout);
        let streams = method.is_none_or(|method| method.streams);
        let is_repeatable = !streams && method.is_some_and(|method| method.is_repeatable);
        Ok(Self { head, body, deadline, is_repeatable, streams })
    }

    fn request(&self, token: Option<&str>) -> Result<http::Request<Body>, Status> {
        let mut head = self.head.clone();
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Status::unauthenticated("the access token cannot be sent in a header"))?;
            value.set_sensitive(true);
            head.headers.insert(header::AUTHORIZATION, value);
        }
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis().min(99_999_999);
            let value = HeaderValue::try_from(format!("{left}m")).expect("digits and a letter");
            head.headers.insert(TIMEOUT, value);
        }
        Ok(http::Request::from_parts(head, Body::new(Full::new(self.body.clone()))))
    }
}

/// The answer with its body in memory, or the status it ends with.
async fn whole(response: Response) -> Result<Response, Status> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|status| lost(&status))?;
    let trailers = body.trailers().cloned();
    if let Some(status) = trailers.as_ref().and_then(failed) {
        return Err(status);
    }
    let body = Full::new(body.to_bytes()).with_trailers(async move { trailers.map(Ok) });
    Ok(http::Response::from_parts(head, Body::new(body)))
}

fn failed(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != tonic::Code::Ok)
}

/// A connection that broke without a status.
fn lost(error: &dyn std::error::Error) -> Status {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    Status::unavailable(text)
}

/// What the header says: digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let read = |text: &'static str| {
            timeout(&HeaderMap::from_iter([(
                http::HeaderName::from_static(TIMEOUT),
                HeaderValue::from_static(text),
            )]))
        };
        assert_eq!(read("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("3000000u"), Some(Duration::from_secs(3)));
        assert_eq!(read("3"), None);
        assert_eq!(read(""), None);
    }
}
