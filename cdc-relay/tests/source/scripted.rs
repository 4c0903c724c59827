//! What a real server does only by chance: frames glued together or torn apart, and words we do not know.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cdc_relay::source::{
    ReplicationConnection, ReplicationOptions, ReplicationStream, SourceError, SourceErrorKind, StreamOptions,
};
use replication_protocol::{Lsn, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::soon;

const AUTHENTICATED: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0C\0\0\0\x07\0\0\0\0Z\0\0\0\x05I";
const COPY_BOTH: &[u8] = b"W\0\0\0\x07\0\0\0";

/// A server that lets everyone in and then sends what it is told, piece by piece.
struct Script {
    pieces: mpsc::UnboundedSender<Vec<u8>>,
    options: ReplicationOptions,
}

impl Script {
    async fn begin() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (pieces, told) = mpsc::unbounded_channel();
        tailrace_runtime::task::spawn("scripted server", async move {
            let (socket, _) = listener.accept().await.unwrap();
            play(socket, told).await;
        });
        Self { pieces, options: ReplicationOptions::new("127.0.0.1", port, "relay", "users") }
    }

    fn send(&self, piece: impl Into<Vec<u8>>) {
        self.pieces.send(piece.into()).unwrap();
    }

    async fn start(&self) -> Result<ReplicationStream, SourceError> {
        let connection = ReplicationConnection::connect(&self.options).await?;
        assert_eq!(connection.backend_pid(), 7);
        connection.start_replication("s", "p", Lsn::ZERO, StreamOptions { messages: true }).await
    }
}

/// Start-up, one command, then the pieces; the connection ends when the script does.
///
/// The command is read, because a connection closed over unread bytes is a broken one and not an ended one.
async fn play(mut socket: TcpStream, mut told: mpsc::UnboundedReceiver<Vec<u8>>) {
    skip_body(&mut socket).await;
    socket.write_all(AUTHENTICATED).await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'Q');
    skip_body(&mut socket).await;
    while let Some(piece) = told.recv().await {
        // The client may have left by now, which is its right.
        let _ = socket.write_all(&piece).await;
    }
}

async fn skip_body(socket: &mut TcpStream) {
    let length = socket.read_u32().await.unwrap();
    let mut body = vec![0; length as usize - 4];
    socket.read_exact(&mut body).await.unwrap();
}

fn copy_data(body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put_copy_data(body, &mut out);
    out.to_vec()
}

async fn next(stream: &mut ReplicationStream) -> Result<Vec<Bytes>, SourceError> {
    let mut bodies = Vec::new();
    soon(stream.reader.next_frames(&mut bodies)).await.expect("frames in time").map(|()| bodies)
}

#[tokio::test]
async fn frames_that_come_with_the_answer_to_the_start_are_not_lost() {
    let script = Script::begin().await;
    script.send([COPY_BOTH, &copy_data(b"one"), &copy_data(b"two")].concat());
    let mut stream = script.start().await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), ["one", "two"]);
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_waits_loses_nothing() {
    let script = Script::begin().await;
    script.send(COPY_BOTH);
    let mut stream = script.start().await.unwrap();
    let bytes = copy_data(b"torn apart");
    for (last, piece) in [(false, &bytes[..3]), (false, &bytes[3..9]), (true, &bytes[9..])] {
        script.send(piece);
        if !last {
            let mut bodies = Vec::new();
            let waiting = stream.reader.next_frames(&mut bodies);
            assert!(tokio::time::timeout(Duration::from_millis(30), waiting).await.is_err());
        }
    }
    assert_eq!(next(&mut stream).await.unwrap(), ["torn apart"]);
}

#[tokio::test]
async fn notices_parameters_and_unknown_frames_are_passed_over() {
    let script = Script::begin().await;
    script.send(COPY_BOTH);
    script.send(*b"N\0\0\0\x05\0S\0\0\0\x08a\0b\0p\0\0\0\x05x");
    script.send(copy_data(b"data"));
    let mut stream = script.start().await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), ["data"]);
}

#[tokio::test]
async fn a_warning_that_events_are_left_out_ends_the_stream() {
    let script = Script::begin().await;
    script.send(COPY_BOTH);
    let fields = b"SWARNUNG\0VWARNING\0C55000\0Mskipped \"p\"\0RLoadPublications\0\0";
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    script.send([&copy_data(b"last")[..], b"N", &length, fields, &copy_data(b"not to be seen")].concat());
    let mut stream = script.start().await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), ["last"]);
    let error = next(&mut stream).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (SourceErrorKind::Halt, Some("42704")));
    assert!(error.to_string().contains("must have existed before"), "{error}");
}

#[tokio::test]
async fn an_error_comes_after_the_frames_before_it_and_then_for_ever() {
    let script = Script::begin().await;
    let error = b"E\0\0\0\x14C57P01\0Mgoing\0\0\0";
    script.send([COPY_BOTH, &copy_data(b"last"), error, &copy_data(b"not to be seen")].concat());
    let mut stream = script.start().await.unwrap();
    assert_eq!(next(&mut stream).await.unwrap(), ["last"]);
    for _ in 0..2 {
        let error = next(&mut stream).await.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (SourceErrorKind::Retry, Some("57P01")));
        assert!(error.to_string().contains("going"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_completes_the_command_by_itself_is_going_away() {
    for ending in [&b"c\0\0\0\x04"[..], b"C\0\0\0\x0BCOPY 0\0"] {
        let script = Script::begin().await;
        script.send([COPY_BOTH, ending].concat());
        let mut stream = script.start().await.unwrap();
        let error = next(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Retry, "{error}");
    }
}

#[tokio::test]
async fn a_closed_connection_in_the_middle_of_a_frame_is_an_end_and_not_a_frame() {
    let Script { pieces, options } = Script::begin().await;
    pieces.send([COPY_BOTH, &copy_data(b"half")[..7]].concat()).unwrap();
    let connection = ReplicationConnection::connect(&options).await.unwrap();
    let start = connection.start_replication("s", "p", Lsn::ZERO, StreamOptions { messages: true });
    let mut stream = start.await.unwrap();
    drop(pieces);
    let error = next(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Retry);
    assert!(error.to_string().contains("the server closed the connection"), "{error}");
}

#[tokio::test]
async fn what_is_not_postgres_is_told_apart_from_a_broken_connection() {
    for nonsense in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"d\0\0\0\x01"] {
        let script = Script::begin().await;
        script.send(nonsense);
        let error = script.start().await.err().unwrap();
        assert_eq!(error.kind(), SourceErrorKind::Halt, "{error}");
        assert!(error.to_string().contains("of Postgres itself"), "{error}");
    }
}
