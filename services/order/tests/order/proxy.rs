//! A link to Postgres that can keep the answers back, and be cut.

use std::{net::SocketAddr, sync::Arc};

use tailrace_runtime::task;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the link does with the server's bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Pass,
    Hold,
}

/// A link; clones of its state go to each connection.
pub(crate) struct Proxy {
    url: String,
    mode: watch::Sender<Mode>,
    cut: watch::Sender<u64>,
}

impl Proxy {
    /// Listens for connections to the server of `url`.
    pub(crate) async fn start(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = server_of(url);
        let (mode, cut) = (watch::Sender::new(Mode::Pass), watch::Sender::new(0));
        let state = Arc::new((mode.subscribe(), cut.subscribe()));
        task::spawn("proxy", async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mode, cut) = (state.0.clone(), state.1.clone());
                task::spawn("link", link(client, server, mode, cut));
            }
        });
        let url = url.replace(&format!(":{}/", server.port()), &format!(":{}/", address.port()));
        Self { url, mode, cut }
    }

    /// The way to the server through the link.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// From now on the server's answers do not arrive; what it is asked does.
    pub(crate) fn hold_answers(&self) {
        self.mode.send_replace(Mode::Hold);
    }

    /// Cuts every connection, and lets new ones through.
    pub(crate) fn cut(&self) {
        self.mode.send_replace(Mode::Pass);
        self.cut.send_modify(|count| *count += 1);
    }
}

fn server_of(url: &str) -> SocketAddr {
    let (_, server) = url.rsplit_once('@').expect("a user");
    let (address, _) = server.split_once('/').expect("a database");
    address.parse().expect("an address")
}

async fn link(
    client: TcpStream,
    server: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    mut cut: watch::Receiver<u64>,
) {
    cut.mark_unchanged();
    let server = TcpStream::connect(server).await.expect("the server");
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let forward = async { drop(copy(&mut from_client, &mut to_server).await) };
    let back = async {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
            if mode.wait_for(|mode| *mode == Mode::Pass).await.is_err()
                || to_client.write_all(&buffer[..length]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        // First: a link that is cut lets nothing through that it held.
        biased;
        _ = cut.changed() => {}
        () = forward => {}
        () = back => {}
    }
}
