//! What a call brings with it besides its message: the request id and the W3C trace context.
//!
//! The id lives in a task-local for as long as the handler runs, so that an error made anywhere below can name it.

use std::future::Future;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::Request;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

/// The header that carries the request id, in both directions.
pub const ID_HEADER: &str = "x-request-id";
const ID_CHARACTERS_MAX: usize = 64;
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const TRACESTATE_CHARACTERS_MAX: usize = 512;

tokio::task_local! {
    static ID: String;
}

/// The id of the call that this task serves; none outside a call.
pub fn id() -> Option<String> {
    ID.try_with(Clone::clone).ok()
}

/// Where the work that a call starts belongs in a trace, as W3C headers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TraceContext {
    /// `traceparent`; none when the caller sent none and traces are not exported.
    pub traceparent: Option<String>,
    /// `tracestate`, as the caller sent it.
    pub tracestate: Option<String>,
}

/// The trace context to hand on: this call's own span when traces are exported, else what the caller sent.
pub fn trace_context<T>(request: &Request<T>) -> TraceContext {
    let metadata = request.metadata().as_ref();
    let sent = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    let traceparent = own_traceparent()
        .or_else(|| sent(TRACEPARENT).filter(|text| is_traceparent(text)).map(str::to_owned));
    let tracestate =
        sent(TRACESTATE).filter(|text| text.len() <= TRACESTATE_CHARACTERS_MAX).map(str::to_owned);
    TraceContext { tracestate: tracestate.filter(|_| traceparent.is_some()), traceparent }
}

/// [`TraceContext::traceparent`] of a call.
pub fn traceparent<T>(request: &Request<T>) -> Option<String> {
    trace_context(request).traceparent
}

/// Runs a handler as the call with this id.
pub(crate) async fn scope<F: Future>(id: String, handler: F) -> F::Output {
    ID.scope(id, handler).await
}

/// The caller's request id when it is short and plain, so that it can stand in logs; else a new one.
pub(crate) fn id_of(headers: &HeaderMap) -> String {
    let plain = |text: &&str| {
        (1..=ID_CHARACTERS_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let sent = headers.get(ID_HEADER).and_then(|value| value.to_str().ok()).filter(plain);
    sent.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// Makes `span` a child of the caller's span. Does nothing unless traces are exported.
pub(crate) fn continue_trace(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    // The only failure is that no trace layer is installed.
    let _ = span.set_parent(parent);
}

fn own_traceparent() -> Option<String> {
    let mut carrier = Carrier::default();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.traceparent
}

/// `00-{32 hex}-{16 hex}-{2 hex}`, ids not all zero.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let set = |part: &str| part.bytes().any(|byte| byte != b'0');
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags] = parts[..] else { return false };
    version == "00" && hex(trace, 32) && set(trace) && hex(span, 16) && set(span) && hex(flags, 2)
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[derive(Default)]
struct Carrier {
    traceparent: Option<String>,
}

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.traceparent = Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_traceparent(text: &str, expected: bool) {
        assert_eq!(is_traceparent(text), expected, "{text}");
    }

    #[test]
    fn only_a_well_formed_traceparent_is_handed_on() {
        check_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true);
        check_traceparent("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false);
        check_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false);
        check_traceparent("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false);
        check_traceparent("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false);
        check_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", false);
        check_traceparent("", false);
    }

    fn check_id(sent: &str, kept: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(ID_HEADER, sent.parse().expect("a header value"));
        assert_eq!(id_of(&headers) == sent, kept, "{sent}");
    }

    #[test]
    fn a_request_id_is_kept_when_it_is_short_and_plain() {
        check_id("checkout-42", true);
        check_id(&"x".repeat(ID_CHARACTERS_MAX), true);
        check_id(&"x".repeat(ID_CHARACTERS_MAX + 1), false);
        check_id("", false);
        check_id("a b", false);
        check_id("{\"level\":\"ERROR\"}", false);
    }
}
