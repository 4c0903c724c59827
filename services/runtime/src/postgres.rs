//! The way to Postgres: a bounded pool, TLS when asked for, statements that are bounded and repeated where that is safe, and a
//! keeper that waits for the database, prepares it once and keeps readiness true to it.
//!
//! It knows no table.

mod database;

use std::{error::Error, future::Future, io, str::FromStr as _, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod, Runtime, Timeouts};
use rustls::ClientConfig;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Config, NoTls, config::SslMode, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{info, warn};

use crate::{
    health::Condition,
    process::{Context, Misconfigured},
    settings::{DatabaseSettings, SchemaSettings, read_secret},
    shutdown::Shutdown,
    tls,
};

pub use self::database::{Connection, Database, Repeat};
pub use deadpool_postgres::{GenericClient, Object as Client, Pool, PoolError, Transaction};

const RETRY_DELAY_MIN: Duration = Duration::from_millis(200);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
const TEND_INTERVAL: Duration = Duration::from_secs(3600);

/// A pool that connects when first used. `application` is what the database shows for its connections.
pub fn pool(settings: &DatabaseSettings, application: &str) -> Result<Pool, Misconfigured> {
    pool_of(settings, SERVICE, application)
}

fn pool_of(settings: &DatabaseSettings, names: Names, application: &str) -> Result<Pool, Misconfigured> {
    let config = config(settings, names, application)?;
    let tls = tls(settings, &config)?;
    pool_with(settings, config, tls)
}

fn pool_with(
    settings: &DatabaseSettings,
    config: Config,
    tls: Option<MakeRustlsConnect>,
) -> Result<Pool, Misconfigured> {
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = match tls {
        Some(tls) => Manager::from_config(config, tls, recycling),
        None => Manager::from_config(config, NoTls, recycling),
    };
    let wait = Some(settings.database_connect_timeout);
    Pool::builder(manager)
        .max_size(settings.database_connections_max.max(1))
        .timeouts(Timeouts { wait, create: wait, recycle: wait })
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Misconfigured::new(format!("the pool of database connections: {error}")))
}

/// The role that owns the tables, beside the one that the service works as.
pub struct Owner {
    /// None: one role is both.
    pool: Option<Pool>,
    role: String,
}

impl Owner {
    /// As the settings say. It holds one connection, and only when it has something to do.
    pub fn from_settings(
        settings: &DatabaseSettings,
        schema: &SchemaSettings,
        application: &str,
    ) -> Result<Self, Misconfigured> {
        let role = parsed(settings, SERVICE)?
            .get_user()
            .map(str::to_owned)
            .ok_or_else(|| Misconfigured::new(format!("{}: names no user; give {URL_FORM}", SERVICE.url)))?;
        let Some(url) = &schema.owner_database_url else { return Ok(Self { pool: None, role }) };
        let settings = DatabaseSettings {
            database_url: url.clone(),
            database_password_file: schema.owner_database_password_file.clone(),
            database_connections_max: 1,
            ..settings.clone()
        };
        Ok(Self { pool: Some(pool_of(&settings, OWNER, application)?), role })
    }

    /// The role that the service works as.
    pub fn service_role(&self) -> &str {
        &self.role
    }

    /// A connection as the owner: `service`, which is one of the service, if one role is both.
    pub async fn client(&self, service: Client) -> Result<Client, PoolError> {
        match &self.pool {
            Some(pool) => pool.get().await,
            None => Ok(service),
        }
    }
}

/// Whether a failure is the database's absence, which passes, and not a refusal, which stays.
pub fn is_absence(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if matches!(error.downcast_ref::<PoolError>(), Some(PoolError::Timeout(_) | PoolError::Closed)) {
            return true;
        }
        if let Some(database) = error.downcast_ref::<tokio_postgres::Error>() {
            if let Some(state) = database.code() {
                return is_passing(state);
            }
            if database.is_closed() {
                return true;
            }
        }
        if error.is::<io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What a service does to its database besides serving calls.
pub trait Upkeep {
    /// Brings the schema up to date; done once, before the process is ready.
    fn prepare(&self, client: Client) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Done after [`Upkeep::prepare`] and then hourly.
    fn tend(&self, client: Client) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Any failure of an [`Upkeep`]; what matters is whether it is the database's absence.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Waits for the database, prepares it, tends it hourly, and keeps the condition `postgres` true until shutdown. Absence is
/// said once and waited out with growing, jittered pauses; a refusal at the start (wrong password, failed migration) is
/// returned.
pub fn keep<'a>(
    pool: &'a Pool,
    context: &'a Context,
    upkeep: &'a impl Upkeep,
) -> impl Future<Output = Result<(), KeepError>> + 'a {
    // Added here and not at the first poll: a process must not look ready before anybody looked at the database.
    let condition = context.readiness.condition("postgres");
    kept(pool, context, upkeep, condition)
}

