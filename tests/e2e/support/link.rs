//! A link to a server that breaks all the time: every connection is cut when its time is over, whatever goes through it.

use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long one connection after the other lives. The shortest leaves time for some calls.
const LIVES_MS: [u64; 4] = [400, 150, 700, 250];

/// It breaks as long as it is kept.
pub(crate) struct BreakingLink {
    url: String,
    _listener: JoinSet<()>,
}

impl BreakingLink {
    /// Opens a port that leads to `http://HOST:PORT`.
    pub(crate) async fn to(url: &str) -> Self {
        let server = url.strip_prefix("http://").expect("an http URL").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, server));
        Self { url: format!("http://{address}"), _listener: tasks }
    }

    /// Where it begins.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

async fn listen(listener: TcpListener, server: String) {
    let mut connections = JoinSet::new();
    for life in LIVES_MS.iter().cycle() {
        let Ok((mut client, _)) = listener.accept().await else { continue };
        let server = server.clone();
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(server).await {
                // Dropping both ends cuts it.
                let _ =
                    timeout(Duration::from_millis(*life), copy_bidirectional(&mut client, &mut server)).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
