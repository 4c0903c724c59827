//! How many calls a port lets in, by principal and by address.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use service_testing::{Authority, DEADLINE, call_web, details, framed, http, reason, with_token};
use tailrace::auth::v1::{
    ChangePasswordRequest, ListSigningKeysRequest, auth_service_client::AuthServiceClient,
    auth_service_server::SERVICE_NAME as AUTH,
};
use tailrace_runtime::{
    auth::Verifier,
    clock::Monotonic,
    grpc::{ServeError, serve_guarded},
    process::Context,
    settings::{self, GrpcSettings},
    task, telemetry,
};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_stream::iter;
use tonic::{Request, Status, service::Routes, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

const ADA: &str = "users/ada";
const BOB: &str = "users/bob";
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// What is answered to a caller who is let in with a token: this port publishes keys and does nothing else.
const LET_IN: &str = "METHOD_UNKNOWN";
const REFUSED: &str = "RATE_LIMIT_EXCEEDED";

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    grpc: GrpcSettings,
}

/// A guarded port, whose time stands still.
struct Port {
    address: SocketAddr,
    clock: Monotonic,
    context: Context,
    authority: Authority,
    /// A client whose calls come from [`HERE`].
    here: AuthServiceClient<Channel>,
    running: JoinHandle<Result<(), ServeError>>,
}

impl Port {
    async fn start(arguments: &[&str]) -> Self {
        let arguments = ["test", "--listen", "127.0.0.1:0"].iter().chain(arguments);
        let cli: Cli = settings::parse_from(arguments, &[]).expect("a command line");
        let listener = TcpListener::bind(cli.grpc.listen).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let authority = Authority::generate();
        let (verifier, routes) = (Verifier::fixed([authority.key()]), Routes::new(authority.publisher()));
        let clock = Monotonic::stopped();
        let context = Context { clock: clock.clone(), ..Context::detached() };
        let served = context.clone();
        let running = task::spawn("port", async move {
            serve_guarded(verifier, listener, &cli.grpc, served, routes, &[AUTH]).await
        });
        Self { address, clock, context, authority, here: client(address, HERE), running }
    }

    /// Calls what needs a token; gives how it is answered.
    async fn call(&self, from: Ipv4Addr, token: Option<&str>) -> Status {
        let message = ChangePasswordRequest::default();
        let request = match token {
            Some(token) => with_token(message, token),
            None => Request::new(message),
        };
        let mut client = if from == HERE { self.here.clone() } else { client(self.address, from) };
        client.change_password(request).await.expect_err("nothing is changed here")
    }

    /// Calls so often; gives the reasons of the answers.
    async fn reasons(&self, from: Ipv4Addr, token: Option<&str>, calls: usize) -> Vec<String> {
        let mut reasons = Vec::new();
        for _ in 0..calls {
            reasons.push(reason(&self.call(from, token).await));
        }
        reasons
    }

    /// A token that was verified a moment ago.
    async fn verified(&self, user: &str) -> String {
        let token = self.authority.token(user, &[]);
        assert_eq!(self.reasons(HERE, Some(&token), 1).await, [LET_IN]);
        token
    }

