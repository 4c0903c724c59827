//! The ops port: `/livez`, `/readyz`, `/metrics`, and nothing else. It has no authentication and belongs on an inner
//! network.

use std::io;

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::{health::Readiness, shutdown::Shutdown};

/// Serves the ops port until `stop` is requested, which must come after the drain.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: PrometheusHandle,
    stop: Shutdown,
) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(render).with_state(metrics));
    tokio::select! {
        // Dropped, not drained: an idle keep-alive connection of a scraper must not hold up the exit.
        outcome = axum::serve(listener, router) => outcome,
        () = stop.wait() => Ok(()),
    }
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    let status = if readiness.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, readiness.to_string())
}

async fn render(State(metrics): State<PrometheusHandle>) -> impl IntoResponse {
    metrics.run_upkeep();
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}
