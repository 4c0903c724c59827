//! What a browser lets pages of other origins do: the listed ones call, and nothing that needs no preflight gets anywhere.

use service_testing::http;
use tailrace_runtime::grpc::check;

use crate::support::{SERVICE, Server, grpc_settings};

const LISTED: [&str; 3] =
    ["http://localhost:3000", "https://app.example.org", "https://app.example.org:8443"];
/// Each differs from a listed one in what makes an origin, or is no origin at all.
const UNLISTED: &[&str] = &[
    "https://localhost:3000",
    "http://localhost",
    "http://localhost:300",
    "http://localhost:30001",
    "http://localhost:3000/",
    "http://localhost:3000.evil.example",
    "http://LOCALHOST:3000",
    "HTTP://localhost:3000",
    "http://127.0.0.1:3000",
    "http://[::1]:3000",
    "http://user@localhost:3000",
    "http://localhost:3000,http://evil.example",
    "http://localhost:3000 http://evil.example",
    "http://app.example.org",
    "https://app.example.org:443",
    "https://app.example.org.",
    "https://app.example.org.evil.example",
    "https://evil.example/https://app.example.org",
    "https://evilapp.example.org",
    "https://api.app.example.org",
    "https://example.org",
    "https://app.example.org@evil.example",
    "https://app.example.org:844",
    "null",
    "*",
    "file://",
    "https://",
    "chrome-extension://abcdefghijklmnop",
    "\u{fc}ber.example",
];
/// What a page may send anywhere without asking first, and other things that are no call.
const NO_CALLS: &[&str] = &[
    "content-type: text/plain",
    "content-type: text/plain;charset=UTF-8",
    "content-type: application/x-www-form-urlencoded",
    "content-type: multipart/form-data; boundary=x",
    "content-type: TEXT/PLAIN",
    "content-type: application/json",
    "content-type: application/grpc-websocket",
    "content-type: application/grpc-web+thrift",
    "content-type: text/plain, application/grpc-web+proto",
    "content-type: ",
    "x-no-content-type: 1",
];
/// An empty message in its frame.
const EMPTY_FRAME: &[u8] = &[0; 5];

async fn server() -> Server {
    Server::start(&["--cors-origins", &LISTED.join(",")]).await
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// What a browser asks before a call, and the call.
async fn ask(server: &Server, origin: &str) -> [String; 2] {
    let preflight = format!(
        "OPTIONS /{SERVICE}/Do HTTP/1.1\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: content-type,x-grpc-web,authorization,traceparent,x-request-id,grpc-timeout"
    );
    let call = format!(
        "POST /grpc.health.v1.Health/Check HTTP/1.1\r\ncontent-type: application/grpc-web+proto\r\norigin: {origin}"
    );
    [http(server.address, &preflight, b"").await, http(server.address, &call, EMPTY_FRAME).await]
}

#[tokio::test]
async fn the_listed_origins_may_call_and_nobody_else_is_told_that_he_may() {
    let server = server().await;
    for origin in LISTED {
        let answers = ask(&server, origin).await;
        for answer in &answers {
            assert_eq!(header(answer, "access-control-allow-origin"), Some(origin), "{answer}");
            assert_eq!(header(answer, "access-control-allow-credentials"), None, "no cookies: {answer}");
            let vary = header(answer, "vary").unwrap_or_default();
            assert!(vary.contains("origin"), "no cache gives one origin's answer to another: {answer}");
        }
        let [preflight, call] = answers;
        assert_eq!(header(&preflight, "access-control-allow-methods"), Some("POST"));
        let allowed = header(&preflight, "access-control-allow-headers").unwrap_or_default();
        for asked in ["content-type", "x-grpc-web", "authorization", "traceparent", "grpc-timeout"] {
            assert!(allowed.split(',').any(|name| name == asked), "{asked} in {allowed}");
        }
        let exposed = header(&call, "access-control-expose-headers").unwrap_or_default();
        for shown in ["grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"] {
            assert!(exposed.split(',').any(|name| name == shown), "{shown} in {exposed}");
        }
    }
    for origin in UNLISTED {
        for answer in ask(&server, origin).await {
            assert_eq!(header(&answer, "access-control-allow-origin"), None, "{origin}: {answer}");
        }
    }
    eprintln!("{} origins, {} of them listed", LISTED.len() + UNLISTED.len(), LISTED.len());
    server.stop().await;
}

#[tokio::test]
async fn what_a_page_may_send_without_asking_is_no_call() {
    let server = server().await;
    for line in NO_CALLS {
        let head =
            format!("POST /grpc.health.v1.Health/Check HTTP/1.1\r\n{line}\r\norigin: https://evil.example");
        let answer = http(server.address, &head, EMPTY_FRAME).await;
        let is_refused = ["HTTP/1.1 400", "HTTP/1.1 415"].iter().any(|status| answer.starts_with(status));
        assert!(is_refused && !answer.contains("grpc-status:"), "{line}: {answer}");
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"] {
        let head = format!(
            "{method} /grpc.health.v1.Health/Check HTTP/1.1\r\ncontent-type: application/grpc-web+proto\r\n\
             origin: {}",
            LISTED[0]
        );
        let answer = http(server.address, &head, b"").await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{method}: {answer}");
    }
    eprintln!("{} requests are no calls", NO_CALLS.len() + 6);
    server.stop().await;
}

#[test]
fn a_setting_that_is_no_list_of_origins_is_refused_with_its_form() {
    for origins in [
        "*",
        "https://*",
        "https://*.example.org",
        "example.org",
        "https://",
        "//example.org",
        "ftp://example.org",
        "https://example.org/",
        "https://example.org/path",
        "https://example.org https://example.com",
        "null",
    ] {
        let refused = check(&grpc_settings(&["--cors-origins", origins])).expect_err(origins).to_string();
        assert!(
            refused.contains("TAILRACE_CORS_ORIGINS") && refused.contains("https://example.org"),
            "{refused}"
        );
    }
    check(&grpc_settings(&["--cors-origins", ""])).expect("no origin at all");
}
