//! Settings every process shares, as `clap` argument groups: a flag and an environment variable each, with unit and
//! default in `--help`. Nothing else in a process reads the environment.

use std::{ffi::OsString, fmt, fs, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, FromArgMatches, error::ErrorKind};

use crate::{client::ForwardedHeader, process::Misconfigured};

const EXIT_CODES: &str = "\
Exit codes:
  0  stopped as asked, or the command succeeded
  1  failed at run time
  2  wrong command line or configuration
  3  the drain deadline passed, or a second signal cut the drain short";

/// Parses the command line of this process. `defaults` gives the values that differ from process to process (argument id,
/// value). Ends the process with exit code 2 on a wrong command line, as `clap` does.
pub fn parse<C: CommandFactory + FromArgMatches>(defaults: &[(&'static str, &'static str)]) -> C {
    parse_from(std::env::args_os(), defaults).unwrap_or_else(|error| error.exit())
}

/// [`parse`] over given arguments, the first of which is the program's name.
pub fn parse_from<C: CommandFactory + FromArgMatches>(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    defaults: &[(&'static str, &'static str)],
) -> Result<C, clap::Error> {
    let mut command = C::command().after_help(EXIT_CODES).after_long_help(EXIT_CODES);
    for &(id, value) in defaults {
        command = command.mut_arg(id, |argument| argument.required(false).default_value(value));
    }
    let matches = command.clone().try_get_matches_from(arguments)?;
    C::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Ends the process with exit code 2 and one clear line, for what `clap` cannot check by itself.
pub fn refuse<C: CommandFactory>(problem: &Misconfigured) -> ! {
    C::command().error(ErrorKind::ValueValidation, problem).exit()
}

/// What every process has.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Process")]
pub struct ProcessSettings {
    /// Which log lines to write: a level, or a filter such as `info,tonic=debug`.
    #[arg(long = "log", env = "TAILRACE_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// Where to send traces (OTLP over gRPC), for example `http://127.0.0.1:4317`. Empty: nowhere.
    #[arg(long, env = "TAILRACE_OTLP_ENDPOINT", value_name = "URL", default_value = "")]
    pub otlp_endpoint: String,

    /// Address of the ops port: `/livez`, `/readyz`, `/metrics`. Keep it away from the outside.
    #[arg(long, env = "TAILRACE_OPS_LISTEN", value_name = "ADDRESS:PORT")]
    pub ops_listen: SocketAddr,

    /// How long running calls may take to finish after SIGTERM, with unit.
    #[arg(long, env = "TAILRACE_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,
}

/// The gRPC and gRPC-Web port.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "gRPC")]
pub struct GrpcSettings {
    /// Address of the gRPC and gRPC-Web port.
    #[arg(long, env = "TAILRACE_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,

    /// Origins whose pages may call from a browser, separated by commas.
    #[arg(
        long,
        env = "TAILRACE_CORS_ORIGINS",
        value_name = "ORIGINS",
        value_delimiter = ',',
        default_value = "http://localhost:3000,http://127.0.0.1:3000"
    )]
    pub cors_origins: Vec<String>,

    /// Whether to serve reflection, so that grpcurl and others need no .proto files.
    #[arg(long, env = "TAILRACE_REFLECTION", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub reflection: bool,

    /// The largest request message, in bytes.
    #[arg(long, env = "TAILRACE_MESSAGE_BYTES_MAX", value_name = "BYTES", default_value_t = 262_144)]
    pub message_bytes_max: usize,

    /// Calls that one connection may have open at a time.
    #[arg(long, env = "TAILRACE_CONCURRENT_STREAMS_MAX", value_name = "COUNT", default_value_t = 100)]
    pub concurrent_streams_max: u32,

    /// The largest header list of a request, in bytes.
    #[arg(long, env = "TAILRACE_HEADER_BYTES_MAX", value_name = "BYTES", default_value_t = 16_384)]
    pub header_bytes_max: u32,

    /// How often an idle HTTP/2 connection is asked whether it still lives, with unit.
    #[arg(long, env = "TAILRACE_KEEPALIVE_INTERVAL", value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    pub keepalive_interval: Duration,

    /// Its connections.
    #[command(flatten)]
    pub connections: ConnectionSettings,

    /// Its certificate.
    #[command(flatten)]
    pub tls: TlsSettings,

    /// How many calls are let in.
    #[command(flatten)]
    pub rates: RateSettings,

    /// What stands in front of the port.
    #[command(flatten)]
    pub proxies: ProxySettings,
}

