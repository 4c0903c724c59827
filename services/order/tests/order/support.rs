//! One Postgres for this test binary, a database for each test, the service inside the test's process, and tokens.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use order_service::config::{Cli, DEFAULTS};
use service_testing::{Authority, with_token};
pub(crate) use service_testing::{DEADLINE, fields, reason, until};
use tailrace::{
    google::r#type::Money,
    order::v1::{CreateOrderRequest, Order, OrderLine, order_service_client::OrderServiceClient},
};
use tailrace_runtime::{auth::Verifier, process::Context, settings, task};
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{Client, NoTls};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Server, server::TcpIncoming},
};
use xtask::native::{Postgres, PostgresOptions, Scratch};

pub(crate) const ADA: &str = "users/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11";
pub(crate) const BOB: &str = "users/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9b22";

/// Settings of a service that learns of nobody: no Kafka answers there.
pub(crate) const NO_KAFKA: [&str; 2] = ["--kafka-brokers", "127.0.0.1:1"];

static POSTGRES: LazyLock<(Postgres, Scratch)> = LazyLock::new(|| {
    let scratch = Scratch::new().expect("a folder");
    let options = PostgresOptions { without_fsync: true, ..PostgresOptions::default() };
    let postgres = Postgres::start(&scratch.path().join("postgres"), options).expect("Postgres starts");
    (postgres, scratch)
});

pub(crate) static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::generate);

/// An empty database.
pub(crate) struct Database {
    name: String,
}

impl Database {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("orders_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let administrator = connect(&POSTGRES.0.superuser_url("postgres")).await;
        administrator.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
        Self { name }
    }

    pub(crate) fn url(&self) -> String {
        POSTGRES.0.superuser_url(&self.name)
    }

    pub(crate) async fn connect(&self) -> Client {
        connect(&self.url()).await
    }
}

/// Lets the database know the users of the tests, as if their events had been read.
pub(crate) async fn know_users(url: &str) {
    let insert =
        "INSERT INTO known_user SELECT name, 1, false FROM unnest($1::text[]) AS name ON CONFLICT DO NOTHING";
    connect(url).await.execute(insert, &[&[ADA, BOB].as_slice()]).await.expect("known");
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres answers");
    task::spawn("connection", async move { drop(connection.await) });
    client
}

pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address")
}

/// The service in this process.
pub(crate) struct Service {
    address: SocketAddr,
    context: Context,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Service {
    /// Starts it, and returns when it is ready.
    pub(crate) async fn start(database: &Database) -> Self {
        Self::start_at(&database.url()).await
    }

    /// The same with a database that is behind something.
    pub(crate) async fn start_at(url: &str) -> Self {
        Self::start_with(url, &[]).await
    }

    /// The same with further arguments.
    pub(crate) async fn start_with(url: &str, arguments: &[&str]) -> Self {
        let arguments: Vec<_> =
            NO_KAFKA.iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        let service = Self::start_learning(url, &arguments).await;
        know_users(url).await;
        service
    }

    /// The same, and with topics to learn of users from: nobody is known yet.
    pub(crate) async fn start_learning(url: &str, arguments: &[String]) -> Self {
        let arguments =
            ["order-service", "--database-url", url].into_iter().chain(arguments.iter().map(String::as_str));
        let cli: Cli = settings::parse_from(arguments, DEFAULTS).expect("a command line");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let context = Context::detached();
        let verifier = Verifier::fixed([AUTHORITY.key()]);
        let running = task::spawn("order-service", {
            let context = context.clone();
            async move { order_service::run_with(&cli.config, verifier, listener, context).await }
        });
        let ready = context.readiness.changed_from(false);
        timeout(DEADLINE, ready).await.unwrap_or_else(|_| panic!("not ready: {}", context.readiness));
        Self { address, context, running }
    }

    /// Returns when it is ready, or not any more.
    pub(crate) async fn until_ready(&self, ready: bool) {
        let changed = timeout(DEADLINE, self.context.readiness.changed_from(!ready)).await;
        changed.unwrap_or_else(|_| panic!("still not {ready}: {}", self.context.readiness));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.context.readiness.ready()
    }

    /// As `/readyz` shows it.
    pub(crate) fn readiness(&self) -> String {
        self.context.readiness.to_string()
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).expect("a URL").connect_lazy()
    }

    pub(crate) fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.channel())
    }

    pub(crate) async fn create(&self, buyer: &str, request: CreateOrderRequest) -> Result<Order, Status> {
        self.orders().create_order(by(buyer, request)).await.map(Response::into_inner)
    }

    pub(crate) async fn stop(self) {
        self.context.shutdown.request();
        timeout(DEADLINE, self.running).await.expect("it stops").expect("no panic").expect("a clean stop");
    }
}

/// Publishes the key of the tokens as the user service would; gives the URL.
pub(crate) async fn publish_keys() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let server = Server::builder().add_service(AUTHORITY.publisher());
    task::spawn("publisher", server.serve_with_incoming(TcpIncoming::from(listener)));
    format!("http://{address}")
}

pub(crate) fn token(user: &str, roles: &[&str]) -> String {
    AUTHORITY.token(user, roles)
}

/// A token that was valid once.
pub(crate) fn expired_token(user: &str) -> String {
    AUTHORITY.expired_token(user)
}

/// A request with the token of a user.
pub(crate) fn by<T>(user: &str, message: T) -> Request<T> {
    with_token(message, &token(user, &[]))
}

/// A request with the token of an operator.
pub(crate) fn by_operator<T>(message: T) -> Request<T> {
    with_token(message, &token(BOB, &["operator"]))
}

pub(crate) fn line(product: &str, quantity: i32, units: i64, nanos: i32, currency: &str) -> OrderLine {
    let unit_price = Some(Money { currency_code: currency.to_owned(), units, nanos });
    OrderLine { product: product.to_owned(), quantity, unit_price }
}

pub(crate) fn new_order(lines: Vec<OrderLine>) -> CreateOrderRequest {
    CreateOrderRequest { order: Some(Order { lines, ..Order::default() }), request_id: String::new() }
}

pub(crate) fn lamp() -> CreateOrderRequest {
    new_order(vec![line("Lamp", 2, 12, 340_000_000, "EUR")])
}
