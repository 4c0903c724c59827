//! What travels inside `CopyData` frames while a slot streams, in both directions.

use bytes::Bytes;

use crate::reader::Reader;
use crate::{Lsn, ParseError, PgTimestamp};

/// The body of a `CopyData` frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyData {
    /// A piece of the stream.
    XLogData(XLogData),
    /// How far the server has come, sent when there is nothing else to send.
    PrimaryKeepalive(PrimaryKeepalive),
    /// A kind this crate does not know; newer servers may send one.
    Unknown(u8),
}

/// A piece of the stream: one message of the output plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XLogData {
    /// Where the server was when it wrote the message; zero for most that are not the last of a change.
    ///
    /// Neither unique nor monotonic across transactions: never an identity, never to be acknowledged.
    pub start: Lsn,
    /// The same place as `start` in logical replication.
    pub end: Lsn,
    /// The server's clock as it sent.
    pub clock: PgTimestamp,
    /// The plugin's message, for [`crate::pgoutput::Message::parse`].
    pub data: Bytes,
}

/// How far the server has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrimaryKeepalive {
    /// Everything before this place has been decoded and sent.
    ///
    /// One past the last byte, as an acknowledgement is: nothing is to be added to it.
    pub wal_end: Lsn,
    /// The server's clock as it sent.
    pub clock: PgTimestamp,
    /// The server closes the connection unless a status follows soon.
    pub reply_requested: bool,
}

impl CopyData {
    /// Reads the body of one `CopyData` frame.
    ///
    /// # Errors
    /// If the body is shorter or longer than its kind says.
    pub fn parse(body: Bytes) -> Result<Self, ParseError> {
        let mut reader = Reader::new("CopyData", body);
        match reader.u8("a kind")? {
            b'w' => Ok(Self::XLogData(x_log_data(reader)?)),
            b'k' => Ok(Self::PrimaryKeepalive(primary_keepalive(reader)?)),
            kind => Ok(Self::Unknown(kind)),
        }
    }
}

fn x_log_data(mut reader: Reader) -> Result<XLogData, ParseError> {
    reader.rename("XLogData");
    Ok(XLogData {
        start: reader.lsn("the start")?,
        end: reader.lsn("the end of the log")?,
        clock: reader.timestamp("the clock")?,
        data: reader.rest(),
    })
}

fn primary_keepalive(mut reader: Reader) -> Result<PrimaryKeepalive, ParseError> {
    reader.rename("PrimaryKeepalive");
    let keepalive = PrimaryKeepalive {
        wal_end: reader.lsn("the end of the log")?,
        clock: reader.timestamp("the clock")?,
        reply_requested: reader.u8("the reply flag")? != 0,
    };
    reader.end()?;
    Ok(keepalive)
}

/// What the client tells the server about its progress.
///
/// ```text
///  'r' │ write u64 │ flush u64 │ apply u64 │ clock i64 │ reply u8        34 bytes
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandbyStatusUpdate {
    /// Everything before this place has been received.
    pub write: Lsn,
    /// Everything before this place is safe, and need not be sent again. This is what moves the slot, and the
    /// server believes it unchecked; zero moves nothing.
    pub flush: Lsn,
    /// Everything before this place has been applied.
    pub apply: Lsn,
    /// The client's clock.
    pub clock: PgTimestamp,
    /// Asks the server to answer with a keepalive at once.
    pub reply: bool,
}

impl StandbyStatusUpdate {
    /// Bytes of a status on the wire, without the frame.
    pub const WIRE_BYTES: usize = 34;

    /// The body of the `CopyData` frame that says this.
    pub fn to_bytes(&self) -> [u8; Self::WIRE_BYTES] {
        let mut out = [0; Self::WIRE_BYTES];
        let (kind, rest) = out.split_at_mut(1);
        let (numbers, reply) = rest.split_at_mut(32);
        kind.copy_from_slice(b"r");
        let values = [
            self.write.as_u64().to_be_bytes(),
            self.flush.as_u64().to_be_bytes(),
            self.apply.as_u64().to_be_bytes(),
            self.clock.pg_micros().to_be_bytes(),
        ];
        for (place, value) in numbers.chunks_exact_mut(8).zip(values) {
            place.copy_from_slice(&value);
        }
        reply.copy_from_slice(&[u8::from(self.reply)]);
        out
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{CopyData, StandbyStatusUpdate};
    use crate::{Lsn, PgTimestamp};

    #[test]
    fn a_status_is_thirty_four_bytes_in_the_documented_order() {
        let status = StandbyStatusUpdate {
            write: Lsn::new(3),
            flush: Lsn::new(2),
            apply: Lsn::new(1),
            clock: PgTimestamp::from_pg_micros(-1),
            reply: true,
        };
        let mut expected = vec![b'r'];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 3]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 2]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([0xFF; 8]);
        expected.push(1);
        assert_eq!(status.to_bytes().as_slice(), expected);
    }

    #[test]
    fn a_kind_of_a_later_server_is_a_value() {
        assert_eq!(CopyData::parse(Bytes::from_static(b"s...")), Ok(CopyData::Unknown(b's')));
    }

    #[test]
    fn an_error_names_the_message_the_place_and_what_is_missing() {
        let error = CopyData::parse(Bytes::from_static(b"k\0\0\0\0\0\0\0\x01\0")).unwrap_err();
        assert_eq!(error.to_string(), "expected the clock at byte 9 of the PrimaryKeepalive");
    }
}
