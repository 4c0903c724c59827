//! The layer around every call: request id, deadline, span, one log line, one measurement, and the end of streams on shutdown.
//!
//! It sits inside gRPC-Web, so it sees trailers as trailers whichever protocol the caller speaks.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use metrics::histogram;
use tokio::time::timeout;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, field::Empty, info, info_span};

use super::{deadline, explain::explain, punctual::Punctual};
use crate::{
    access::{rule_of, served},
    error::{Problem, RETRY_AFTER},
    request,
    shutdown::Shutdown,
};

/// The name of all methods that do not exist: callers make no time series of their own, and write nothing into the log.
pub(crate) const OTHER_METHOD: &str = "_OTHER";

#[derive(Clone)]
pub(super) struct ObserveLayer {
    shutdown: Shutdown,
    message_timeout: Duration,
}

impl ObserveLayer {
    pub(super) fn new(shutdown: Shutdown, message_timeout: Duration) -> Self {
        Self { shutdown, message_timeout }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
pub(super) struct Observe<S> {
    inner: S,
    layer: ObserveLayer,
}

impl<S> Service<Request<Body>> for Observe<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut call = Call::begin(&request);
        let limit = deadline::limit(request.headers()).unwrap_or(Duration::MAX);
        // What is not of the contract may be a stream that the caller keeps open.
        let is_one_message = rule_of(call.method).is_some();
        let request = request.map(|body| match is_one_message {
            true => Body::new(Punctual::new(body, self.layer.message_timeout)),
            false => body,
        });
        let handler = self.inner.call(request);
        let shutdown = self.layer.shutdown.clone();
        Box::pin(async move {
            let handler = handler.instrument(call.span.clone());
            let explained = async {
                // Dropped when it is too late: what it waits for is given up.
                let response = timeout(limit, handler).await;
                let response = response.map_or_else(|_| deadline::answer(), |Ok(response)| response);
                let (mut head, body) = response.into_parts();
                explain(&mut head.headers, &call.request_id);
                (head, body)
            };
            let (mut head, body) = request::scope(call.request_id.clone(), explained).await;
            if let Ok(id) = HeaderValue::from_str(&call.request_id) {
                head.headers.insert(request::ID_HEADER, id);
            }
            call.saw(&head.headers);
            let body =
                ObservedBody { inner: body, stop: Box::pin(shutdown.wait_owned()), call, ended: false };
            Ok(Response::from_parts(head, Body::new(body)))
        })
    }
}

/// One call from its first byte to its last; it is logged and measured when it is dropped, however it ended.
struct Call {
    method: &'static str,
    request_id: String,
    started: Instant,
    status: Option<Code>,
    span: Span,
}

impl Call {
    fn begin(request: &Request<Body>) -> Self {
        let method = request.uri().path().strip_prefix('/').and_then(served).unwrap_or(OTHER_METHOD);
        let request_id = request::id_of(request.headers());
        let span = info_span!(
            "rpc",
            otel.name = method,
            otel.kind = "server",
            rpc.system.name = "grpc",
            rpc.method = method,
            http.request_id = request_id,
            rpc.response.status_code = Empty,
        );
        request::continue_trace(&span, request.headers());
        Self { method, request_id, started: Instant::now(), status: None, span }
    }

    fn saw(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get(Status::GRPC_STATUS) {
            self.status = Some(Code::from_bytes(code.as_bytes()));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // No status was sent: the caller went away first.
        let status = self.status.unwrap_or(Code::Cancelled);
        let elapsed = self.started.elapsed();
        self.span.record("rpc.response.status_code", code_name(status));
        let labels = [("rpc_method", self.method), ("rpc_response_status_code", code_name(status))];
        histogram!("rpc_server_call_duration_seconds", &labels).record(elapsed.as_secs_f64());
        // Outside the span, whose fields it would only repeat.
        info!(
            rpc.method = self.method,
            rpc.grpc.status = code_name(status),
            http.request_id = self.request_id,
            duration_ms = elapsed.as_secs_f64() * 1000.0,
            "call"
        );
    }
}

/// A response body that notes its trailers, and ends on shutdown once it has nothing to send.
struct ObservedBody {
    inner: Body,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    call: Call,
    ended: bool,
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let span = self.call.span.clone();
        let _entered = span.enter();
        if let Poll::Ready(mut frame) = Pin::new(&mut self.inner).poll_frame(context) {
            if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()?.trailers_mut()) {
                explain(trailers, &self.call.request_id);
                self.call.saw(trailers);
            }
            return Poll::Ready(frame);
        }
        // Only a stream waits after its head: a single answer is there at once. Nothing of it is cut off.
        ready!(self.stop.as_mut().poll(context));
        self.ended = true;
        let mut trailers = come_back();
        explain(&mut trailers, &self.call.request_id);
        self.call.saw(&trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn come_back() -> HeaderMap {
    let status = Problem::new(Code::Unavailable, "DRAINING", "This process is stopping; connect again.")
        .retry_after(RETRY_AFTER)
        .into_status();
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from(Code::Unavailable as i32));
    }
    trailers
}

/// The name of a code as the gRPC specification writes it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
