//! The connections of a gRPC port: how many, how long silent, how old.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hyper_util::rt::TokioIo;
use service_testing::{Authority, CertificateAuthority, http, until};
use tailrace_runtime::telemetry;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::service_fn;

use crate::{
    certificates::{Folder, HOST},
    support::{DEADLINE, Server},
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const FRAME_HEAD_BYTES: usize = 9;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// A connection that an HTTP/2 server has answered.
async fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(&[PREFACE, EMPTY_SETTINGS].concat()).await.expect("sent");
    let answered = timeout(DEADLINE, frame(&mut stream)).await.expect("an answer");
    assert_eq!(answered, Some(SETTINGS));
    stream
}

/// The kind of the next frame; None at the end.
async fn frame(stream: &mut TcpStream) -> Option<u8> {
    let mut head = [0; FRAME_HEAD_BYTES];
    stream.read_exact(&mut head).await.ok()?;
    let length = usize::from(head[1]) << 8 | usize::from(head[2]);
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    Some(head[3])
}

/// Whether a new connection is closed without a word.
async fn is_turned_away(address: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    // It may be closed already.
    let _ = stream.write_all(&[PREFACE, EMPTY_SETTINGS].concat()).await;
    let answer = timeout(DEADLINE, stream.read(&mut [0; 64])).await.expect("an answer, or the end");
    answer.map_or(true, |count| count == 0)
}

/// Reads until the other end closes the connection.
async fn end_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end");
    answer
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_the_next_takes_the_place_of_one_that_ended() {
    let metrics = telemetry::metrics();
    for (setting, why) in [("--connections-max", "connections"), ("--connections-per-address-max", "address")]
    {
        let server = Server::start(&[setting, "2"]).await;
        let (first, second) = (open(server.address).await, open(server.address).await);
        assert!(is_turned_away(server.address).await, "{setting}");
        let counted = format!("rpc_server_connections_refused_total{{why=\"{why}\"}}");
        assert!(metrics.render().contains(&counted), "{counted}");
        drop(first);
        until("a free place", async || !is_turned_away(server.address).await).await;
        drop(second);
        server.stop().await;
    }
}

#[tokio::test]
async fn behind_a_proxy_one_address_may_have_all_connections() {
    let server = Server::start(&["--connections-per-address-max", "0", "--connections-max", "3"]).await;
    let open = (open(server.address).await, open(server.address).await, open(server.address).await);
    assert!(is_turned_away(server.address).await, "and no more than all");
    drop(open);
    server.stop().await;
}

#[tokio::test]
async fn who_says_nothing_or_stops_within_the_first_words_is_closed() {
    let metrics = telemetry::metrics();
    let server = Server::start(&["--first-bytes-timeout", "200ms"]).await;
    for said in [b"".as_slice(), b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b"POST / HTTP"] {
        let mut stream = TcpStream::connect(server.address).await.expect("it listens");
        stream.write_all(said).await.expect("sent");
        end_of(&mut stream).await;
    }
    let counted = "rpc_server_connections_closed_total{why=\"silent\"}";
    assert!(metrics.render().contains(counted), "{}", metrics.render());
    let check = "POST /grpc.health.v1.Health/Check HTTP/1.1\r\ncontent-type: application/grpc-web+proto";
    let answer = http(server.address, check, &[0; 5]).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "who speaks is served: {answer}");
    server.stop().await;
}

#[tokio::test]
async fn who_begins_no_handshake_is_closed_and_a_drain_does_not_wait_for_him() {
    let (authority, folder) = (CertificateAuthority::new(), Folder::new());
    let (certificate, key) = authority.sign(HOST);
    let (certificate, key) = (folder.put("cert.pem", &certificate), folder.put("key.pem", &key));
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let tls = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-handshake-timeout"];
    let server = Server::start(&[tls.as_slice(), &["200ms"]].concat()).await;
    let mut stream = TcpStream::connect(server.address).await.expect("it listens");
    end_of(&mut stream).await;
    server.stop().await;

    let server = Server::start(&[tls.as_slice(), &["1h"]].concat()).await;
    let _silent = TcpStream::connect(server.address).await.expect("it listens");
    server.stop().await;
}

