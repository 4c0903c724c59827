//! How many calls are let in: so many a second for each principal, and for each address those that no principal answers for.
//!
//! ```text
//! call ─► needs a token, and brings one that was verified of late?
//!            ├─ yes ─► counts for the principal ─┐
//!            └─ no ──► counts for the address ───┴─► guard (verifies what was not) ─► handler (hashes passwords)
//! ```
//!
//! It stands before everything that is costly. Whose token it is costs a look-up as long as [`crate::auth`] remembers having
//! verified it; that answer goes on to the guard, so that nobody looks twice. A token that is not remembered may be anybody's, so its call counts
//! for the address, and only then is the signature checked: a principal's first call in ten seconds counts for where it comes
//! from, the others for himself, wherever they come from. A flood of forged tokens, of sign-ins or of new accounts spends what its own address
//! has. What anyone may call counts for the address whatever it brings, because principals cost nothing to make.
//!
//! Each process counts for itself. Health and reflection are not counted.

mod buckets;

use std::{
    convert::Infallible,
    hash::Hash,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, Either};
use http::{Request, Response};
use metrics::counter;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use self::buckets::Buckets;
use crate::{
    access::{is_open, rule_of, served},
    auth::Verifier,
    client::Proxies,
    clock::Monotonic,
    error::Problem,
    grpc::OTHER_METHOD,
    settings::GrpcSettings,
};

/// Refuses calls that are too many.
#[derive(Clone)]
pub(crate) struct RateLayer {
    limits: Arc<Limits>,
}

struct Limits {
    verifier: Verifier,
    proxies: Proxies,
    /// None: any number.
    principals: Option<Buckets>,
    addresses: Option<Buckets>,
}

impl RateLayer {
    pub(crate) fn new(settings: &GrpcSettings, verifier: Verifier, clock: &Monotonic) -> Self {
        let rates = &settings.rates;
        let principals = Buckets::new(rates.rate_per_principal, rates.rate_burst_per_principal, clock);
        let addresses = Buckets::new(rates.rate_per_address, rates.rate_burst_per_address, clock);
        let proxies = Proxies::new(&settings.proxies);
        Self { limits: Arc::new(Limits { verifier, proxies, principals, addresses }) }
    }
}

impl<S> Layer<S> for RateLayer {
    type Service = Rated<S>;

    fn layer(&self, inner: S) -> Rated<S> {
        Rated { inner, limits: Arc::clone(&self.limits) }
    }
}

#[derive(Clone)]
pub(crate) struct Rated<S> {
    inner: S,
    limits: Arc<Limits>,
}

type Answer = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for Rated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Answer>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.limits.admit(&mut request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            // Made when it is polled: only then it is known which call it answers.
            Err(excess) => Either::Right(Box::pin(async move { Ok(Status::from(excess).into_http()) })),
        }
    }
}

impl Limits {
    /// Counts a call, and tells those behind where it comes from and, if that is known, from whom.
    fn admit(&self, request: &mut Request<Body>) -> Result<(), Excess> {
        let address = self.proxies.client(request.headers(), request.extensions());
        request.extensions_mut().insert(address);
        let rpc = request.uri().path().strip_prefix('/').unwrap_or_default();
        if is_open(rpc) {
            return Ok(());
        }
        let needs_token = rule_of(rpc).is_some_and(|rule| rule.anyone.is_none());
        let principal = needs_token.then(|| self.verifier.remembered(request.headers())).flatten();
        let Some(principal) = principal else {
            return take(self.addresses.as_ref(), address, Party::Address, rpc);
        };
        take(self.principals.as_ref(), principal.user.as_str(), Party::Principal, rpc)?;
        request.extensions_mut().insert(principal);
        Ok(())
    }
}

fn take(buckets: Option<&Buckets>, key: impl Hash, party: Party, rpc: &str) -> Result<(), Excess> {
    let Some(Err(wait)) = buckets.map(|buckets| buckets.take(key)) else { return Ok(()) };
    let method = served(rpc).unwrap_or(OTHER_METHOD);
    counter!("rpc_server_rate_limited_calls_total", "rpc_method" => method, "per" => party.name())
        .increment(1);
    Err(Excess { party, wait })
}

/// For whom a call counts.
#[derive(Clone, Copy, Debug)]
enum Party {
    Principal,
    Address,
}

impl Party {
    fn name(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Address => "address",
        }
    }
}

/// One call too many.
#[derive(Clone, Copy, Debug)]
struct Excess {
    party: Party,
    wait: Duration,
}

impl From<Excess> for Status {
    fn from(Excess { party, wait }: Excess) -> Self {
        Problem::new(
            Code::ResourceExhausted,
            "RATE_LIMIT_EXCEEDED",
            format!("Too many calls from this {}; wait before the next.", party.name()),
        )
        .metadata("per", party.name())
        .retry_after(wait)
        .into_status()
    }
}
