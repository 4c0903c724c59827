//! One Postgres for this test binary, a database for each test, and the service inside the test's process.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

pub(crate) use service_testing::{DEADLINE, details, fields, reason, until, with_token};
use tailrace::{
    auth::v1::{LoginRequest, auth_service_client::AuthServiceClient},
    user::v1::{CreateUserRequest, User, user_service_client::UserServiceClient},
};
use tailrace_runtime::{clock::Monotonic, process::Context, settings, task};
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{Client, NoTls};
use tonic::transport::Channel;
use user_service::{
    config::{Cli, DEFAULTS},
    keygen,
    token::Issuer,
};
use xtask::native::{Postgres, PostgresOptions, Scratch, dev_database};

pub(crate) const PASSWORD: &str = "correct horse";

static POSTGRES: LazyLock<(Postgres, Scratch)> = LazyLock::new(|| {
    let scratch = Scratch::new().expect("a folder");
    let options = PostgresOptions { without_fsync: true, ..PostgresOptions::default() };
    let postgres = Postgres::start(&scratch.path().join("postgres"), options).expect("Postgres starts");
    (postgres, scratch)
});

/// The databases and roles of a development cluster; call it once.
pub(crate) fn dev_cluster() -> &'static Postgres {
    dev_database(&POSTGRES.0).expect("databases and roles");
    &POSTGRES.0
}

/// An empty database.
pub(crate) struct Database {
    name: String,
}

impl Database {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("users_{}", COUNT.fetch_add(1, Ordering::Relaxed));
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

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("Postgres answers");
    task::spawn("connection", async move { drop(connection.await) });
    client
}

/// A folder with a signing key in it.
pub(crate) fn signing_key() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key.pem");
    keygen(&path).expect("a key");
    (folder, path)
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
    key: PathBuf,
    _folder: tempfile::TempDir,
}

impl Service {
    /// Starts it, and returns when it is ready. Its callers may guess passwords as often as they like.
    pub(crate) async fn start(database: &Database) -> Self {
        Self::launch(&database.url()).await.ready().await
    }

    /// The same, but with the limits of sign-ins that it comes with, whose time stands still, and more settings.
    pub(crate) async fn throttled(database: &Database, more: &[&str]) -> Self {
        let context = Context { clock: Monotonic::stopped(), ..Context::detached() };
        Self::launch_in(context, &database.url(), more).await.ready().await
    }

    /// The same as [`Service::start`] with more settings.
    pub(crate) async fn start_with(database: &Database, more: &[&str]) -> Self {
        Self::launch_with(&database.url(), more).await.ready().await
    }

    async fn ready(self) -> Self {
        let ready = self.context.readiness.changed_from(false);
        timeout(DEADLINE, ready).await.unwrap_or_else(|_| panic!("not ready: {}", self.context.readiness));
        self
    }

    /// Starts it without waiting.
    pub(crate) async fn launch(database_url: &str) -> Self {
        let unthrottled = ["--sign-in-tries=1000000", "--sign-in-address-tries=1000000"];
        Self::launch_with(database_url, &unthrottled).await
    }

    /// The same with more settings.
    pub(crate) async fn launch_with(database_url: &str, more: &[&str]) -> Self {
        Self::launch_in(Context::detached(), database_url, more).await
    }

    async fn launch_in(context: Context, database_url: &str, more: &[&str]) -> Self {
        let (folder, key) = signing_key();
        let arguments = [
            "user-service",
            "--database-url",
            database_url,
            "--signing-key-file",
            key.to_str().expect("UTF-8"),
        ]
        .into_iter()
        .chain(more.iter().copied());
        let cli: Cli = settings::parse_from(arguments, DEFAULTS).expect("a command line");
        let issuer = Issuer::from_settings(&cli.config.tokens).expect("a key");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let running = task::spawn("user-service", {
            let context = context.clone();
            async move { user_service::run(&cli.config, issuer, listener, context).await }
        });
        Self { address, context, running, key, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The file of its signing keys.
    pub(crate) fn key_file(&self) -> &Path {
        &self.key
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(self.url()).expect("a URL").connect_lazy()
    }

    /// A channel whose connections come from `address`.
    pub(crate) fn channel_from(&self, address: Ipv4Addr) -> Channel {
        let endpoint = Channel::from_shared(self.url()).expect("a URL");
        endpoint.local_address(Some(address.into())).connect_lazy()
    }

    pub(crate) fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.channel())
    }

    pub(crate) fn auth(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel())
    }

    /// Creates a user with [`PASSWORD`].
    pub(crate) async fn create(&self, email: &str) -> User {
        self.users().create_user(new_user("Ada", email)).await.expect("a user").into_inner()
    }

    /// The access token of a user with [`PASSWORD`].
    pub(crate) async fn token(&self, email: &str) -> String {
        let request = LoginRequest { email: email.to_owned(), password: PASSWORD.to_owned() };
        self.auth().login(request).await.expect("a token").into_inner().access_token
    }

    pub(crate) async fn stop(self) {
        self.context.shutdown.request();
        timeout(DEADLINE, self.running).await.expect("it stops").expect("no panic").expect("a clean stop");
    }
}

pub(crate) fn new_user(display_name: &str, email: &str) -> CreateUserRequest {
    let user = User { display_name: display_name.to_owned(), email: email.to_owned(), ..User::default() };
    CreateUserRequest { user: Some(user), password: PASSWORD.to_owned(), request_id: String::new() }
}
