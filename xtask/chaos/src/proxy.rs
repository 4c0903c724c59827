//! A link that can be broken: everything between a relay and a server passes through here.
//!
//! ```text
//!             ┌── requests ──▶
//!   relay ◀──▶│    Mode       │◀──▶ server
//!             ◀── replies ────┘
//! ```
//!
//! Bytes that a half-open link swallows were acknowledged to their sender, as by a router that dies with full buffers.
//! When the link heals, a connection with a hole in it is reset; one that lost nothing goes on.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::schedule::Lost;

const CHUNK_BYTES: usize = 16 * 1024;
/// What one piece takes on a slow link, and how large it is.
const SLOW_DELAY: Duration = Duration::from_millis(40);
const SLOW_CHUNK_BYTES: usize = 4 * 1024;

/// What a link does with what is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes it on.
    #[default]
    Pass,
    /// Resets connections, and lets no new ones through.
    Cut,
    /// Passes it on late and in small pieces.
    Slow,
    /// Swallows it.
    HalfOpen(Lost),
}

/// A link from a port of loopback to a server.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    _listener: JoinSet<()>,
}

impl Link {
    /// Opens a port that leads to the server.
    pub(crate) async fn to(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (mode, seen) = watch::channel(Mode::Pass);
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, server, seen));
        Ok(Self { address, mode, _listener: tasks })
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks or mends it.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn listen(listener: TcpListener, server: SocketAddr, mode: watch::Receiver<Mode>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(connect(client, server, mode.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(mut client: TcpStream, address: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let is_cut = *mode.borrow() == Mode::Cut;
    let connected = if is_cut { None } else { TcpStream::connect(address).await.ok() };
    let Some(mut server) = connected else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let requests = pump(from_client, to_server, Direction::Requests, mode.clone());
        let replies = pump(from_server, to_client, Direction::Replies, mode.clone());
        let pumps = async { tokio::try_join!(requests, replies) };
        tokio::select! {
            ended = pumps => ended.map(drop),
            _ = mode.wait_for(|mode| *mode == Mode::Cut) => Err(Broken),
        }
    };
    if ended.is_err() {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// The connection cannot go on.
struct Broken;

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Replies,
}

impl Direction {
    fn is_lost(self, mode: Mode) -> bool {
        match mode {
            Mode::HalfOpen(Lost::Both) => true,
            Mode::HalfOpen(Lost::Requests) => self == Self::Requests,
            Mode::HalfOpen(Lost::Replies) => self == Self::Replies,
            Mode::Pass | Mode::Cut | Mode::Slow => false,
        }
    }
}

/// Passes on what goes in one direction, until its end.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    mut modes: watch::Receiver<Mode>,
) -> Result<(), Broken> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut has_hole = false;
    loop {
        let mode = *modes.borrow_and_update();
        let is_lost = direction.is_lost(mode);
        if has_hole && !is_lost {
            return Err(Broken);
        }
        let room = if mode == Mode::Slow { SLOW_CHUNK_BYTES } else { CHUNK_BYTES };
        let read = tokio::select! {
            _ = modes.changed() => continue,
            read = from.read(&mut chunk[..room]) => read,
        };
        if is_lost {
            has_hole = true;
            if !matches!(read, Ok(1..)) {
                // Not even the end gets through.
                modes.wait_for(|mode| !direction.is_lost(*mode)).await.map_err(|_| Broken)?;
            }
            continue;
        }
        let read = read?;
        if read == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        if mode == Mode::Slow {
            sleep(SLOW_DELAY).await;
        }
        to.write_all(&chunk[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A server that sends back what it gets, and a link to it.
    async fn echo() -> (Link, JoinSet<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let link = Link::to(listener.local_addr().unwrap()).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
            }
        });
        (link, tasks)
    }

    async fn client(link: &Link) -> TcpStream {
        TcpStream::connect(link.address()).await.unwrap()
    }

    /// Sends, and reads what comes back; `None` when the connection ends instead.
    async fn ask(stream: &mut TcpStream, text: &str) -> Option<String> {
        stream.write_all(text.as_bytes()).await.ok()?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await.ok()?;
        String::from_utf8(answer).ok()
    }

    #[tokio::test]
    async fn a_whole_link_passes_everything_on() {
        let (link, _server) = echo().await;
        let mut stream = client(&link).await;
        let text = "x".repeat(100_000);
        let (mut reader, mut writer) = stream.split();
        let mut answer = vec![0; text.len()];
        let (sent, read) = tokio::join!(writer.write_all(text.as_bytes()), reader.read_exact(&mut answer));
        sent.unwrap();
        read.unwrap();
        assert_eq!(answer, text.as_bytes());
    }

    #[tokio::test]
    async fn a_cut_resets_what_is_there_and_refuses_what_is_new_until_it_is_mended() {
        let (link, _server) = echo().await;
        let mut stream = client(&link).await;
        assert_eq!(ask(&mut stream, "one").await.as_deref(), Some("one"));
        link.set(Mode::Cut);
        assert!(stream.read_u8().await.is_err());
        assert_eq!(ask(&mut client(&link).await, "two").await, None);
        link.set(Mode::Pass);
        assert_eq!(ask(&mut client(&link).await, "three").await.as_deref(), Some("three"));
    }

    #[tokio::test]
    async fn a_slow_link_takes_its_time() {
        let (link, _server) = echo().await;
        link.set(Mode::Slow);
        let mut stream = client(&link).await;
        let begun = Instant::now();
        assert_eq!(ask(&mut stream, "one").await.as_deref(), Some("one"));
        assert!(begun.elapsed() >= SLOW_DELAY * 2, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_half_open_link_swallows_and_resets_only_connections_with_a_hole() {
        for lost in [Lost::Requests, Lost::Replies, Lost::Both] {
            let (link, _server) = echo().await;
            let (mut holed, mut idle) = (client(&link).await, client(&link).await);
            for stream in [&mut holed, &mut idle] {
                assert_eq!(ask(stream, "before").await.as_deref(), Some("before"));
            }
            link.set(Mode::HalfOpen(lost));
            holed.write_all(b"during").await.unwrap();
            let silence = tokio::time::timeout(Duration::from_millis(100), holed.read_u8()).await;
            assert!(silence.is_err(), "{lost:?}: nothing comes, not even an end");
            link.set(Mode::Pass);
            assert_eq!(ask(&mut holed, "after").await, None, "{lost:?}");
            assert_eq!(ask(&mut idle, "after").await.as_deref(), Some("after"), "{lost:?}");
        }
    }

    #[tokio::test]
    async fn the_end_of_a_client_does_not_get_through_a_half_open_link() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let link = Link::to(listener.local_addr().unwrap()).await.unwrap();
        let stream = client(&link).await;
        let (mut server, _) = listener.accept().await.unwrap();
        link.set(Mode::HalfOpen(Lost::Requests));
        drop(stream);
        let silence = tokio::time::timeout(Duration::from_millis(100), server.read_u8()).await;
        assert!(silence.is_err(), "the server does not hear of it");
        link.set(Mode::Pass);
        assert!(server.read_u8().await.is_err());
    }
}
