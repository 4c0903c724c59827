//! Logs, traces and metrics of a process. Logs are JSON lines on stdout; traces leave over OTLP when an endpoint is set;
//! metrics wait for a scrape of the ops port.
//!
//! Nothing here may carry a payload, a token or an e-mail address: fields are chosen at the call, never dumped.

use std::{sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tokio::task::spawn_blocking;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::process::Misconfigured;

/// Buckets of every duration histogram, in seconds: from a cached answer to a call near its deadline.
const DURATION_BUCKETS_S: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// What must be flushed before the process ends.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends the spans that wait.
    pub async fn flush(self) {
        if let Some(traces) = self.traces {
            // A collector that is gone must not turn a clean stop into a failed one.
            let _ = spawn_blocking(move || traces.shutdown_with_timeout(EXPORT_TIMEOUT)).await;
        }
    }
}

/// Starts logging under `filter` and, unless `otlp_endpoint` is empty, exporting traces there. Needs a Tokio runtime.
pub fn init(name: &'static str, filter: &str, otlp_endpoint: &str) -> Result<Telemetry, Misconfigured> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Misconfigured::new(format!("TAILRACE_LOG: {error}; try `info`")))?;
    let logs =
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).with_filter(filter);
    let traces = if otlp_endpoint.is_empty() { None } else { Some(tracer_provider(name, otlp_endpoint)?) };
    let spans = traces.as_ref().map(|provider| {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("tailrace"))
            .with_filter(tracing_subscriber::filter::LevelFilter::INFO)
    });
    // Fails only when a test in the same process was first; that one's output serves as well.
    let _ = tracing_subscriber::registry().with(logs).with(spans).try_init();
    metrics();
    Ok(Telemetry { traces })
}

/// The metrics of this process, installed at the first call.
pub fn metrics() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS_S)
                .and_then(PrometheusBuilder::install_recorder)
                .expect("the buckets are not empty and this is the only recorder")
        })
        .clone()
}

fn tracer_provider(name: &'static str, endpoint: &str) -> Result<SdkTracerProvider, Misconfigured> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| Misconfigured::new(format!("TAILRACE_OTLP_ENDPOINT: {error}")))?;
    let resource = Resource::builder().with_service_name(name).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}
