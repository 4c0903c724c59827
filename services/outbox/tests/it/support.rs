//! One Postgres for this test binary, a migrated database for each test, and a proxy that counts round trips.

use std::{
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use deadpool_postgres::ClientWrapper as Client;
use tailrace_runtime::task;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_postgres::NoTls;
use xtask::native::{Postgres, PostgresOptions, Scratch};

/// What a service brings to the outbox.
const MIGRATIONS: &[(&str, &str)] =
    &[("V1__things", "CREATE TABLE things (id uuid PRIMARY KEY, name text NOT NULL UNIQUE)")];

static POSTGRES: LazyLock<(Postgres, Scratch)> = LazyLock::new(|| {
    let scratch = Scratch::new().expect("a folder");
    let options = PostgresOptions { without_fsync: true, ..PostgresOptions::default() };
    let postgres = Postgres::start(&scratch.path().join("postgres"), options).expect("Postgres starts");
    (postgres, scratch)
});

/// A database with the outbox and the table `things`.
pub(crate) struct Database {
    name: String,
}

impl Database {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("things_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let administrator = connect(&POSTGRES.0.superuser_url("postgres")).await;
        administrator.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
        let database = Self { name };
        let mut client = database.connect().await;
        tailrace_outbox::migrate(&mut client, MIGRATIONS, None).await.expect("migrated");
        database
    }

    pub(crate) async fn connect(&self) -> Client {
        connect(&POSTGRES.0.superuser_url(&self.name)).await
    }

    /// A connection whose flights to the server are counted.
    pub(crate) async fn connect_counted(&self) -> (Client, RoundTrips) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let counter = RoundTrips::default();
        let server = SocketAddr::from(([127, 0, 0, 1], POSTGRES.0.port()));
        task::spawn("proxy", proxy(listener, server, counter.clone()));
        let url = POSTGRES.0.superuser_url(&self.name);
        let direct = format!(":{}/", server.port());
        let client = connect(&url.replace(&direct, &format!(":{}/", address.port()))).await;
        (client, counter)
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres answers");
    Client::new(client, task::spawn("connection", async move { drop(connection.await) }))
}

/// How often the server said that it is ready for the next query, which ends each round trip.
#[derive(Clone, Default)]
pub(crate) struct RoundTrips(Arc<AtomicUsize>);

impl RoundTrips {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

async fn proxy(listener: TcpListener, server: SocketAddr, counter: RoundTrips) {
    let (client, _) = listener.accept().await.expect("a client");
    let server = TcpStream::connect(server).await.expect("the server");
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let forward = async { drop(tokio::io::copy(&mut from_client, &mut to_server).await) };
    let back = async {
        let mut from_server = from_server;
        while let Some(message) = message(&mut from_server).await {
            // Counted before it is handed on, so that the client cannot ask for the count too early.
            if message.first() == Some(&b'Z') {
                counter.0.fetch_add(1, Ordering::SeqCst);
            }
            if to_client.write_all(&message).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(forward, back);
}

/// One message of the server: a type, a length that counts itself, and a body.
async fn message(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut message = vec![0; 5];
    from.read_exact(&mut message).await.ok()?;
    let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]);
    message.resize(1 + usize::try_from(length).ok()?, 0);
    from.read_exact(&mut message[5..]).await.ok()?;
    Some(message)
}