/// The connections of the gRPC port.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connections")]
pub struct ConnectionSettings {
    /// Connections that may be open at a time. One more is closed at once.
    #[arg(long, env = "TAILRACE_CONNECTIONS_MAX", value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections_max: u32,

    /// Connections that one address may have open (IPv6: one /64). 0: as many as there may be; set it behind a proxy, where all
    /// callers have its address.
    #[arg(long, env = "TAILRACE_CONNECTIONS_PER_ADDRESS_MAX", value_name = "COUNT", default_value_t = 1000)]
    pub connections_per_address_max: u32,

    /// How long a TLS handshake may take, with unit.
    #[arg(long, env = "TAILRACE_TLS_HANDSHAKE_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub tls_handshake_timeout: Duration,

    /// How long a new connection may be silent, with unit.
    #[arg(long, env = "TAILRACE_FIRST_BYTES_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub first_bytes_timeout: Duration,

    /// How long the message of a call may take to arrive whole, with unit.
    #[arg(long, env = "TAILRACE_MESSAGE_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub message_timeout: Duration,

    /// How old a connection may become, a tenth more or less, with unit: its client is then asked to open another (GOAWAY), and calls
    /// that are open go on. 0s: any age.
    #[arg(long, env = "TAILRACE_CONNECTION_AGE_MAX", value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub connection_age_max: Duration,

    /// How long calls that are open may go on then, with unit. 0s: until they end by themselves.
    #[arg(long, env = "TAILRACE_CONNECTION_AGE_GRACE", value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub connection_age_grace: Duration,
}

impl ConnectionSettings {
    pub(crate) fn check(&self) -> Result<(), Misconfigured> {
        for (name, limit) in [
            ("TAILRACE_TLS_HANDSHAKE_TIMEOUT", self.tls_handshake_timeout),
            ("TAILRACE_FIRST_BYTES_TIMEOUT", self.first_bytes_timeout),
            ("TAILRACE_MESSAGE_TIMEOUT", self.message_timeout),
        ] {
            if limit.is_zero() {
                return Err(Misconfigured::new(format!("{name}: set more than 0s, for example 10s")));
            }
        }
        Ok(())
    }
}

/// TLS of the gRPC port. The files are read again when they change.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub struct TlsSettings {
    /// A PEM file with the certificate of the gRPC port and those between it and its authority. None: no TLS.
    #[arg(long, env = "TAILRACE_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,

    /// A PEM file with the certificate's private key, not encrypted.
    #[arg(long, env = "TAILRACE_TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,

    /// A PEM file with the authorities of clients: who connects must show a certificate of theirs. None: clients need none.
    #[arg(long, env = "TAILRACE_TLS_CLIENT_CA_FILE", value_name = "FILE")]
    pub tls_client_ca_file: Option<PathBuf>,
}

/// How many calls are let in. Health and reflection are not counted.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Rates of calls")]
pub struct RateSettings {
    /// Calls a second that one principal may make, the subject of a verified token. 0: any number.
    #[arg(long, env = "TAILRACE_RATE_PER_PRINCIPAL", value_name = "CALLS", default_value_t = 1000)]
    pub rate_per_principal: u32,

    /// Calls that one principal may make at once, after a time without.
    #[arg(long, env = "TAILRACE_RATE_BURST_PER_PRINCIPAL", value_name = "CALLS", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate_burst_per_principal: u32,

    /// Calls a second from one address (IPv6: from one /64) that no verified token answers for. 0: any number.
    #[arg(long, env = "TAILRACE_RATE_PER_ADDRESS", value_name = "CALLS", default_value_t = 1000)]
    pub rate_per_address: u32,

    /// Such calls at once, after a time without.
    #[arg(long, env = "TAILRACE_RATE_BURST_PER_ADDRESS", value_name = "CALLS", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate_burst_per_address: u32,
}

/// What stands in front of the port.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Proxies")]
pub struct ProxySettings {
    /// How many proxies every call comes through, and so how many entries of the header are believed, from the right. 0: the
    /// caller is the peer of the connection. With another number nobody but the proxies may reach the port.
    #[arg(long, env = "TAILRACE_TRUSTED_PROXIES", value_name = "COUNT", default_value_t = 0)]
    pub trusted_proxies: usize,

    /// The header in which the proxies say whom they were called by.
    #[arg(long, env = "TAILRACE_FORWARDED_HEADER", value_name = "HEADER", default_value = "x-forwarded-for")]
    pub forwarded_header: ForwardedHeader,
}

