//! A byte stream to Postgres: TCP that notices a dead peer, and TLS on it if asked for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::{Attempt, SourceError, SourceErrorKind};
use super::options::ReplicationOptions;
use super::tls;

/// An idle connection is probed after this long,
pub(super) const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// then this often,
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
/// and given up after this many probes without an answer.
pub(super) const KEEPALIVE_RETRIES: u32 = 3;
/// What we sent must be acknowledged by the peer's kernel within this, or the connection is dead.
pub(super) const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Either kind of stream.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A byte stream to the server, ready for the start-up message.
pub(super) struct Socket {
    pub(super) stream: Box<dyn Duplex>,
    pub(super) encryption: Encryption,
}

/// How it is encrypted, which decides what a password may do on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Encryption {
    None,
    /// With the certificate's hash that SCRAM can be bound to, if the certificate has one.
    Tls(Option<Vec<u8>>),
}

impl Socket {
    /// Opens it.
    pub(super) async fn open(options: &ReplicationOptions) -> Result<Self, SourceError> {
        let tcp = tcp(options).await.map_err(unreachable)?;
        let config = tls::client_config(&options.tls).map_err(SourceError::untrusted)?;
        match config {
            None => Ok(Self { stream: Box::new(tcp), encryption: Encryption::None }),
            Some(config) => encrypt(tcp, options, TlsConnector::from(Arc::new(config))).await,
        }
    }
}

async fn tcp(options: &ReplicationOptions) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect((options.host.as_str(), options.port)).await?;
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let socket = SockRef::from(&tcp);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(tcp)
}

/// Asks for TLS and makes it. The answer is one byte and is read as one byte: what came with it in clear text would
/// otherwise be taken for the server's encrypted word.
async fn encrypt(
    mut tcp: TcpStream,
    options: &ReplicationOptions,
    connector: TlsConnector,
) -> Result<Socket, SourceError> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(unreachable)?;
    let mut answer = [0];
    tcp.read_exact(&mut answer).await.map_err(unreachable)?;
    if answer != *b"S" {
        return Err(no_tls());
    }
    let name = ServerName::try_from(options.host.clone()).map_err(SourceError::untrusted)?;
    let stream = connector.connect(name, tcp).await.map_err(untrusted)?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let binding = certificates.first().and_then(tls::server_end_point);
    Ok(Socket { stream: Box::new(stream), encryption: Encryption::Tls(binding) })
}

fn unreachable(error: io::Error) -> SourceError {
    SourceError::broken(Attempt::Connect, error)
}

fn no_tls() -> SourceError {
    let what = "the server does not offer TLS";
    let mend = "set ssl = on in postgresql.conf, or ask for a connection without TLS";
    SourceError::refused(SourceErrorKind::Denied, Attempt::Connect, what, mend, None)
}

/// A handshake fails either because the peer went away, or because it is not whom we trust.
fn untrusted(error: io::Error) -> SourceError {
    if tls::is_refusal(&error) { SourceError::untrusted(error) } else { unreachable(error) }
}
