//! The largest header list, held to over HTTP/1.1: the library counts it over HTTP/2 alone. Both answer 431.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use futures::future::Either;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use tonic::body::Body;
use tower::{Layer, Service};

/// What each entry of a list counts beside its name and its value (RFC 9113, 6.5.2).
const ENTRY_BYTES: usize = 32;

#[derive(Clone, Copy)]
pub(super) struct HeadersLayer {
    bytes_max: u32,
}

impl HeadersLayer {
    pub(super) fn new(bytes_max: u32) -> Self {
        Self { bytes_max }
    }
}

impl<S> Layer<S> for HeadersLayer {
    type Service = Headers<S>;

    fn layer(&self, inner: S) -> Headers<S> {
        Headers { inner, bytes_max: self.bytes_max as usize }
    }
}

#[derive(Clone)]
pub(super) struct Headers<S> {
    inner: S,
    bytes_max: usize,
}

impl<S> Service<Request<Body>> for Headers<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.version() < Version::HTTP_2 && bytes(request.headers()) > self.bytes_max {
            let mut refusal = Response::new(Body::empty());
            *refusal.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Either::Right(ready(Ok(refusal)));
        }
        Either::Left(self.inner.call(request))
    }
}

fn bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ENTRY_BYTES).sum()
}
