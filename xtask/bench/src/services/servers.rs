//! The servers of a workload: one Postgres, a user service, an order service, and an account that is signed in.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tailrace::auth::v1::LoginRequest;
use tailrace::auth::v1::auth_service_client::AuthServiceClient;
use tailrace::user::v1::user_service_client::UserServiceClient;
use tailrace::user::v1::{CreateUserRequest, User};
use tokio_postgres::NoTls;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use xtask::artefacts;
use xtask::native::child::{Launch, is_alive};
use xtask::native::{Port, PortLease, Postgres, PostgresOptions, Scratch, dev_database};
use xtask::settings::Settings;
use xtask::stack::Process;

use crate::usage::Usage;

/// Wrong passwords, and calls a second, that nobody reaches.
const UNTHROTTLED: &str = "1000000";
/// Who orders in the statements that are compared with.
const BUYER: &str = "users/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11";
const EMAIL: &str = "bench@example.org";
const PASSWORD: &str = "correct horse battery staple";
/// Calls one after the other over one connection would be the connection's figure.
const CONNECTIONS: usize = 8;
const KEY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

/// Servers, gone with everything in them when this is dropped.
pub(super) struct Servers {
    pub(super) users: Service,
    pub(super) orders: Service,
    /// The header of whoever is signed in, and his name.
    pub(super) bearer: MetadataValue<Ascii>,
    pub(super) user: String,
    pub(super) postgres: Postgres,
    pub(super) scratch: Scratch,
}

/// A service as a process of its own.
pub(super) struct Service {
    process: Process,
    url: String,
    _ports: [PortLease; 2],
}

/// Processor time of each, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuTimes {
    pub(super) service: f64,
    pub(super) postgres: f64,
    pub(super) load: f64,
}

impl Servers {
    /// Everything as it is delivered; a commit that is answered is on the disk.
    pub(super) async fn start() -> Result<Self> {
        Self::start_with("user-service", &[]).await
    }

    /// The same with hashes that cost nothing.
    pub(super) async fn start_without_hashing() -> Result<Self> {
        Self::start_with("tailrace-bench", &["serve-users"]).await
    }

    async fn start_with(user_service: &str, arguments: &[&str]) -> Result<Self> {
        let scratch = Scratch::new()?;
        let options = PostgresOptions {
            settings: vec![("max_wal_size".into(), "4GB".into())],
            ..PostgresOptions::default()
        };
        let postgres = Postgres::start(&scratch.path().join("postgres"), options)?;
        dev_database(&postgres).context("cannot make the databases")?;
        let key = scratch.path().join("key.pem").display().to_string();
        Launch::new("keygen", artefacts::programs()?.join("user-service"), scratch.path().join("keygen.log"))
            .args(["keygen", "--out", &key])
            .run(KEY_TIMEOUT)?;
        let url = |role: &str, password: &str, database: &str| -> Result<String> {
            Ok(postgres.url(role, &Settings::get().value(password)?, database))
        };
        let users = Service::start(scratch.path(), user_service, |launch| {
            let database = url("users_service", "USERS_SERVICE_PASSWORD", "users")?;
            let owner = url("users_owner", "USERS_OWNER_PASSWORD", "users")?;
            Ok(launch
                .args(arguments.iter().copied())
                .env("TAILRACE_SIGNING_KEY_FILE", &key)
                // What is measured is the checking of passwords, not how few of them are let through.
                .env("TAILRACE_SIGN_IN_TRIES", UNTHROTTLED)
                .env("TAILRACE_SIGN_IN_ADDRESS_TRIES", UNTHROTTLED)
                .env("TAILRACE_DATABASE_URL", database)
                .env("TAILRACE_OWNER_DATABASE_URL", owner))
        })?;
        let orders = Service::start(scratch.path(), "order-service", |launch| {
            let database = url("orders_service", "ORDERS_SERVICE_PASSWORD", "orders")?;
            let owner = url("orders_owner", "ORDERS_OWNER_PASSWORD", "orders")?;
            Ok(launch
                .env("TAILRACE_AUTH_KEYS_URL", &users.url)
                .env("TAILRACE_DATABASE_URL", database)
                .env("TAILRACE_OWNER_DATABASE_URL", owner)
                // There is no Kafka: who may order is written below.
                .env("TAILRACE_KAFKA_BROKERS", "127.0.0.1:1"))
        })?;
        let (bearer, user) = sign_in(&users).await?;
        let servers = Self { users, orders, bearer, user, postgres, scratch };
        let buyers =
            format!("INSERT INTO known_user VALUES ('{}', 1, false), ('{BUYER}', 1, false)", servers.user);
        servers.execute("orders", &buyers).await?;
        Ok(servers)
    }