async fn kept(
    pool: &Pool,
    context: &Context,
    upkeep: &impl Upkeep,
    condition: Condition,
) -> Result<(), KeepError> {
    let mut absence = Absence::default();
    let mut prepared = false;
    let mut tended_at: Option<Instant> = None;
    loop {
        let outcome = if !prepared {
            attempt(pool, |client| upkeep.prepare(client)).await.map(|()| prepared = true)
        } else if tended_at.is_none_or(|at| at.elapsed() >= TEND_INTERVAL) {
            attempt(pool, |client| upkeep.tend(client)).await.map(|()| tended_at = Some(Instant::now()))
        } else {
            condition.ok();
            absence.over();
            if !pause(CHECK_INTERVAL, &context.shutdown).await {
                return Ok(());
            }
            check(pool).await
        };
        match outcome {
            Ok(()) => {}
            // Once it has worked, nothing that the database says is the settings' fault.
            Err(error) if prepared || is_absence(error.as_ref()) => {
                condition.fail(absence.note(error.as_ref()));
                if !pause(absence.delay(), &context.shutdown).await {
                    return Ok(());
                }
            }
            Err(error) => return Err(KeepError(chain(error.as_ref()))),
        }
    }
}

/// The database refuses what the process needs.
#[derive(Debug, thiserror::Error)]
#[error(
    "the database refuses: {0}; check TAILRACE_DATABASE_URL (and TAILRACE_OWNER_DATABASE_URL), its password and the rights of its role"
)]
pub struct KeepError(String);

/// One stretch of time without the database.
#[derive(Default)]
struct Absence {
    delays: Option<backon::ExponentialBackoff>,
}

impl Absence {
    /// Says it when it is new; gives the words for `/readyz`.
    fn note(&mut self, error: &(dyn Error + 'static)) -> String {
        let why = chain(error);
        if self.delays.is_none() {
            warn!(postgres.error = why, "the database cannot be used, waiting for it");
            let delays = ExponentialBuilder::default()
                .with_min_delay(RETRY_DELAY_MIN)
                .with_max_delay(RETRY_DELAY_MAX)
                .without_max_times()
                .with_jitter();
            self.delays = Some(delays.build());
        }
        why
    }

    /// How long to wait before the next attempt.
    fn delay(&mut self) -> Duration {
        self.delays.as_mut().and_then(Iterator::next).unwrap_or(RETRY_DELAY_MAX)
    }

    fn over(&mut self) {
        if self.delays.take().is_some() {
            info!("the database is back");
        }
    }
}

async fn attempt<F>(pool: &Pool, work: impl FnOnce(Client) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    work(pool.get().await?).await
}

/// False when shutdown was requested meanwhile.
async fn pause(delay: Duration, shutdown: &Shutdown) -> bool {
    tokio::select! {
        () = sleep(delay) => true,
        () = shutdown.wait() => false,
    }
}

async fn check(pool: &Pool) -> Result<(), Failure> {
    let answer = async {
        pool.get().await?.simple_query("").await?;
        Ok(())
    };
    timeout(CHECK_TIMEOUT, answer)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

/// Connection lost, shutting down or starting, no slot left, deadlock or lock not free.
fn is_passing(state: &SqlState) -> bool {
    let code = state.code();
    ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class))
        || *state == SqlState::LOCK_NOT_AVAILABLE
}

const URL_FORM: &str = "postgres://USER@HOST:PORT/DATABASE";

/// The settings that a problem names.
#[derive(Clone, Copy)]
struct Names {
    url: &'static str,
    password_file: &'static str,
}

const SERVICE: Names =
    Names { url: "TAILRACE_DATABASE_URL", password_file: "TAILRACE_DATABASE_PASSWORD_FILE" };
const OWNER: Names =
    Names { url: "TAILRACE_OWNER_DATABASE_URL", password_file: "TAILRACE_OWNER_DATABASE_PASSWORD_FILE" };

fn parsed(settings: &DatabaseSettings, names: Names) -> Result<Config, Misconfigured> {
    Config::from_str(&settings.database_url).map_err(|error| {
        // The error names the part that is wrong, never the password.
        Misconfigured::new(format!("{}: {}; give {URL_FORM}", names.url, chain(&error)))
    })
}

fn config(settings: &DatabaseSettings, names: Names, application: &str) -> Result<Config, Misconfigured> {
    let mut config = parsed(settings, names)?;
    if let Some(path) = &settings.database_password_file {
        config.password(read_secret(names.password_file, path)?);
    }
    let given = config.get_options().map(|options| format!("{options} ")).unwrap_or_default();
    let statement_ms = settings.database_statement_timeout.as_millis();
    config.application_name(application).connect_timeout(settings.database_connect_timeout).options(format!(
        "{given}-c statement_timeout={statement_ms} -c idle_in_transaction_session_timeout={statement_ms}"
    ));
    Ok(config)
}

fn tls(settings: &DatabaseSettings, config: &Config) -> Result<Option<MakeRustlsConnect>, Misconfigured> {
    let Some(path) = &settings.database_ca_file else {
        if config.get_ssl_mode() == SslMode::Require {
            return Err(Misconfigured::new(
                "TAILRACE_DATABASE_CA_FILE: sslmode=require needs the authorities to trust",
            ));
        }
        return Ok(None);
    };
    let roots = tls::roots_of("TAILRACE_DATABASE_CA_FILE", path)?;
    let client = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Misconfigured::new(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(client)))
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    if let Some(PoolError::Backend(error)) = error.downcast_ref() {
        // The pool adds only that it was the one who asked.
        return chain(error);
    }
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries repeat their source in their own words.
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}