#[tokio::test]
async fn an_old_connection_is_told_to_go() {
    let server = Server::start(&["--connection-age-max", "200ms"]).await;
    let mut stream = open(server.address).await;
    let told = async { while frame(&mut stream).await.expect("no end without a word") != GOAWAY {} };
    timeout(DEADLINE, told).await.expect("it is told");
    drop(stream);
    server.stop().await;
}

/// A channel that counts its connections.
fn counting(address: SocketAddr) -> (Channel, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    let channel = endpoint.connect_with_connector_lazy(service_fn(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { TcpStream::connect(address).await.map(TokioIo::new) }
    }));
    (channel, count)
}

#[tokio::test]
async fn a_call_on_an_old_connection_goes_on_while_new_ones_go_over_another() {
    let server = Server::start(&["--connection-age-max", "200ms"]).await;
    let (channel, connections) = counting(server.address);
    let mut health = HealthClient::new(channel);
    let mut stream = health.watch(HealthCheckRequest::default()).await.expect("a stream").into_inner();
    stream.message().await.expect("open").expect("a first answer");
    until("another connection", async || {
        // A call that meets the end of a connection may fail, and is then made again.
        let _ = health.check(HealthCheckRequest::default()).await;
        connections.load(Ordering::Relaxed) > 1
    })
    .await;
    server.condition.fail("gone");
    let told = async {
        while stream.message().await.expect("open").expect("open").status() != ServingStatus::NotServing {}
    };
    timeout(DEADLINE, told).await.expect("the old connection carries its call on");
    server.stop().await;
}

#[tokio::test]
async fn a_call_on_an_old_connection_ends_with_the_grace() {
    let metrics = telemetry::metrics();
    let server = Server::start(&["--connection-age-max", "200ms", "--connection-age-grace", "200ms"]).await;
    let mut health = HealthClient::new(server.channel());
    let mut stream = health.watch(HealthCheckRequest::default()).await.expect("a stream").into_inner();
    let end = async { while let Ok(Some(_)) = stream.message().await {} };
    timeout(DEADLINE, end).await.expect("it ends");
    let counted = "rpc_server_connections_closed_total{why=\"age_grace\"}";
    assert!(metrics.render().contains(counted), "{}", metrics.render());
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_read_his_answer_does_not_hold_up_a_drain() {
    let metrics = telemetry::metrics();
    let server = Server::start(&["--connection-age-grace", "0s"]).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).expect("a URL");
    // Room for one byte, and nobody takes it.
    let mut health = HealthClient::new(endpoint.initial_stream_window_size(1).connect_lazy());
    let unread = health.watch(HealthCheckRequest::default()).await.expect("a stream");
    server.stop().await;
    let counted = "rpc_server_connections_closed_total{why=\"drain\"}";
    assert!(metrics.render().contains(counted), "{}", metrics.render());
    drop(unread);
}

#[tokio::test]
async fn a_message_that_comes_byte_by_byte_is_not_waited_for() {
    let routes = Routes::new(Authority::generate().publisher());
    let server = Server::start_with(routes, &["--message-timeout", "200ms"]).await;
    for (what, said, is_answered_well) in [
        ("nothing", &b""[..], false),
        ("the beginning of a frame", &[0, 0, 0], false),
        ("a frame that promises more", &[0, 0, 0, 0, 9, 1, 2], false),
        ("a whole message", &[0, 0, 0, 0, 0], true),
    ] {
        let mut stream = TcpStream::connect(server.address).await.expect("it listens");
        let length = if is_answered_well { said.len() } else { 100 };
        let head = format!(
            "POST /tailrace.auth.v1.AuthService/ListSigningKeys HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
             content-type: application/grpc-web+proto\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), said].concat()).await.expect("sent");
        let answer = String::from_utf8_lossy(&end_of(&mut stream).await).into_owned();
        assert_eq!(answer.contains("grpc-status:0"), is_answered_well, "{what}: {answer}");
        assert_eq!(answer.contains("grpc-status: 4"), !is_answered_well, "{what}: {answer}");
    }
    server.stop().await;
}