    /// Calls what anyone may, with these headers.
    async fn list_keys(&self, headers: &[(&'static str, &str)]) -> Result<(), Status> {
        let mut request = Request::new(ListSigningKeysRequest {});
        for (name, value) in headers {
            request.metadata_mut().append(*name, value.parse().expect("a value"));
        }
        self.here.clone().list_signing_keys(request).await.map(drop)
    }

    async fn stop(self) {
        self.context.shutdown.request();
        timeout(DEADLINE, self.running).await.expect("it drains").expect("no panic").expect("a clean end");
    }
}

/// A client of the port at `address` whose connection comes from `from`.
fn client(address: SocketAddr, from: Ipv4Addr) -> AuthServiceClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{address}")).expect("a URL");
    AuthServiceClient::new(endpoint.local_address(Some(from.into())).connect_lazy())
}

/// For whom the refused call counts, and when the next is let in.
#[track_caller]
fn excess(status: &Status) -> (String, Duration) {
    assert_eq!(reason(status), REFUSED);
    let details = details(status);
    let per = details.error_info().and_then(|info| info.metadata.get("per").cloned()).expect("whose calls");
    let wait = details.retry_info().and_then(|info| info.retry_delay).expect("when to come back");
    (per, wait)
}

#[tokio::test]
async fn a_principal_has_his_burst_and_is_then_told_the_true_time_to_wait() {
    let port = Port::start(&["--rate-per-principal=4", "--rate-burst-per-principal=10"]).await;
    let ada = port.verified(ADA).await;
    assert_eq!(port.reasons(HERE, Some(&ada), 10).await, [LET_IN; 10]);
    let period = Duration::from_millis(250);
    assert_eq!(excess(&port.call(HERE, Some(&ada)).await), ("principal".to_owned(), period));
    assert_eq!(reason(&port.call(ELSEWHERE, Some(&ada)).await), REFUSED, "wherever he calls from");

    let moment = Duration::from_nanos(1);
    port.clock.skip(period - moment);
    assert_eq!(excess(&port.call(HERE, Some(&ada)).await).1, moment);
    port.clock.skip(moment);
    assert_eq!(port.reasons(HERE, Some(&ada), 2).await, [LET_IN, REFUSED]);

    // Another token is no other principal; before it is verified it may be anybody's.
    let other = port.authority.token(ADA, &["operator"]);
    assert_eq!(port.reasons(HERE, Some(&other), 2).await, [LET_IN, REFUSED]);
    port.stop().await;
}

#[tokio::test]
async fn one_who_calls_too_often_disturbs_nobody_else() {
    let port = Port::start(&["--rate-per-principal=4", "--rate-burst-per-principal=10"]).await;
    let mut others = Vec::new();
    for user in 0..20 {
        others.push(port.verified(&format!("users/{user}")).await);
    }
    let ada = port.verified(ADA).await;
    let reasons = port.reasons(HERE, Some(&ada), 1000).await;
    assert_eq!(reasons.iter().filter(|reason| *reason == REFUSED).count(), 990);
    for other in &others {
        assert_eq!(port.reasons(HERE, Some(other), 10).await, [LET_IN; 10]);
    }
    port.stop().await;
}

#[tokio::test]
async fn calls_without_a_verified_token_count_for_their_address() {
    let port = Port::start(&["--rate-per-address=2", "--rate-burst-per-address=5"]).await;
    let bad = [
        ("TOKEN_MISSING", None),
        ("TOKEN_INVALID", Some("e30.e30.e30".to_owned())),
        ("TOKEN_INVALID", Some(port.authority.expired_token(ADA))),
        ("TOKEN_INVALID", Some(port.authority.forged_token("other", ADA))),
        ("TOKEN_INVALID", Some("x".repeat(10_000))),
    ];
    for ((expected, token), last) in bad.iter().zip(10..) {
        let from = Ipv4Addr::new(127, 0, 0, last);
        assert_eq!(port.reasons(from, token.as_deref(), 5).await, [*expected; 5]);
        let refused = port.call(from, token.as_deref()).await;
        assert_eq!(excess(&refused), ("address".to_owned(), Duration::from_millis(500)));
        // Nothing is looked at any more, be it good.
        let good = port.authority.token(BOB, &[]);
        assert_eq!(port.reasons(from, Some(&good), 1).await, [REFUSED]);
        port.clock.skip(Duration::from_millis(500));
        assert_eq!(port.reasons(from, token.as_deref(), 2).await, [*expected, REFUSED]);
    }
    port.stop().await;
}

#[tokio::test]
async fn who_is_known_goes_on_from_an_address_that_has_spent_its_calls() {
    let port = Port::start(&["--rate-per-address=1", "--rate-burst-per-address=5"]).await;
    let ada = port.verified(ADA).await;
    assert_eq!(port.reasons(HERE, None, 5).await.last().map(String::as_str), Some(REFUSED));
    assert_eq!(port.reasons(HERE, Some(&ada), 100).await, [LET_IN; 100]);
    port.stop().await;
}

#[tokio::test]
async fn what_anyone_may_call_counts_for_the_address_whatever_it_brings() {
    let port = Port::start(&["--rate-per-address=1", "--rate-burst-per-address=5"]).await;
    let bearer = format!("Bearer {}", port.verified(ADA).await);
    for _ in 0..4 {
        port.list_keys(&[("authorization", &bearer)]).await.expect("keys");
    }
    let refused = port.list_keys(&[("authorization", &bearer)]).await.expect_err("too many");
    assert_eq!(excess(&refused), ("address".to_owned(), Duration::from_secs(1)));
    port.clock.skip(Duration::from_secs(1));
    port.list_keys(&[]).await.expect("keys");
    port.stop().await;
}

#[tokio::test]
async fn health_reflection_and_preflights_are_not_counted() {
    let port = Port::start(&["--rate-per-address=1", "--rate-burst-per-address=1"]).await;
    port.list_keys(&[]).await.expect("keys");
    port.list_keys(&[]).await.expect_err("too many");
    let channel = Channel::from_shared(format!("http://{}", port.address)).expect("a URL").connect_lazy();
    for _ in 0..20 {
        let mut health = HealthClient::new(channel.clone());
        health.check(HealthCheckRequest::default()).await.expect("healthy");
        let mut reflection = ServerReflectionClient::new(channel.clone());
        reflection.server_reflection_info(iter([])).await.expect("reflection");
        let head = format!("OPTIONS /{AUTH}/Login HTTP/1.1\r\norigin: http://localhost:3000");
        let preflight = http(port.address, &head, b"").await;
        assert!(preflight.starts_with("HTTP/1.1 200"), "{preflight}");
    }
    port.stop().await;
}

#[tokio::test]
async fn browsers_are_told_the_same() {
    let port = Port::start(&["--rate-per-address=1", "--rate-burst-per-address=1"]).await;
    let rpc = format!("{AUTH}/ChangePassword");
    let let_in = call_web(port.address, &rpc, "", &framed(&[])).await;
    assert_eq!(reason(&let_in), "TOKEN_MISSING");
    let refused = call_web(port.address, &rpc, "", &framed(&[])).await;
    assert_eq!(excess(&refused), ("address".to_owned(), Duration::from_secs(1)));
    port.stop().await;
}

#[tokio::test]
async fn zero_lets_any_number_in() {
    let off = ["--rate-per-address=0", "--rate-per-principal=0"];
    let port =
        Port::start(&[&off[..], &["--rate-burst-per-address=1", "--rate-burst-per-principal=1"]].concat())
            .await;
    let ada = port.verified(ADA).await;
    assert_eq!(port.reasons(HERE, Some(&ada), 100).await, [LET_IN; 100]);
    assert_eq!(port.reasons(HERE, None, 100).await, ["TOKEN_MISSING"; 100]);
    port.stop().await;
}

#[tokio::test]
async fn callers_behind_a_proxy_are_told_apart_only_where_it_is_trusted() {
    const X: &str = "x-forwarded-for";
    const F: &str = "forwarded";
    let two_lines = [(X, "6.6.6.6"), (X, "192.0.2.1")];
    // The headers of two calls, and whether the second counts for another address than the first.
    type Headers<'a> = &'a [(&'static str, &'a str)];
    let cases: [(&[&str], Headers<'_>, Headers<'_>, bool); 12] = [
        (&[], &[(X, "192.0.2.1")], &[(X, "192.0.2.2")], false),
        (&[], &[(F, "for=192.0.2.1")], &[(F, "for=192.0.2.2")], false),
        (&["--trusted-proxies=1"], &[(X, "192.0.2.1")], &[(X, "192.0.2.2")], true),
        (&["--trusted-proxies=1"], &[(X, "192.0.2.1")], &[], true),
        (&["--trusted-proxies=1"], &[(X, "2001:db8::1")], &[(X, "2001:db8::2")], false),
        (&["--trusted-proxies=1"], &[(X, "192.0.2.1")], &[(X, "6.6.6.6, 192.0.2.1")], false),
        (&["--trusted-proxies=1"], &two_lines, &[(X, "7.7.7.7, 192.0.2.1")], false),
        (&["--trusted-proxies=1"], &[(X, "me")], &[(X, "192.0.2.256")], false),
        (&["--trusted-proxies=2"], &[(X, "192.0.2.1, 192.0.2.9")], &[(X, "192.0.2.2, 192.0.2.9")], true),
        (&["--trusted-proxies=2"], &[(X, "192.0.2.1")], &[(X, "192.0.2.2")], false),
        (&["--trusted-proxies=1"], &[(F, "for=192.0.2.1")], &[(F, "for=192.0.2.2")], false),
        (
            &["--trusted-proxies=1", "--forwarded-header=forwarded"],
            &[(F, "for=192.0.2.1"), (X, "192.0.2.1")],
            &[(F, "for=192.0.2.2"), (X, "192.0.2.1")],
            true,
        ),
    ];
    for (arguments, first, second, are_two) in cases {
        let limited = ["--rate-per-address=1", "--rate-burst-per-address=1"];
        let port = Port::start(&[&limited[..], arguments].concat()).await;
        port.list_keys(first).await.expect("the first");
        let outcome = port.list_keys(second).await;
        assert_eq!(outcome.is_ok(), are_two, "{arguments:?}: {first:?}, {second:?}");
        port.stop().await;
    }
}

#[tokio::test]
async fn refused_calls_are_counted_with_few_labels() {
    let metrics = telemetry::metrics();
    let port = Port::start(&[
        "--rate-per-address=1",
        "--rate-burst-per-address=1",
        "--rate-per-principal=1",
        "--rate-burst-per-principal=1",
    ])
    .await;
    let ada = port.verified(ADA).await;
    assert_eq!(port.reasons(HERE, Some(&ada), 2).await, [LET_IN, REFUSED]);
    port.list_keys(&[]).await.expect_err("too many");
    for method in ["One", "Two"] {
        let refused = call_web(port.address, &format!("no.such.Service/{method}"), "", &framed(&[])).await;
        assert_eq!(reason(&refused), REFUSED);
    }
    port.stop().await;
    let rendered = metrics.render();
    for labels in [
        r#"rpc_method="tailrace.auth.v1.AuthService/ChangePassword",per="principal""#,
        r#"rpc_method="tailrace.auth.v1.AuthService/ListSigningKeys",per="address""#,
        r#"rpc_method="_OTHER",per="address""#,
    ] {
        let counter = format!("rpc_server_rate_limited_calls_total{{{labels}}}");
        assert!(rendered.contains(&counter), "{counter}: {rendered}");
    }
    let is_bounded = |line: &str| !line.starts_with("rpc_server_rate_limited") || !line.contains("no.such");
    assert!(rendered.lines().all(is_bounded), "{rendered}");
}
