//! Errors that no handler made: they too carry a reason and the id of their call, and no word about the inside.

use service_testing::{call_web, details, http, told};
use tonic::Code;

use crate::support::{SERVICE, Server};

const CHECK: &str = "grpc.health.v1.Health/Check";
const CALL_ID: &str = "call-7";
/// A message of the health service that asks for `x`.
const ASK_FOR_X: &[u8] = &[0, 0, 0, 0, 3, 0x0a, 1, b'x'];

#[tokio::test]
async fn every_error_of_the_library_is_explained() {
    let server = Server::start(&[]).await;
    let too_large = [0, 0x7f, 0xff, 0xff, 0xff];
    let cases: &[(&str, &str, &[u8], Code, &str)] = &[
        ("no.such.Service/Do", "", ASK_FOR_X, Code::Unimplemented, "METHOD_UNKNOWN"),
        (&format!("{SERVICE}/NoSuchMethod"), "", ASK_FOR_X, Code::Unimplemented, "METHOD_UNKNOWN"),
        ("grpc.health.v1.Health/NoSuchMethod", "", ASK_FOR_X, Code::Unimplemented, "METHOD_UNKNOWN"),
        (CHECK, "", ASK_FOR_X, Code::NotFound, "SERVICE_UNKNOWN"),
        (CHECK, "", &[0, 0, 0, 0, 2, 0xff, 0xff], Code::InvalidArgument, "MESSAGE_MALFORMED"),
        (CHECK, "", &[0, 0, 0, 0, 3, 0x0a, 1, 0xff], Code::InvalidArgument, "MESSAGE_MALFORMED"),
        (CHECK, "", &[1, 0, 0, 0, 1, 0], Code::InvalidArgument, "MESSAGE_MALFORMED"),
        (CHECK, "", &[9, 0, 0, 0, 1, 0], Code::InvalidArgument, "MESSAGE_MALFORMED"),
        (CHECK, "", &too_large, Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        (CHECK, "", &[0, 0xff, 0xff, 0xff, 0xff], Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        (CHECK, "\r\ngrpc-encoding: br", ASK_FOR_X, Code::Unimplemented, "COMPRESSION_UNSUPPORTED"),
    ];
    for (rpc, headers, body, code, reason) in cases {
        let headers = format!("\r\nx-request-id: {CALL_ID}{headers}");
        let status = call_web(server.address, rpc, &headers, body).await;
        let case = format!("{rpc} with {body:?}: {status:?}");
        assert_eq!(told(&status), (*code, (*reason).to_owned()), "{case}");
        assert_eq!(
            details(&status).request_info().map(|info| info.request_id.as_str()),
            Some(CALL_ID),
            "{case}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn headers_that_mean_nothing_change_nothing() {
    let server = Server::start(&[]).await;
    let long = format!("x-long: {}", "v".repeat(10_000));
    let headers = [
        "grpc-timeout: 99999999H",
        "grpc-timeout: 123456789S",
        "grpc-timeout: -1S",
        "grpc-timeout: 1x",
        "grpc-timeout: S",
        "grpc-timeout:",
        "grpc-timeout: \u{661}S",
        "x-trace-bin: !!! no base64 !!!",
        "x-trace-bin: AA=A",
        "grpc-status-details-bin: %%%",
        "grpc-status: 0",
        "grpc-accept-encoding: br, zstd, ,",
        "traceparent: 00-00000000000000000000000000000000-0000000000000000-00",
        "tracestate: ,,,=,=",
        "authorization: Bearer",
        "authorization:",
        "x-forwarded-for: nonsense",
        "forwarded: for=\"",
        long.as_str(),
    ];
    let mut answers = 0;
    for header in headers {
        let status = call_web(server.address, CHECK, &format!("\r\n{header}"), ASK_FOR_X).await;
        assert_eq!(told(&status), (Code::NotFound, "SERVICE_UNKNOWN".to_owned()), "{header}");
        answers += 1;
    }
    for (what, header) in [
        ("150 headers", (0..150).map(|number| format!("x-{number}: v\r\n")).collect()),
        ("100 kB of headers", format!("x-large: {}", "v".repeat(100_000))),
        ("a little more than may be", format!("x-large: {}", "v".repeat(16_384))),
        ("a header without a name", ": v".to_owned()),
        ("a control character", "x-bell: \u{7}".to_owned()),
    ] {
        let head = format!("POST /{CHECK} HTTP/1.1\r\n{}", header.trim_end());
        let answer = http(server.address, &head, b"").await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{what}: {answer}");
        answers += 1;
    }
    eprintln!("{answers} calls with headers that mean nothing answered as they must be");
    server.stop().await;
}
