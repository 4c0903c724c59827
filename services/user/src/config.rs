//! The command line of the user service.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use tailrace_runtime::{
    grpc,
    postgres::{self, Owner},
    process::Misconfigured,
    settings::{DatabaseSettings, GrpcSettings, ProcessSettings, SchemaSettings},
};

use crate::{password::HashCost, token::Issuer};

/// The defaults that are this service's own (argument id, value).
pub const DEFAULTS: &[(&str, &str)] = &[
    ("listen", "127.0.0.1:5001"),
    ("ops_listen", "127.0.0.1:9101"),
    ("database_url", "postgres://users_service@127.0.0.1:15432/users"),
];

/// Keeps users, signs them in and publishes the keys that verify their tokens. Without a command: serve.
#[derive(Debug, Parser)]
#[command(name = "user-service", version)]
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
    /// Make a key to sign tokens with (Ed25519, PKCS#8 PEM, readable by its owner only).
    Keygen {
        /// The file to write; it must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Decide who is an operator.
    Operator {
        /// What to decide.
        #[command(subcommand)]
        command: OperatorCommand,
    },
}

/// A decision about operators.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Make an existing user an operator; holds from his next sign-in on.
    Grant {
        /// The e-mail address of the user.
        email: String,
    },
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
    /// The tokens it issues.
    #[command(flatten)]
    pub tokens: TokenSettings,
    /// How often a password may be guessed.
    #[command(flatten)]
    pub sign_in: SignInSettings,

    /// What hashing a password costs; no setting.
    #[arg(skip)]
    pub hash_cost: HashCost,
}

/// The tokens that the service issues.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tokens")]
pub struct TokenSettings {
    /// The private keys, PEM as `keygen` makes it: the first signs tokens, all are published. Read again when it changes.
    /// Needed to serve.
    #[arg(long, env = "TAILRACE_SIGNING_KEY_FILE", value_name = "FILE", default_value = "signing-key.pem")]
    pub signing_key_file: PathBuf,

    /// How long a token is valid, with unit; at most a day.
    #[arg(long, env = "TAILRACE_TOKEN_TTL", value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub token_ttl: Duration,

    /// How long a sign-in lasts, however often its tokens are refreshed, with unit.
    #[arg(long, env = "TAILRACE_REFRESH_TTL", value_name = "DURATION", default_value = "30d", value_parser = humantime::parse_duration)]
    pub refresh_ttl: Duration,
}

/// How often a password may be guessed.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Signing in")]
pub struct SignInSettings {
    /// Wrong passwords for one account from one address, in signing in or in changing the password, before the next must wait: 1 s, doubled with each wrong one.
    #[arg(long, env = "TAILRACE_SIGN_IN_TRIES", value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub sign_in_tries: u32,

    /// The longest such wait, with unit.
    #[arg(long, env = "TAILRACE_SIGN_IN_WAIT_MAX", value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    pub sign_in_wait_max: Duration,

    /// Wrong passwords from one address over all accounts, at once and then a minute (IPv6: from one /64).
    /// Behind a proxy set TAILRACE_TRUSTED_PROXIES, or all callers have its address.
    #[arg(long, env = "TAILRACE_SIGN_IN_ADDRESS_TRIES", value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub sign_in_address_tries: u32,
}

impl Config {
    /// Parses everything that serving needs, files included.
    pub fn check(&self) -> Result<(), Misconfigured> {
        grpc::check(&self.grpc)?;
        postgres::pool(&self.database, env!("CARGO_PKG_NAME"))?;
        Owner::from_settings(&self.database, &self.schema, env!("CARGO_PKG_NAME"))?;
        Issuer::from_settings(&self.tokens)?;
        Ok(())
    }
}
