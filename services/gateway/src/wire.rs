//! The stream on the wire: an event that was encoded once is copied, not encoded again, for each subscriber.
//!
//! The generated server encodes every response of every stream from its message. This one takes a [`Frame`], whose
//! parts are already bytes; a test holds it to the generated encoding.

use std::{convert::Infallible, pin::Pin, sync::Arc, task};

use bytes::Bytes;
use futures::Stream;
use prost::{Message as _, encoding::WireType};
use tailrace::stream::v1::{
    WatchRequest, WatchResponse, event_stream_service_server::SERVICE_NAME, watch_response::Message,
};
use tonic::{
    Request, Response, Status,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{Body, BoxFuture, Service, StdError, http},
    server::{Grpc, NamedService, ServerStreamingService},
};

use crate::grpc::EventStream;

const WATCH_PATH: &str = "/tailrace.stream.v1.EventStreamService/Watch";
const CURSOR_FIELD: u32 = 1;

/// The largest request that is read, in bytes: sixteen topic names and a cursor fit well.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// One response, ready to be copied out.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The field `cursor`, without its tag.
    pub cursor: String,
    /// The field `message`, with its tag.
    pub message: Bytes,
}

impl Frame {
    /// A response that is not an event: those are encoded when they are read.
    pub fn new(cursor: String, message: Message) -> Self {
        let response = WatchResponse { cursor: String::new(), message: Some(message) };
        Self { cursor, message: response.encode_to_vec().into() }
    }

    /// The bytes it will take.
    pub fn size_bytes(&self) -> usize {
        self.cursor.len() + self.message.len() + 4
    }
}

/// What `Watch` answers with.
pub type FrameStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

/// Serves `EventStreamService`.
#[derive(Clone)]
pub struct EventStreamServer {
    inner: Arc<EventStream>,
}

impl EventStreamServer {
    /// Serves what `inner` answers.
    pub fn new(inner: EventStream) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

impl NamedService for EventStreamServer {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> Service<http::Request<B>> for EventStreamServer
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != WATCH_PATH {
            return Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) });
        }
        let watch = Watch(Arc::clone(&self.inner));
        Box::pin(async move {
            let mut grpc = Grpc::new(FrameCodec)
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(REQUEST_BYTES_MAX);
            Ok(grpc.server_streaming(watch, request).await)
        })
    }
}

struct Watch(Arc<EventStream>);

impl ServerStreamingService<WatchRequest> for Watch {
    type Response = Frame;
    type ResponseStream = FrameStream;
    type Future = BoxFuture<Response<FrameStream>, Status>;

    fn call(&mut self, request: Request<WatchRequest>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.watch(request).await })
    }
}

#[derive(Default)]
struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Frame;
    type Decode = WatchRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for FrameCodec {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(frame.size_bytes() + 8);
        put(&frame, buffer);
        Ok(())
    }
}

impl Decoder for FrameCodec {
    type Item = WatchRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<WatchRequest>, Status> {
        WatchRequest::decode(buffer)
            .map(Some)
            .map_err(|_| Status::invalid_argument("the request is not a WatchRequest"))
    }
}

fn put(frame: &Frame, buffer: &mut impl bytes::BufMut) {
    prost::encoding::encode_key(CURSOR_FIELD, WireType::LengthDelimited, buffer);
    prost::encoding::encode_varint(frame.cursor.len() as u64, buffer);
    buffer.put_slice(frame.cursor.as_bytes());
    buffer.put_slice(&frame.message);
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tailrace::stream::v1::watch_response::{CaughtUp, Gap};

    use super::*;
    use tailrace_topics::{Partition, Record};

    use crate::event::Entry;

    fn check(frame: &Frame) {
        let mut bytes = Vec::new();
        put(frame, &mut bytes);
        let response = WatchResponse::decode(bytes.as_slice()).expect("a whole response");
        assert_eq!(response.cursor, frame.cursor);
        assert_eq!(response.encode_to_vec(), bytes, "the generated encoding is the same");
    }

    #[test]
    fn a_frame_is_encoded_as_the_generated_code_would() {
        let record = Record {
            key: Some(b"k"),
            value: Some(b"v"),
            create_time_ms: Some(1),
            headers: vec![("h", b"1")],
        };
        let entry = Entry::encode(&Partition::new("t", 1), 5, &record, SystemTime::UNIX_EPOCH);
        check(&Frame { cursor: "abc".to_owned(), message: entry.encoded });
        check(&Frame::new("abc".to_owned(), Message::CaughtUp(CaughtUp {})));
        check(&Frame::new("abc".to_owned(), Message::Gap(Gap { next_offset: 9, ..Gap::default() })));
    }

    #[test]
    fn the_path_is_the_one_of_the_contract() {
        assert_eq!(WATCH_PATH, format!("/{SERVICE_NAME}/Watch"));
    }
}
