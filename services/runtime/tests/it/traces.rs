//! Traces reach a collector, as children of the caller's span.

use axum::{Router, body::Bytes, response::IntoResponse as _, routing::post};
use tailrace_runtime::{task, telemetry};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tonic::{
    Request,
    service::Routes,
    transport::{Server as TonicServer, server::TcpIncoming},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{DEADLINE, Server};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const TRACE_ID: [u8; 16] = *b"\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector that hands every export on as it came.
async fn collector() -> (String, mpsc::UnboundedReceiver<Bytes>) {
    let (exports, received) = mpsc::unbounded_channel();
    let export = async move |body: Bytes| {
        // The test may have seen enough.
        let _ = exports.send(body);
        ([("content-type", "application/grpc"), ("grpc-status", "0")], "").into_response()
    };
    let routes = Routes::from(Router::new().route(EXPORT, post(export)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let server = TonicServer::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(listener));
    task::spawn("collector", server);
    (format!("http://{address}"), received)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_a_span_of_the_callers_trace() {
    let (endpoint, mut exports) = collector().await;
    let telemetry = telemetry::init("test", "off", &endpoint).expect("telemetry");
    let server = Server::start(&[]).await;
    let mut request = Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().expect("a value"));
    HealthClient::new(server.channel()).check(request).await.expect("healthy");
    server.stop().await;
    telemetry.flush().await;

    let seen = async {
        loop {
            let export = exports.recv().await.expect("an export");
            let has = |part: &[u8]| export.windows(part.len()).any(|window| window == part);
            if has(&TRACE_ID) && has(b"grpc.health.v1.Health/Check") {
                return;
            }
        }
    };
    timeout(DEADLINE, seen).await.expect("the span is exported");
}
