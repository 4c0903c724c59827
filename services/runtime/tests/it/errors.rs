//! Errors that no handler made: they too carry a reason and the id of their call, and no word about the inside.

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{SERVICE, Server, http};

const CHECK: &str = "grpc.health.v1.Health/Check";
const CALL_ID: &str = "call-7";
/// A message of the health service that asks for `x`.
const ASK_FOR_X: &[u8] = &[0, 0, 0, 0, 3, 0x0a, 1, b'x'];

/// Calls over gRPC-Web with these bytes as the body.
async fn call(server: &Server, rpc: &str, headers: &str, body: &[u8]) -> Status {
    let head = format!(
        "POST /{rpc} HTTP/1.1\r\ncontent-type: application/grpc-web+proto\r\nx-request-id: {CALL_ID}{headers}"
    );
    let answer = http(server.address, &head, body).await;
    let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
    let mut headers = HeaderMap::new();
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(": ").expect("a header");
        if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), value.parse()) {
            headers.insert(name, value);
        }
    }
    Status::from_header_map(&headers).unwrap_or_else(|| panic!("no status: {answer}"))
}

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
        (CHECK, "\r\ngrpc-encoding: br", ASK_FOR_X, Code::Unimplemented, "COMPRESSION_UNSUPPORTED"),
    ];
    for (rpc, headers, body, code, reason) in cases {
        let status = call(&server, rpc, headers, body).await;
        let details = status.check_error_details().expect("details");
        let found = details.error_info().map(|info| (info.domain.as_str(), info.reason.as_str()));
        let case = format!("{rpc} with {body:?}: {status:?}");
        assert_eq!((status.code(), found), (*code, Some(("tailrace", *reason))), "{case}");
        assert_eq!(details.request_info().map(|info| info.request_id.as_str()), Some(CALL_ID), "{case}");
        assert!(status.message().ends_with('.'), "a sentence: {case}");
    }
    server.stop().await;
}
