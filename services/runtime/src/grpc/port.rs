//! The connections of a port, from being accepted to their end.
//!
//! ```text
//! accept ─► place? ─► TLS handshake ─► first bytes ─► HTTP/1.1 or HTTP/2 ─► old: GOAWAY ─► its calls end, or the grace does
//!             └ none: closed  └ too slow: closed ┘                └ shutdown: GOAWAY, its calls end, and whoever does not read is cut
//! ```

use std::{convert::Infallible, future::pending, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use metrics::counter;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::task::TaskTracker;
use tonic::{body::Body, transport::server::TcpConnectInfo};
use tower::{Service, ServiceExt as _};
use tracing::{debug, warn};

use super::{
    places::{Place, Places},
    prompt::Prompt,
};
use crate::{
    settings::{ConnectionSettings, GrpcSettings},
    shutdown::Shutdown,
    tls,
};

const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const PENDING_RESETS_MAX: usize = 20;
/// How long nothing is accepted when the process cannot take another connection, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long, when the process stops, what was answered may take to be read: a peer that reads no more would hold it up.
const READING_GRACE: Duration = Duration::from_secs(3);
/// Connections that began together do not end together.
const AGE_JITTER: f64 = 0.1;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How connections are treated; every connection has a clone.
#[derive(Clone)]
pub(super) struct Port {
    settings: ConnectionSettings,
    http: auto::Builder<TokioExecutor>,
    tls: Option<tls::Current>,
    shutdown: Shutdown,
}

impl Port {
    pub(super) fn new(settings: &GrpcSettings, tls: Option<tls::Current>, shutdown: Shutdown) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        // Without a timer hyper's own limit on the time of a request's head is not kept.
        http.http1().timer(TokioTimer::new());
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.concurrent_streams_max)
            .max_header_list_size(settings.header_bytes_max)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .keep_alive_interval(settings.keepalive_interval)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        Self { settings: settings.connections.clone(), http, tls, shutdown }
    }

    /// Serves until shutdown is requested and every connection has ended.
    pub(super) async fn serve<S, B>(self, listener: TcpListener, service: S)
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let places = Places::new(self.settings.connections_max, self.settings.connections_per_address_max);
        let connections = TaskTracker::new();
        loop {
            let (stream, peer) = tokio::select! {
                accepted = accept(&listener) => accepted,
                () = self.shutdown.wait() => break,
            };
            match places.take(peer.ip()) {
                // A handler's panic ends its connection, and not the process.
                Ok(place) => {
                    drop(connections.spawn(self.clone().connection(stream, peer, place, service.clone())))
                }
                Err(full) => {
                    counter!("rpc_server_connections_refused_total", "why" => full.label()).increment(1);
                    debug!(why = full.label(), "a connection was closed at once");
                }
            }
        }
        // Whoever connects during the drain reads at once that nobody listens.
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    async fn connection<S, B>(self, stream: TcpStream, peer: SocketAddr, place: Place, service: S)
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let info = TcpConnectInfo { local_addr: stream.local_addr().ok(), remote_addr: Some(peer) };
        match &self.tls {
            None => self.http(stream, info, service).await,
            Some(tls) => {
                let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow()));
                if let Some(stream) = self.handshake(acceptor, stream).await {
                    self.http(stream, info, service).await;
                }
            }
        }
        drop(place);
    }

    async fn handshake(&self, acceptor: TlsAcceptor, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let outcome = tokio::select! {
            outcome = timeout(self.settings.tls_handshake_timeout, acceptor.accept(stream)) => outcome,
            () = self.shutdown.wait() => return None,
        };
        match outcome {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                closed("handshake");
                debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => {
                closed("handshake_timeout");
                None
            }
        }
    }

    async fn http<I, S, B>(&self, stream: I, info: TcpConnectInfo, service: S)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let stream = TokioIo::new(Prompt::new(stream, self.settings.first_bytes_timeout));
        let service = service.map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(info.clone());
            request.map(Body::new)
        });
        let calls = TaskTracker::new();
        let tracker = calls.clone();
        let service = service.map_future(move |call| tracker.track_future(call));
        let mut serving = pin!(self.http.serve_connection(stream, TowerToHyperService::new(service)));
        tokio::select! {
            outcome = serving.as_mut() => return ended(outcome),
            () = after(jittered(self.settings.connection_age_max)) => closed("age"),
            () = self.shutdown.wait() => {}
        }
        serving.as_mut().graceful_shutdown();
        tokio::select! {
            outcome = serving => ended(outcome),
            () = after(self.settings.connection_age_grace) => closed("age_grace"),
            () = self.answered(&calls) => closed("drain"),
        }
    }

    /// Waits until the process stops, all calls are answered, and there was time to read the answers.
    async fn answered(&self, calls: &TaskTracker) {
        self.shutdown.wait().await;
        calls.close();
        calls.wait().await;
        sleep(READING_GRACE).await;
    }
}

/// The next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut is_said = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // It only costs latency when it fails.
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            Err(error) if is_peers_fault(&error) => {}
            Err(error) => {
                if !is_said {
                    warn!(%error, "no connection can be accepted, trying again");
                    is_said = true;
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, TimedOut, WouldBlock};
    [BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, TimedOut, WouldBlock]
        .contains(&error.kind())
}

/// Zero: never.
async fn after(time: Duration) {
    if time.is_zero() {
        return pending().await;
    }
    sleep(time).await;
}

fn jittered(age: Duration) -> Duration {
    let factor = 1.0 + AGE_JITTER * (2.0 * fastrand::f64() - 1.0);
    Duration::try_from_secs_f64(age.as_secs_f64() * factor).unwrap_or(age)
}

fn ended(outcome: Result<(), BoxError>) {
    let Err(error) = outcome else { return };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            closed("silent");
            break;
        }
        cause = error.source();
    }
    debug!(%error, "a connection ended with an error");
}

/// Counts a connection that this end closed.
fn closed(why: &'static str) {
    counter!("rpc_server_connections_closed_total", "why" => why).increment(1);
}