    /// Does statements in a database.
    pub(super) async fn execute(&self, database: &str, statements: &str) -> Result<()> {
        let (client, connection) =
            tokio_postgres::connect(&self.postgres.superuser_url(database), NoTls).await?;
        tokio::select! {
            done = client.batch_execute(statements) => done.context("the database refuses"),
            _ = connection => bail!("the database is gone"),
        }
    }

    /// What was used so far: by a service, by the database, by this process.
    pub(super) fn cpu_times(&self, service: &Service) -> Result<CpuTimes> {
        let server = self.postgres.pid().context("Postgres does not run")?;
        let path = format!("/proc/{server}/task/{server}/children");
        let children = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        // One that ended meanwhile is not counted: connections stay.
        let times = pids.filter(|pid| is_alive(*pid)).filter_map(|pid| Usage::of(pid).ok());
        Ok(CpuTimes {
            service: service.usage()?.cpu_s,
            postgres: times.map(|usage| usage.cpu_s).sum(),
            load: Usage::of(std::process::id())?.cpu_s,
        })
    }
}

impl Service {
    fn start(folder: &Path, program: &str, settings: impl FnOnce(Launch) -> Result<Launch>) -> Result<Self> {
        let (port, ops_port) = (Port::Free.lease()?, Port::Free.lease()?);
        let log = folder.join(format!("{program}.log"));
        let launch = Launch::new(program, artefacts::programs()?.join(program), &log)
            .env("TAILRACE_LISTEN", format!("127.0.0.1:{}", port.port()))
            .env("TAILRACE_OPS_LISTEN", format!("127.0.0.1:{}", ops_port.port()))
            // All clients are one principal at one address; their calls are counted as everybody's.
            .env("TAILRACE_RATE_PER_PRINCIPAL", UNTHROTTLED)
            .env("TAILRACE_RATE_BURST_PER_PRINCIPAL", UNTHROTTLED)
            .env("TAILRACE_RATE_PER_ADDRESS", UNTHROTTLED)
            .env("TAILRACE_RATE_BURST_PER_ADDRESS", UNTHROTTLED);
        let process = Process::new(settings(launch)?, log, Some(ops_port.port()));
        process.start()?;
        process.wait_ready()?;
        let url = format!("http://127.0.0.1:{}", port.port());
        Ok(Self { process, url, _ports: [port, ops_port] })
    }

    /// Connections to share among clients.
    pub(super) async fn connect(&self) -> Result<Vec<Channel>> {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(Endpoint::from_shared(self.url.clone())?.tcp_nodelay(true).connect().await?);
        }
        Ok(channels)
    }

    pub(super) fn usage(&self) -> Result<Usage> {
        let pid = self.process.pid().with_context(|| format!("{} does not run", self.process.name()))?;
        Usage::of(pid)
    }
}

/// Creates the account, and gives the header that carries its token, and its name.
async fn sign_in(users: &Service) -> Result<(MetadataValue<Ascii>, String)> {
    let channel = Endpoint::from_shared(users.url.clone())?.connect().await?;
    let user = User { display_name: "Bench".to_owned(), email: EMAIL.to_owned(), ..User::default() };
    let request =
        CreateUserRequest { user: Some(user), password: PASSWORD.to_owned(), request_id: String::new() };
    UserServiceClient::new(channel.clone()).create_user(request).await.context("no account can be made")?;
    let request = LoginRequest { email: EMAIL.to_owned(), password: PASSWORD.to_owned() };
    let answer = AuthServiceClient::new(channel).login(request).await.context("nobody can sign in")?;
    let answer = answer.into_inner();
    Ok((format!("Bearer {}", answer.access_token).parse().context("no header value")?, answer.user))
}
