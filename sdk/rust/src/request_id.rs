//! The id that makes a retry safe.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::encoding::{DecodeContext, decode_key, skip_field, string};
use uuid::Uuid;

/// The flag whether the message is compressed, and its length, in front of a message on the wire.
const FRAME_HEADER_BYTES: usize = 5;

/// A fresh `request_id` (UUID v4). Make one for each thing the caller wants to happen, and send the same again when the
/// outcome of a call is unknown: the server then answers as it did, or would have done, the first time.
pub fn new_request_id() -> String {
    Uuid::new_v4().to_string()
}

/// The message on the wire, with an id in that field unless it has one. What cannot be read is left as it is: the server
/// will say what is wrong with it.
pub(crate) fn fill(frame: Bytes, field: u32, id: &str) -> Bytes {
    if frame.len() < FRAME_HEADER_BYTES || frame[0] != 0 || has(&frame[FRAME_HEADER_BYTES..], field) {
        return frame;
    }
    let mut message = BytesMut::from(&frame[FRAME_HEADER_BYTES..]);
    string::encode(field, &id.to_owned(), &mut message);
    let Ok(length) = u32::try_from(message.len()) else { return frame };
    let mut filled = BytesMut::with_capacity(FRAME_HEADER_BYTES + message.len());
    filled.put_u8(0);
    filled.put_u32(length);
    filled.put(message);
    filled.freeze()
}

fn has(mut message: &[u8], field: u32) -> bool {
    while let Ok((number, wire)) = decode_key(&mut message) {
        if number == field || skip_field(wire, number, &mut message, DecodeContext::default()).is_err() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::order::v1::{CreateOrderRequest, Order};

    fn frame(message: &CreateOrderRequest) -> Bytes {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut frame).unwrap();
        frame.freeze()
    }

    #[test]
    fn an_id_is_filled_in_where_there_is_none() {
        let request = CreateOrderRequest { order: Some(Order::default()), ..CreateOrderRequest::default() };
        let expected = CreateOrderRequest { request_id: "fresh".to_owned(), ..request.clone() };
        assert_eq!(fill(frame(&request), 2, "fresh"), frame(&expected));
        assert_eq!(
            fill(frame(&CreateOrderRequest::default()), 2, "fresh"),
            frame(&CreateOrderRequest { request_id: "fresh".to_owned(), ..CreateOrderRequest::default() })
        );
    }

    #[test]
    fn an_id_that_was_given_is_kept() {
        let given = CreateOrderRequest { request_id: "mine".to_owned(), ..CreateOrderRequest::default() };
        assert_eq!(fill(frame(&given), 2, "fresh"), frame(&given));
    }

    #[test]
    fn what_cannot_be_read_is_left_as_it_is() {
        for frame in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\0", b"\0\0\0\0\x02\x0a\xff"] {
            assert_eq!(fill(Bytes::copy_from_slice(frame), 2, "fresh"), frame);
        }
    }
}
