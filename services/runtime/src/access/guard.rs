//! The layer that enforces the table. It sits behind the one that gives calls their ids, so that a refusal names its call.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use tonic::{Status, body::Body, metadata::MetadataMap};
use tower::{Layer, Service};

use super::{Caller, Rule, not_allowed, rule_of};
use crate::{
    auth::{Principal, Verifier},
    error::Problem,
};

/// What every port serves besides the contract: it tells nothing that is anybody's.
pub(super) const OPEN: &[&str] = &[
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Lets calls through as the table says. Without a verifier it lets everything through: the service asks by itself.
#[derive(Clone)]
pub(crate) struct Guard {
    verifier: Option<Verifier>,
}

impl Guard {
    pub(crate) fn new(verifier: Option<Verifier>) -> Self {
        Self { verifier }
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, verifier: self.verifier.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    verifier: Option<Verifier>,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let rpc = request.uri().path().strip_prefix('/').unwrap_or_default();
        let Some(verifier) = self.verifier.clone().filter(|_| !is_open(rpc)) else {
            return Box::pin(self.inner.call(request));
        };
        let rule = rule_of(rpc);
        // The one that was polled ready goes into the call, its clone waits for the next.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let known = request.extensions_mut().remove();
        Box::pin(async move {
            let admitted = admitted(&verifier, rule, known, request.headers()).await;
            match admitted {
                Ok(caller) => {
                    if let Some(caller) = caller {
                        request.extensions_mut().insert(caller);
                    }
                    inner.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// Whether an RPC is one of those that every port serves.
pub(crate) fn is_open(rpc: &str) -> bool {
    OPEN.contains(&rpc)
}

/// The caller to tell the handler of; none when anyone may call. `known` is who calls, where [`crate::rate`] has found it out.
async fn admitted(
    verifier: &Verifier,
    rule: Option<&'static Rule>,
    known: Option<Principal>,
    headers: &HeaderMap,
) -> Result<Option<Caller>, Status> {
    let Some(rule) = rule else { return Err(Problem::method_unknown().into_status()) };
    // Whoever may call without a token may do so with a bad one: it is how one gets a better.
    if rule.anyone.is_some() {
        return Ok(None);
    }
    let principal = match known {
        Some(principal) => principal,
        None => verifier.authenticate(&MetadataMap::from_headers(headers.clone())).await?,
    };
    let reach = if principal.operator { rule.operator } else { rule.user };
    match reach {
        Some(reach) => Ok(Some(Caller { principal, reach })),
        None => {
            principal.require_operator()?;
            Err(not_allowed())
        }
    }
}
