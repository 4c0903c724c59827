//! The few requests that librdkafka has no call for, over a plain connection of our own. Blocks.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes};

use super::SinkError;
use super::client::QUERY_TIMEOUT;

/// No answer that we ask for is larger, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A connection to one broker.
pub(super) struct Connection {
    stream: TcpStream,
    address: String,
    correlation_id: i32,
}

impl Connection {
    /// Connects to `host:port`.
    pub(super) fn open(address: &str) -> Result<Self, SinkError> {
        let connect = || {
            let resolved = address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
            let stream = TcpStream::connect_timeout(&resolved, QUERY_TIMEOUT)?;
            stream.set_read_timeout(Some(QUERY_TIMEOUT))?;
            stream.set_write_timeout(Some(QUERY_TIMEOUT))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = connect().map_err(|error: std::io::Error| no_answer(address, &error))?;
        Ok(Self { stream, address: address.to_owned(), correlation_id: 0 })
    }

    /// Sends a request and waits for its answer.
    pub(super) fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, SinkError> {
        self.correlation_id += 1;
        let frame = self.frame(version, request).map_err(|error| no_answer(&self.address, &*error))?;
        let answer = self.exchange(&frame).map_err(|error| no_answer(&self.address, &error))?;
        self.read::<R>(version, answer).map_err(|error| no_answer(&self.address, &*error))
    }

    fn frame<R: Request>(&self, version: i16, request: &R) -> anyhow::Result<BytesMut> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("tailrace-relay")));
        let mut body = BytesMut::new();
        header.encode(&mut body, R::header_version(version))?;
        request.encode(&mut body, version)?;
        let mut frame = BytesMut::from(&u32::try_from(body.len())?.to_be_bytes()[..]);
        frame.unsplit(body);
        Ok(frame)
    }

    fn exchange(&mut self, frame: &[u8]) -> std::io::Result<Bytes> {
        self.stream.write_all(frame)?;
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if len > ANSWER_BYTES_MAX {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let mut answer = vec![0; len];
        self.stream.read_exact(&mut answer)?;
        Ok(answer.into())
    }

    fn read<R: Request>(&self, version: i16, mut answer: Bytes) -> anyhow::Result<R::Response> {
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version))?;
        anyhow::ensure!(header.correlation_id == self.correlation_id, "an answer to another request");
        R::Response::decode(&mut answer, version)
    }
}

fn no_answer(address: &str, cause: &(impl std::fmt::Display + ?Sized)) -> SinkError {
    SinkError::unavailable(format!("the Kafka broker at {address} does not answer: {cause}"))
}
