//! Calls with bytes of the caller's choice, message or not.

use prost_reflect::MethodDescriptor;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

use crate::{contract, with_token};

/// Sends `message`, and gives the bytes of the answer; of a stream only whether it begins.
pub(crate) async fn call(
    channel: &Channel,
    method: &MethodDescriptor,
    token: &str,
    message: Vec<u8>,
) -> Result<Vec<u8>, Status> {
    send(Grpc::new(channel.clone()), method, token, message).await
}

/// The same with a message that is compressed on its way.
pub(crate) async fn call_compressed(
    channel: &Channel,
    method: &MethodDescriptor,
    token: &str,
    message: Vec<u8>,
) -> Result<Vec<u8>, Status> {
    let client = Grpc::new(channel.clone()).send_compressed(CompressionEncoding::Gzip);
    send(client, method, token, message).await
}

async fn send(
    mut client: Grpc<Channel>,
    method: &MethodDescriptor,
    token: &str,
    message: Vec<u8>,
) -> Result<Vec<u8>, Status> {
    let path: PathAndQuery = format!("/{}", contract::rpc(method)).parse().expect("a path");
    client.ready().await.expect("a connection");
    let request: Request<_> = with_token(message, token);
    let mut answers = client.server_streaming(request, path, Bytes).await?.into_inner();
    if method.is_server_streaming() {
        return Ok(Vec::new());
    }
    answers.message().await.map(|answer| answer.expect("an answer or an error"))
}

/// Bytes as they are.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; bytes::Buf::remaining(buffer)];
        bytes::Buf::copy_to_slice(buffer, &mut bytes);
        Ok(Some(bytes))
    }
}
