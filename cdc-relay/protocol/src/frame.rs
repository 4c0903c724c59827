//! Cuts the bytes of a socket into the frames of the backend.
//!
//! The copy-both mode of replication answers with a frame that general Postgres clients do not know ('W'), and
//! sends the rest of its life as 'd' frames. So this looks at the header alone and leaves the body as it is.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a frame that are taken by default, header included. A larger row is refused before it is buffered.
pub const FRAME_BYTES_MAX_DEFAULT: usize = 64 << 20;

/// Tag and length.
const HEADER_BYTES: usize = 5;

/// One frame of the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is; the letters are Postgres'.
    pub tag: u8,
    /// All behind the length.
    pub body: Bytes,
}

/// A header that cannot be read past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length does not even cover itself: the two sides have lost step.
    #[error("a frame says it is {length} bytes long, which is less than its own length field")]
    TooShort {
        /// The length as sent.
        length: u32,
    },
    /// The frame would not fit the limit.
    #[error("a frame of {bytes} bytes is above the limit of {bytes_max} bytes")]
    TooLong {
        /// Bytes of the frame with its header.
        bytes: u64,
        /// The limit.
        bytes_max: usize,
    },
}

/// Takes the first frame off `buffer`, if all of it is there, without copying it.
///
/// While it is not, space for the rest of a long frame is reserved, so that the next reads fill it in place.
///
/// # Errors
/// If the header is impossible or the frame longer than `bytes_max`. The connection is of no further use then.
pub fn split(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Frame>, FrameError> {
    let Some(&[tag, a, b, c, d]) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]);
    let bytes = total_bytes(length, bytes_max)?;
    if let Some(missing) = bytes.checked_sub(buffer.len()).filter(|missing| *missing > 0) {
        buffer.reserve(missing);
        return Ok(None);
    }
    let mut body = buffer.split_to(bytes).freeze();
    body.advance(HEADER_BYTES);
    Ok(Some(Frame { tag, body }))
}

/// Bytes of a frame with its header. The length on the wire counts itself but not the tag.
fn total_bytes(length: u32, bytes_max: usize) -> Result<usize, FrameError> {
    if length < 4 {
        return Err(FrameError::TooShort { length });
    }
    let bytes = u64::from(length) + 1;
    match usize::try_from(bytes) {
        Ok(total) if total <= bytes_max => Ok(total),
        _ => Err(FrameError::TooLong { bytes, bytes_max }),
    }
}

/// Appends a `CopyData` frame with this body, for the way to the server.
///
/// # Panics
/// If the body is longer than a frame can say, which is 4 GiB.
pub fn put_copy_data(body: &[u8], out: &mut BytesMut) {
    let length = u32::try_from(body.len() + 4).expect("a client's frame is far below 4 GiB");
    out.extend_from_slice(b"d");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{FrameError, put_copy_data, split};

    #[test]
    fn frames_come_off_one_by_one_and_the_rest_stays() {
        let mut buffer = BytesMut::new();
        put_copy_data(b"first", &mut buffer);
        put_copy_data(b"", &mut buffer);
        buffer.extend_from_slice(b"Z\0\0\0\x05");
        let bodies: Vec<_> = std::iter::from_fn(|| split(&mut buffer, 100).unwrap()).collect();
        assert_eq!(
            bodies.iter().map(|frame| (frame.tag, &frame.body[..])).collect::<Vec<_>>(),
            [(b'd', &b"first"[..]), (b'd', b"")]
        );
        assert_eq!(&buffer[..], b"Z\0\0\0\x05");
    }

    #[test]
    fn a_frame_is_not_copied() {
        let mut buffer = BytesMut::new();
        put_copy_data(b"payload", &mut buffer);
        let place = buffer[5..].as_ptr();
        assert_eq!(split(&mut buffer, 100).unwrap().unwrap().body.as_ptr(), place);
    }

    #[test]
    fn the_limit_holds_before_the_body_arrives() {
        let mut buffer = BytesMut::from(&b"d\0\0\0\x0A"[..]);
        assert_eq!(split(&mut buffer.clone(), 11), Ok(None));
        assert_eq!(split(&mut buffer, 10), Err(FrameError::TooLong { bytes: 11, bytes_max: 10 }));
        let mut endless = BytesMut::from(&b"d\xFF\xFF\xFF\xFF"[..]);
        assert!(matches!(split(&mut endless, 1 << 20), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn a_length_below_its_own_size_is_refused() {
        let mut buffer = BytesMut::from(&b"d\0\0\0\x03"[..]);
        assert_eq!(split(&mut buffer, 100), Err(FrameError::TooShort { length: 3 }));
    }
}
