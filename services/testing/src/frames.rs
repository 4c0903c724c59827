//! HTTP/2 by hand: frames of the caller's choice, in any order, and what the other side says of them.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::DEADLINE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
/// What the last PING says.
const LAST: [u8; 8] = *b"the last";

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head of a call: a block of header fields, none of them put into the table.
pub(crate) fn head_of_call(path: &str) -> Vec<u8> {
    const POST: u8 = 0x83;
    const HTTP: u8 = 0x86;
    let fields = [
        field(":path", path),
        field(":authority", "test"),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ];
    [&[POST, HTTP][..], &fields.concat()].concat()
}

/// A header field as it stands in a block.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &text(name), &text(value)].concat()
}

/// The begin of a field whose value has so many bytes, which are to follow.
pub(crate) fn field_of_bytes(name: &str, bytes: usize) -> Vec<u8> {
    [&[0][..], &text(name), &length(bytes)].concat()
}

fn text(text: &str) -> Vec<u8> {
    [length(text.len()).as_slice(), text.as_bytes()].concat()
}

/// A length as HPACK writes it: seven bits and, beyond them, seven at a time.
fn length(length: usize) -> Vec<u8> {
    const PREFIX_MAX: usize = 127;
    let Some(mut rest) = length.checked_sub(PREFIX_MAX) else { return vec![length as u8] };
    let mut bytes = vec![PREFIX_MAX as u8];
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The other side ended it, with this error.
    GoAway(u32),
    /// It was closed without a word.
    Closed,
    /// It is still served: the last PING was answered.
    Served,
}

/// Opens a connection; gives the other side's first SETTINGS, by identifier.
pub(crate) async fn settings(address: SocketAddr) -> Vec<(u16, u32)> {
    let (mut reader, _writer) = open(address).await.expect("a connection");
    let first = timeout(DEADLINE, read(&mut reader)).await.expect("in time").expect("a frame");
    assert_eq!(first.0, SETTINGS, "settings come first");
    let entry = |entry: &[u8]| {
        let (identifier, value) = entry.split_at(2);
        (
            u16::from_be_bytes(identifier.try_into().expect("two bytes")),
            u32::from_be_bytes(value.try_into().expect("four bytes")),
        )
    };
    first.1.chunks_exact(6).map(entry).collect()
}

/// Opens a connection and sends `pieces` until they end or the other side ends it, reading all the while. Gives how many
/// streams were refused, too.
pub(crate) async fn flood(address: SocketAddr, pieces: impl Iterator<Item = Vec<u8>>) -> (End, u32) {
    let (mut reader, mut writer) = open(address).await.expect("a connection");
    let write = async {
        for piece in pieces {
            writer.write_all(&piece).await?;
        }
        writer.write_all(&frame(PING, 0, 0, &LAST)).await
    };
    let read = async {
        let mut refused = 0;
        loop {
            match read(&mut reader).await {
                Ok((GOAWAY, payload)) => return (End::GoAway(error_of(&payload)), refused),
                Ok((PING, payload)) if payload == LAST => return (End::Served, refused),
                Ok((RST_STREAM, payload)) if payload == REFUSED_STREAM => refused += 1,
                Ok(_) => {}
                Err(_) => return (End::Closed, refused),
            }
        }
    };
    let both = async {
        tokio::pin!(write, read);
        tokio::select! {
            end = &mut read => end,
            // Who is not listened to any more can still be told why.
            _ = &mut write => read.await,
        }
    };
    timeout(DEADLINE, both).await.expect("an end in time")
}

async fn open(address: SocketAddr) -> io::Result<(OwnedReadHalf, OwnedWriteHalf)> {
    let (reader, mut writer) = TcpStream::connect(address).await?.into_split();
    writer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await?;
    writer.write_all(&frame(SETTINGS, ACK, 0, &[])).await?;
    Ok((reader, writer))
}

/// The next frame: its kind and its payload.
async fn read(reader: &mut OwnedReadHalf) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    reader.read_exact(&mut head).await?;
    let [a, b, c, kind, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    reader.read_exact(&mut payload).await?;
    Ok((kind, payload))
}

fn error_of(payload: &[u8]) -> u32 {
    let error = payload.get(4..8).and_then(|bytes| bytes.try_into().ok());
    u32::from_be_bytes(error.expect("a GOAWAY has an error"))
}
