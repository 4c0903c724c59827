//! The command line of the order service.

use std::{collections::BTreeSet, sync::Arc};

use clap::{Args, Parser, Subcommand};
use tailrace_runtime::{
    auth::Verifier,
    grpc,
    postgres::{self, Owner},
    process::Misconfigured,
    settings::{AuthSettings, DatabaseSettings, GrpcSettings, ProcessSettings, SchemaSettings},
};
use tailrace_topics::{Kafka, is_topic};

/// The defaults that are this service's own (argument id, value).
pub const DEFAULTS: &[(&str, &str)] = &[
    ("listen", "127.0.0.1:5002"),
    ("ops_listen", "127.0.0.1:9102"),
    ("database_url", "postgres://orders_service@127.0.0.1:15432/orders"),
];

/// Keeps orders. Without a command: serve.
#[derive(Debug, Parser)]
#[command(name = "order-service", version)]
pub struct Cli {
    /// Check the settings and the files they name, without touching the network, and exit.
    #[arg(long)]
    pub check_config: bool,

    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The settings.
    #[command(flatten)]
    pub config: Config,
}

/// A short command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the database's schema up to date, and exit. Serving does so by itself unless told not to.
    Migrate,
    /// Make what is known of users anew, from the first events of their topics on, and exit. Orders are checked against
    /// what was known before until it is done; services may run meanwhile. What could not be read is tried again.
    RebuildProjection,
    /// Ask a running service's ops port whether it is ready, and exit 0 or 1.
    Probe,
}

/// The settings.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// What every process has.
    #[command(flatten)]
    pub process: ProcessSettings,
    /// The gRPC port.
    #[command(flatten)]
    pub grpc: GrpcSettings,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// Who owns its tables.
    #[command(flatten)]
    pub schema: SchemaSettings,
    /// How tokens are verified.
    #[command(flatten)]
    pub auth: AuthSettings,
    /// Where users are learnt of.
    #[command(flatten)]
    pub users: UserSettings,
}

/// The events of users, from which it is known who may buy.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Users")]
pub struct UserSettings {
    /// Kafka brokers to begin with, separated by commas.
    #[arg(
        long,
        env = "TAILRACE_KAFKA_BROKERS",
        value_name = "HOST:PORT,…",
        default_value = "127.0.0.1:19092"
    )]
    pub kafka_brokers: String,

    /// Topics of the events of users, separated by commas. The relay must send them with the headers `cloudevents`.
    #[arg(
        long,
        env = "TAILRACE_USER_TOPICS",
        value_name = "TOPICS",
        value_delimiter = ',',
        default_value = "users.created,users.updated,users.deleted"
    )]
    pub user_topics: Vec<String>,
}

impl UserSettings {
    /// The cluster.
    pub(crate) fn kafka(&self) -> Kafka {
        Kafka::new(&self.kafka_brokers, env!("CARGO_PKG_NAME"))
    }

    /// The topics.
    pub(crate) fn topics(&self) -> BTreeSet<Arc<str>> {
        self.user_topics.iter().map(|topic| Arc::from(topic.as_str())).collect()
    }

    fn check(&self) -> Result<(), Misconfigured> {
        if self.kafka_brokers.is_empty() {
            return Err(Misconfigured::new("TAILRACE_KAFKA_BROKERS: name at least one `host:port`"));
        }
        match self.user_topics.iter().find(|topic| !is_topic(topic)) {
            Some(topic) => Err(Misconfigured::new(format!(
                "TAILRACE_USER_TOPICS: {topic:?} is not a name of a Kafka topic"
            ))),
            None => Ok(()),
        }
    }
}

impl Config {
    /// Parses everything that serving needs, files included.
    pub fn check(&self) -> Result<(), Misconfigured> {
        grpc::check(&self.grpc)?;
        postgres::pool(&self.database, env!("CARGO_PKG_NAME"))?;
        Owner::from_settings(&self.database, &self.schema, env!("CARGO_PKG_NAME"))?;
        self.users.check()?;
        Verifier::check(&self.auth)
    }
}
