//! Errors that no handler made: they too carry a reason and the id of their call, and no word about the inside.

use service_testing::{call_web, details, told};
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
