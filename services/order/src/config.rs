//! The command line of the order service.

use clap::{Args, Parser, Subcommand};
use tailrace_runtime::{
    auth::Verifier,
    grpc, postgres,
    process::Misconfigured,
    settings::{AuthSettings, DatabaseSettings, GrpcSettings, ProcessSettings},
};

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
    /// How tokens are verified.
    #[command(flatten)]
    pub auth: AuthSettings,

    /// Whether serving brings the schema up to date first. If not, it waits for `migrate`.
    #[arg(long, env = "TAILRACE_MIGRATE", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, help_heading = "Database")]
    pub migrate: bool,
}

impl Config {
    /// Parses everything that serving needs, files included.
    pub fn check(&self) -> Result<(), Misconfigured> {
        grpc::check(&self.grpc)?;
        postgres::pool(&self.database, env!("CARGO_PKG_NAME"))?;
        Verifier::check(&self.auth)
    }
}
