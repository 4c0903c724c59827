//! The ops port.

use tailrace_runtime::{ops, probe, process::Context, shutdown::Shutdown, task, telemetry};
use tokio::{net::TcpListener, task::spawn_blocking};

use service_testing::http;

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_for_the_conditions_and_serves_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let context = Context::detached();
    let stop = Shutdown::new();
    let served = task::spawn(
        "ops",
        ops::serve(listener, context.readiness.clone(), telemetry::metrics(), stop.clone()),
    );
    let get = async |path: &str| http(address, &format!("GET {path} HTTP/1.1"), b"").await;
    let probe = async || spawn_blocking(move || probe::ready(address)).await.expect("no panic");

    let condition = context.readiness.condition("postgres");
    assert!(get("/livez").await.starts_with("HTTP/1.1 200"));
    let starting = get("/readyz").await;
    assert!(starting.starts_with("HTTP/1.1 503") && starting.ends_with("postgres: starting\n"), "{starting}");
    assert_eq!(probe().await.expect_err("not ready").to_string(), "not ready: postgres: starting");

    condition.ok();
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
    probe().await.expect("ready");
    assert!(get("/metrics").await.contains("content-type: text/plain; version=0.0.4"));
    assert!(get("/").await.starts_with("HTTP/1.1 404"));

    context.shutdown.request();
    let stopping = get("/readyz").await;
    assert!(stopping.starts_with("HTTP/1.1 503") && stopping.contains("process: stopping"), "{stopping}");
    stop.request();
    served.await.expect("no panic").expect("a clean end");
    assert!(probe().await.expect_err("gone").to_string().contains("is the process running?"));
}
