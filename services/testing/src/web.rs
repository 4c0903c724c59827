//! HTTP/1.1 and gRPC-Web by hand, to see exactly what is on the wire, and to send what no client library would.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{
    Status,
    codegen::http::{HeaderMap, HeaderName},
};

use crate::DEADLINE;

/// Sends one HTTP/1.1 request and reads the answer to its end.
pub async fn http(address: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut connection = TcpStream::connect(address).await.expect("it listens");
    let length = body.len();
    let head = format!("{head}\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    connection.write_all(head.as_bytes()).await.expect("sent");
    connection.write_all(body).await.expect("sent");
    let mut answer = Vec::new();
    timeout(DEADLINE, connection.read_to_end(&mut answer)).await.expect("an answer").expect("to its end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Calls over gRPC-Web with further `headers` (each begins with a line end) and this body; gives the error it is answered with.
pub async fn call_web(address: SocketAddr, rpc: &str, headers: &str, body: &[u8]) -> Status {
    let head = format!("POST /{rpc} HTTP/1.1\r\ncontent-type: application/grpc-web+proto{headers}");
    let answer = http(address, &head, body).await;
    let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
    let mut headers = HeaderMap::new();
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(": ").expect("a header");
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            headers.insert(name, value);
        }
    }
    Status::from_header_map(&headers).unwrap_or_else(|| panic!("no status: {answer}"))
}

/// A message in a frame, as the body of a call.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a small message").to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}
