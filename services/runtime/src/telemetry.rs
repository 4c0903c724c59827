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
use tracing::{Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    Registry,
    filter::{FilterFn, Targets},
    fmt::MakeWriter,
    layer::{Layer, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

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
    let filter: Targets =
        filter.parse().map_err(|error| Misconfigured::new(format!("TAILRACE_LOG: {error}; try `info`")))?;
    let traces = if otlp_endpoint.is_empty() { None } else { Some(tracer_provider(name, otlp_endpoint)?) };
    let spans = traces.as_ref().map(|provider| {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        tracing_opentelemetry::layer().with_tracer(provider.tracer("tailrace")).boxed()
    });
    let subscriber = Registry::default().with(spans).with(gate(filter)).with(logs(std::io::stdout));
    // Fails only when a test in the same process was first; that one's output serves as well.
    let _ = subscriber.try_init();
    metrics();
    Ok(Telemetry { traces })
}

/// Lets through what is to be logged, and the spans that traces are made of whatever is logged.
///
/// One gate for all layers: with a filter for each, the answer to `enabled!` (rdkafka asks on its own threads) is kept for
/// the thread's next event, which is then lost.
fn gate(filter: Targets) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    let targets = filter.iter().map(|(_, level)| level);
    let most = targets.chain(filter.default_level()).chain([LevelFilter::INFO]).max();
    let is_open = move |metadata: &Metadata<'_>| {
        let is_traced = metadata.is_span() && *metadata.level() <= LevelFilter::INFO;
        is_traced || filter.would_enable(metadata.target(), metadata.level())
    };
    FilterFn::new(is_open).with_max_level_hint(most.unwrap_or(LevelFilter::TRACE))
}

/// Events as JSON lines.
fn logs<S, W>(writer: W) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
    W: for<'line> MakeWriter<'line> + 'static,
{
    tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(writer)
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

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex, PoisonError},
    };

    use tracing::{Level, debug, enabled, info};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, run: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let gate = gate(filter.parse().expect("a filter"));
        let subscriber = Registry::default().with(gate).with(logs(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, run);
        let bytes = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn a_question_whether_a_level_is_logged_loses_no_line() {
        let text = logged("info,chatty=debug", || {
            for round in 0..3 {
                assert!(!enabled!(target: "librdkafka", Level::DEBUG));
                info!(round, "kept");
                debug!(target: "chatty", round, "kept");
                debug!(round, "dropped");
            }
        });
        assert_eq!((text.matches("kept").count(), text.matches("dropped").count()), (6, 0), "{text}");
    }

    #[test]
    fn a_filter_that_is_off_logs_nothing_and_still_knows_spans() {
        let mut is_traced = false;
        let text = logged("off", || {
            is_traced = !tracing::info_span!("call").is_disabled();
            tracing::error!("dropped");
        });
        assert_eq!((text.as_str(), is_traced), ("", true));
    }
}