/// The way to Postgres.
#[derive(Args, Clone)]
#[command(next_help_heading = "Database")]
pub struct DatabaseSettings {
    /// The database, `postgres://USER[:PASSWORD]@HOST:PORT/DATABASE[?sslmode=require]`.
    #[arg(long, env = "TAILRACE_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: String,

    /// A file that holds the password; it wins over one in the URL. None: the URL's.
    #[arg(long, env = "TAILRACE_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,

    /// A PEM file with the authorities to trust. Needed by sslmode=require. None: no TLS.
    #[arg(long, env = "TAILRACE_DATABASE_CA_FILE", value_name = "FILE")]
    pub database_ca_file: Option<PathBuf>,

    /// The most connections to hold.
    #[arg(long, env = "TAILRACE_DATABASE_CONNECTIONS_MAX", value_name = "COUNT", default_value_t = 16)]
    pub database_connections_max: usize,

    /// How long to wait for a connection, with unit.
    #[arg(long, env = "TAILRACE_DATABASE_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub database_connect_timeout: Duration,

    /// How long one statement may run, with unit.
    #[arg(long, env = "TAILRACE_DATABASE_STATEMENT_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub database_statement_timeout: Duration,
}

/// The URL may hold a password.
impl fmt::Debug for DatabaseSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DatabaseSettings").finish_non_exhaustive()
    }
}

/// Who owns the tables, and what the owner does with them.
#[derive(Args, Clone)]
#[command(next_help_heading = "Schema")]
pub struct SchemaSettings {
    /// Whether serving brings the schema up to date first. If not, it waits for `migrate`.
    #[arg(long, env = "TAILRACE_MIGRATE", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub migrate: bool,

    /// The database as the role that owns its tables. That role brings the schema up to date, makes and drops partitions, and
    /// gives the role of TAILRACE_DATABASE_URL what it needs and no more. None: one role is both.
    #[arg(long, env = "TAILRACE_OWNER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub owner_database_url: Option<String>,

    /// A file that holds the owner's password; it wins over one in the URL. None: the URL's.
    #[arg(long, env = "TAILRACE_OWNER_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub owner_database_password_file: Option<PathBuf>,

    /// How long events stay in the outbox table, with unit. Days that are older are dropped as soon as the relay has
    /// confirmed them; a lost slot is repaired from what is there.
    #[arg(long, env = "TAILRACE_OUTBOX_RETENTION", value_name = "DURATION", default_value = "7d", value_parser = humantime::parse_duration)]
    pub outbox_retention: Duration,
}

/// The URL may hold a password.
impl fmt::Debug for SchemaSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SchemaSettings")
            .field("migrate", &self.migrate)
            .field("outbox_retention", &self.outbox_retention)
            .finish_non_exhaustive()
    }
}

/// How tokens are verified.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Tokens")]
pub struct AuthSettings {
    /// Where AuthService.ListSigningKeys is asked for the keys that verify tokens.
    #[arg(long, env = "TAILRACE_AUTH_KEYS_URL", value_name = "URL", default_value = "http://127.0.0.1:5001")]
    pub auth_keys_url: String,

    /// A PEM file with the authorities to trust there. Needed by an https URL.
    #[arg(long, env = "TAILRACE_AUTH_KEYS_CA_FILE", value_name = "FILE")]
    pub auth_keys_ca_file: Option<PathBuf>,

    /// A PEM file with the certificate to show there, if one is required. None: none is shown.
    #[arg(long, env = "TAILRACE_AUTH_KEYS_CERT_FILE", value_name = "FILE")]
    pub auth_keys_cert_file: Option<PathBuf>,

    /// A PEM file with that certificate's private key.
    #[arg(long, env = "TAILRACE_AUTH_KEYS_KEY_FILE", value_name = "FILE")]
    pub auth_keys_key_file: Option<PathBuf>,
}

impl AuthSettings {
    /// With the keys at this URL, without TLS.
    pub fn plaintext(auth_keys_url: impl Into<String>) -> Self {
        Self { auth_keys_url: auth_keys_url.into(), ..Self::default() }
    }
}

/// Reads a secret from a file, without the line end that editors leave.
pub fn read_secret(setting: &str, path: &PathBuf) -> Result<String, Misconfigured> {
    let text = fs::read_to_string(path)
        .map_err(|error| Misconfigured::new(format!("{setting}: cannot read {}: {error}", path.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
