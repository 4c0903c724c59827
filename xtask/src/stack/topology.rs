//! How each process of the stack is started: its settings, its port, its place in the order.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::addresses::Addresses;
use super::process::Process;
use crate::artefacts;
use crate::native::child::Launch;
use crate::native::{Kafka, Postgres};
use crate::settings::Settings;
use crate::workspace;

/// The URLs of a stack, as its user types them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// user-service, gRPC and gRPC-Web.
    pub user: String,
    /// order-service.
    pub order: String,
    /// cdc-relay, admin.
    pub relay: String,
    /// gateway.
    pub gateway: String,
    /// The web page.
    pub web: String,
}

impl Urls {
    pub(super) fn of(addresses: &Addresses) -> Self {
        Self {
            user: loopback(addresses.user.port()),
            order: loopback(addresses.order.port()),
            relay: loopback(addresses.relay.port()),
            gateway: loopback(addresses.gateway.port()),
            web: format!("http://localhost:{}", addresses.web.port()),
        }
    }
}

/// What the processes are told of each other.
pub(super) struct Topology<'a> {
    pub(super) dir: &'a Path,
    pub(super) addresses: &'a Addresses,
    pub(super) postgres: &'a Postgres,
    /// The address of the broker.
    pub(super) kafka: String,
    pub(super) relay_config: PathBuf,
}

impl<'a> Topology<'a> {
    pub(super) fn new(
        dir: &'a Path,
        addresses: &'a Addresses,
        postgres: &'a Postgres,
        kafka: &Kafka,
        relay_config: Option<PathBuf>,
    ) -> Self {
        let relay_config = relay_config.unwrap_or_else(|| workspace::root().join("deploy/relay.toml"));
        Self { dir, addresses, postgres, kafka: kafka.bootstrap(), relay_config }
    }

    /// The file of the key that signs tokens.
    pub(super) fn signing_key(&self) -> PathBuf {
        self.dir.join("signing-key.pem")
    }

    pub(super) fn user_service(&self) -> Result<Process> {
        let key = self.signing_key().display().to_string();
        let database = self.database("users_service", "USERS_SERVICE_PASSWORD", "users")?;
        let owner = self.database("users_owner", "USERS_OWNER_PASSWORD", "users")?;
        let launch =
            self.launch("user-service", self.addresses.user.port(), self.addresses.user_ops.port())?;
        let launch = launch
            .env("TAILRACE_DATABASE_URL", database)
            .env("TAILRACE_OWNER_DATABASE_URL", owner)
            .env("TAILRACE_SIGNING_KEY_FILE", key);
        Ok(self.process(launch, self.addresses.user_ops.port()))
    }

    pub(super) fn order_service(&self) -> Result<Process> {
        let database = self.database("orders_service", "ORDERS_SERVICE_PASSWORD", "orders")?;
        let owner = self.database("orders_owner", "ORDERS_OWNER_PASSWORD", "orders")?;
        let launch =
            self.launch("order-service", self.addresses.order.port(), self.addresses.order_ops.port())?;
        let launch = launch.env("TAILRACE_DATABASE_URL", database).env("TAILRACE_OWNER_DATABASE_URL", owner);
        Ok(self.process(launch, self.addresses.order_ops.port()))
    }

    pub(super) fn relay(&self) -> Result<Process> {
        let launch =
            self.launch("cdc-relay", self.addresses.relay.port(), self.addresses.relay_ops.port())?;
        let url = |database| format!("postgres://cdc_relay@127.0.0.1:{}/{database}", self.postgres.port());
        let launch = launch
            .env("TAILRACE_USERS_DATABASE_URL", url("users"))
            .env("TAILRACE_ORDERS_DATABASE_URL", url("orders"))
            .env("CDC_RELAY_PASSWORD", Settings::get().value("CDC_RELAY_PASSWORD")?)
            .args(["--config".to_owned(), self.relay_config.display().to_string()]);
        Ok(self.process(launch, self.addresses.relay_ops.port()))
    }

    pub(super) fn gateway(&self) -> Result<Process> {
        let settings = Settings::get();
        let urls = Urls::of(self.addresses);
        let launch = self
            .launch("gateway", self.addresses.gateway.port(), self.addresses.gateway_ops.port())?
            .env("TAILRACE_WEB_LISTEN", format!("127.0.0.1:{}", self.addresses.web.port()))
            .env("TAILRACE_WEB_ROOT", artefacts::page().display().to_string())
            .env("TAILRACE_USER_SERVICE_URL", urls.user)
            .env("TAILRACE_ORDER_SERVICE_URL", urls.order)
            .env("TAILRACE_RELAY_URL", urls.relay)
            .env("TAILRACE_GATEWAY_URL", urls.gateway)
            .env("TAILRACE_DEMO_EMAIL", settings.value("TAILRACE_DEMO_EMAIL")?)
            .env("TAILRACE_DEMO_PASSWORD", settings.value("TAILRACE_DEMO_PASSWORD")?);
        Ok(self.process(launch, self.addresses.gateway_ops.port()))
    }

    /// The program that fills the stack with accounts, orders and traffic, through its public interfaces.
    pub(super) fn demo(&self) -> Result<Launch> {
        let settings = Settings::get();
        let urls = Urls::of(self.addresses);
        Ok(Launch::new("demo", artefacts::programs()?.join("tailrace-demo"), self.log("demo"))
            .env("TAILRACE_USER_SERVICE_URL", urls.user)
            .env("TAILRACE_ORDER_SERVICE_URL", urls.order)
            .env("TAILRACE_DEMO_EMAIL", settings.value("TAILRACE_DEMO_EMAIL")?)
            .env("TAILRACE_DEMO_PASSWORD", settings.value("TAILRACE_DEMO_PASSWORD")?))
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// What all four have in common.
    fn launch(&self, name: &str, port: u16, ops_port: u16) -> Result<Launch> {
        let web = self.addresses.web.port();
        Ok(Launch::new(name, artefacts::programs()?.join(name), self.log(name))
            .env("TAILRACE_LISTEN", format!("127.0.0.1:{port}"))
            .env("TAILRACE_OPS_LISTEN", format!("127.0.0.1:{ops_port}"))
            .env("TAILRACE_CORS_ORIGINS", format!("http://localhost:{web},http://127.0.0.1:{web}"))
            .env("TAILRACE_AUTH_KEYS_URL", loopback(self.addresses.user.port()))
            .env("TAILRACE_KAFKA_BROKERS", &self.kafka))
    }

    fn process(&self, launch: Launch, ops_port: u16) -> Process {
        let log = self.log(&launch.name);
        Process::new(launch, log, Some(ops_port))
    }

    fn database(&self, role: &str, password: &str, database: &str) -> Result<String> {
        Ok(self.postgres.url(role, &Settings::get().value(password)?, database))
    }
}

fn loopback(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
