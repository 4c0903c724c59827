//! The few requests that librdkafka has no call for, over a connection of our own. Blocks.

use std::fmt::Display;
use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes};
use rsasl::prelude::SASLClient;

use super::SinkError;
use super::client::QUERY_TIMEOUT;
use super::security::{Sasl, Security, Stream, is_certificate};

/// No answer that we ask for is larger, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A connection to one broker.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    address: String,
    correlation_id: i32,
}

impl Connection {
    /// Connects to `host:port`.
    pub(super) fn open(address: &str, security: &Security) -> Result<Self, SinkError> {
        let connect = || {
            let resolved = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
            let stream = TcpStream::connect_timeout(&resolved, QUERY_TIMEOUT)?;
            stream.set_read_timeout(Some(QUERY_TIMEOUT))?;
            stream.set_write_timeout(Some(QUERY_TIMEOUT))?;
            stream.set_nodelay(true)?;
            let (host, _) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
            security.wrap(host, stream)
        };
        let stream = connect().map_err(|error: io::Error| {
            if is_certificate(&error) {
                return SinkError::untrusted(format!("the Kafka broker at {address}: {error}"));
            }
            no_answer(address, &error)
        })?;
        let mut connection = Self { stream, address: address.to_owned(), correlation_id: 0 };
        if let Some(sasl) = &security.sasl {
            connection.authenticate(sasl)?;
        }
        Ok(connection)
    }

    fn authenticate(&mut self, sasl: &Sasl) -> Result<(), SinkError> {
        let handshake = SaslHandshakeRequest::default().with_mechanism(text(sasl.mechanism.as_str()));
        let answer = self.call(1, &handshake)?;
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            return Err(self.does_not_know_us(&error));
        }
        let client = SASLClient::new(Arc::clone(&sasl.config));
        let session = client.start_suggested(&[sasl.mechanism]);
        let mut session = session.map_err(|error| self.does_not_know_us(&error))?;
        let mut challenge: Option<Bytes> = None;
        loop {
            let mut message = Vec::new();
            let state = session.step(challenge.as_deref(), &mut message);
            let state = state.map_err(|error| self.does_not_know_us(&error))?;
            if state.has_sent_message() {
                let request = SaslAuthenticateRequest::default().with_auth_bytes(message.into());
                let answer = self.call(1, &request)?;
                if let Some(error) = ResponseError::try_from_code(answer.error_code) {
                    return Err(self.does_not_know_us(&error));
                }
                challenge = Some(answer.auth_bytes);
            }
            if state.is_finished() {
                return Ok(());
            }
        }
    }

    fn does_not_know_us(&self, cause: &dyn Display) -> SinkError {
        SinkError::unavailable(format!(
            "the Kafka broker at {} does not authenticate us: {cause}",
            self.address
        ))
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

    fn exchange(&mut self, frame: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(frame)?;
        self.stream.flush()?;
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if len > ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
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

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn no_answer(address: &str, cause: &(impl Display + ?Sized)) -> SinkError {
    SinkError::unavailable(format!("the Kafka broker at {address} does not answer: {cause}"))
}
