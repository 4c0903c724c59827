//! The gRPC port of a process: gRPC and gRPC-Web with CORS, reflection, health, limits, and a drain that ends long
//! streams.
//!
//! ```text
//! TCP ─► TLS, HTTP/1.1 or HTTP/2 ([`port`]) ─► CORS ─► gRPC-Web ─► observe ─► rate ─► guard ─► routes
//!                                                                          │         │       └ who may call what
//!                                                                          │         └ where from, and how often
//!                                                                          └ request id, span, log line, metric
//! ```

mod deadline;
mod explain;
mod headers;
mod observe;
mod places;
mod port;
mod prompt;
mod punctual;

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, ServiceBuilder};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::info;

pub(crate) use self::observe::OTHER_METHOD;
#[cfg(test)]
pub(crate) use self::observe::code_name;
use self::{headers::HeadersLayer, observe::ObserveLayer, port::Port};
use crate::{
    access::Guard,
    auth::Verifier,
    health::Readiness,
    process::{Context, Misconfigured},
    rate::RateLayer,
    request,
    settings::GrpcSettings,
    task,
    tls::PortTls,
};

const HEALTH_SERVICE: &str = tonic_health::pb::health_server::SERVICE_NAME;
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(3600);

/// Why the port could not be served.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ServeError(#[from] ServeErrorKind);

#[derive(Debug, thiserror::Error)]
enum ServeErrorKind {
    #[error(transparent)]
    Misconfigured(#[from] Misconfigured),
    #[error("the descriptors cannot be served by reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
}

/// Serves `routes` on `listener` until shutdown is requested and every call has ended. A stream that is still open then
/// ends with `UNAVAILABLE` as soon as it has nothing to send. `service_names` are the full names that health
/// answers for and metrics count; they are serving exactly while the process is ready. Handlers ask by themselves who calls,
/// with clones of `verifier`; whom it has verified of late has a rate of calls of his own.
pub async fn serve(
    verifier: Verifier,
    listener: TcpListener,
    settings: &GrpcSettings,
    context: Context,
    routes: Routes,
    service_names: &[&'static str],
) -> Result<(), ServeError> {
    serve_behind(Guard::new(None), verifier, listener, settings, context, routes, service_names).await
}

/// [`serve`] with the table of [`crate::access`] in front of every handler, which finds its caller by
/// [`crate::access::Caller::of`].
pub async fn serve_guarded(
    verifier: Verifier,
    listener: TcpListener,
    settings: &GrpcSettings,
    context: Context,
    routes: Routes,
    service_names: &[&'static str],
) -> Result<(), ServeError> {
    let guard = Guard::new(Some(verifier.clone()));
    serve_behind(guard, verifier, listener, settings, context, routes, service_names).await
}

async fn serve_behind(
    guard: Guard,
    verifier: Verifier,
    listener: TcpListener,
    settings: &GrpcSettings,
    context: Context,
    routes: Routes,
    service_names: &[&'static str],
) -> Result<(), ServeError> {
    let cors = cors(settings).map_err(ServeErrorKind::from)?;
    let tls = PortTls::load(&settings.tls).map_err(ServeErrorKind::from)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    report(&reporter, service_names, false).await;
    let names = service_names.to_vec();
    task::spawn("health", follow(reporter, names.clone(), context.readiness.clone()));
    let mut routes = routes.add_service(health);
    if settings.reflection {
        routes = add_reflection(routes, service_names).map_err(ServeErrorKind::Reflection)?;
    }
    let layers = ServiceBuilder::new()
        .layer(HeadersLayer::new(settings.header_bytes_max))
        .layer(cors)
        .layer(GrpcWebLayer::new())
        .layer(ObserveLayer::new(context.shutdown.clone(), settings.connections.message_timeout))
        .layer(RateLayer::new(settings, verifier, &context.clock))
        .layer(guard)
        .into_inner();
    if let Ok(address) = listener.local_addr() {
        info!(grpc.address = %address, "listening");
    }
    let current = tls.as_ref().map(PortTls::current);
    if let Some(tls) = tls {
        task::spawn("certificate", tls.follow(context.readiness, context.shutdown.clone()));
    }
    Port::new(settings, current, context.shutdown).serve(listener, layers.layer(routes)).await;
    Ok(())
}

/// Checks what [`serve`] would refuse, for `--check-config`.
pub fn check(settings: &GrpcSettings) -> Result<(), Misconfigured> {
    drop(cors(settings)?);
    settings.connections.check()?;
    PortTls::load(&settings.tls).map(drop)
}

fn cors(settings: &GrpcSettings) -> Result<CorsLayer, Misconfigured> {
    let origins =
        settings.cors_origins.iter().filter(|origin| !origin.is_empty()).map(|origin| origin_value(origin));
    let request_headers = [
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        HeaderName::from_static("x-grpc-web"),
        HeaderName::from_static("x-user-agent"),
        HeaderName::from_static("grpc-timeout"),
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("tracestate"),
        HeaderName::from_static(request::ID_HEADER),
    ];
    // An error without a body travels in the response headers, where scripts see only what is exposed.
    let response_headers = [
        HeaderName::from_static("grpc-status"),
        HeaderName::from_static("grpc-message"),
        HeaderName::from_static("grpc-status-details-bin"),
        HeaderName::from_static(request::ID_HEADER),
    ];
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.collect::<Result<Vec<_>, _>>()?))
        .allow_methods([Method::POST])
        .allow_headers(request_headers)
        .expose_headers(response_headers)
        .max_age(PREFLIGHT_MAX_AGE))
}

fn origin_value(origin: &str) -> Result<HeaderValue, Misconfigured> {
    let refused =
        || Misconfigured::new(format!("TAILRACE_CORS_ORIGINS: `{origin}` is not like `https://example.org`"));
    let host =
        origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).ok_or_else(refused)?;
    if host.is_empty() || host.contains(['/', '*', ' ']) {
        return Err(refused());
    }
    origin.parse().map_err(|_| refused())
}

/// Both versions, because clients know one or the other, with the `google.rpc` details that errors carry. They list what
/// this port serves and know the whole contract.
fn add_reflection(routes: Routes, service_names: &[&str]) -> Result<Routes, tonic_reflection::server::Error> {
    let builder = || {
        let names = service_names.iter().chain(&[HEALTH_SERVICE]);
        let builder = tonic_reflection::server::Builder::configure();
        names
            .fold(builder, |builder, name| builder.with_service_name(*name))
            .register_encoded_file_descriptor_set(tailrace::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}

/// Keeps health true to readiness for as long as the process lives.
async fn follow(reporter: HealthReporter, names: Vec<&'static str>, readiness: Readiness) {
    loop {
        let ready = readiness.ready();
        report(&reporter, &names, ready).await;
        if readiness.stopping() {
            return;
        }
        readiness.changed_from(ready).await;
    }
}

async fn report(reporter: &HealthReporter, names: &[&'static str], ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in names.iter().copied().chain([""]) {
        reporter.set_service_status(name, status).await;
    }
}
