//! The life of a process: telemetry and ops port up, work, a signal, drain, deadline, exit code.
//!
//! ```text
//! boot ─► run(context) ──────────────────────────► returned ─► exit 0 / 1
//!              │ SIGTERM or SIGINT                    ▲
//!              └─► not ready, Shutdown requested ─► drain ─► deadline passed ─► exit 3
//!                                                     └──── second signal ────► exit 3
//! ```

use std::{
    error::Error,
    fmt,
    future::{Future, pending},
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tracing::{info, warn};

use crate::{
    clock::Monotonic, health::Readiness, ops, settings::ProcessSettings, shutdown::Shutdown, task, telemetry,
};

/// Exit code of a failure at run time.
pub const FAILED: u8 = 1;
/// Exit code of a wrong command line or configuration.
pub const MISCONFIGURED: u8 = 2;
/// Exit code when running work had to be cut.
pub const DRAIN_CUT: u8 = 3;

/// How long blocking work may hold up the exit once everything else is over.
const RUNTIME_STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// What the business of a process gets from its life.
#[derive(Clone, Debug)]
pub struct Context {
    /// The request to finish.
    pub shutdown: Shutdown,
    /// Where the parts of the process report whether they work.
    pub readiness: Readiness,
    /// What waits are measured by.
    pub clock: Monotonic,
}

impl Context {
    /// A context that no signal reaches; for tests, which call `shutdown.request()` themselves.
    pub fn detached() -> Self {
        let shutdown = Shutdown::new();
        Self { readiness: Readiness::new(shutdown.clone()), shutdown, clock: Monotonic::default() }
    }
}

/// A setting that cannot be used; the text names the setting and the mend. Makes the exit code 2.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Misconfigured(String);

impl Misconfigured {
    /// `problem` is one line that names the setting.
    pub fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

impl fmt::Display for Misconfigured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for Misconfigured {}

/// Runs a process named `name` until `run` returns, or until it is told to stop and has drained.
pub fn main<F, R>(name: &'static str, settings: &ProcessSettings, run: F) -> ExitCode
where
    F: FnOnce(Context) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit_code(name, Err(error.into())),
    };
    let code = runtime.block_on(async {
        let telemetry = match telemetry::init(name, &settings.log, &settings.otlp_endpoint) {
            Ok(telemetry) => telemetry,
            Err(problem) => return exit_code(name, Err(problem.into())),
        };
        let code = live(name, settings, run).await;
        telemetry.flush().await;
        code
    });
    runtime.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
    code
}

/// Runs a short command of a process, such as `migrate`: no ops port, no drain; signals end it at once.
pub fn command<R>(name: &'static str, settings: &ProcessSettings, run: R) -> ExitCode
where
    R: Future<Output = anyhow::Result<()>>,
{
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit_code(name, Err(error.into())),
    };
    let code = runtime.block_on(async {
        match telemetry::init(name, &settings.log, "") {
            Ok(_) => exit_code(name, run.await),
            Err(problem) => exit_code(name, Err(problem.into())),
        }
    });
    runtime.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
    code
}

/// Prints a failure as one line on stderr and gives the exit code that belongs to `outcome`.
pub fn exit_code(name: &str, outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    // stderr may be closed; the exit code still tells.
    let _ = writeln!(io::stderr(), "{name}: {error:#}");
    if error.downcast_ref::<Misconfigured>().is_some() {
        ExitCode::from(MISCONFIGURED)
    } else {
        ExitCode::from(FAILED)
    }
}

/// Prints what `--check-config` promises. Touches no network.
pub fn configuration_ok() -> ExitCode {
    let _ = writeln!(io::stdout(), "configuration ok");
    ExitCode::SUCCESS
}

/// Listens on `address`; the error names `setting` and the mend.
pub async fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { setting, address, source })
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: free the port or set {setting}")]
pub struct ListenError {
    setting: &'static str,
    address: SocketAddr,
    source: io::Error,
}

async fn live<F, R>(name: &'static str, settings: &ProcessSettings, run: F) -> ExitCode
where
    F: FnOnce(Context) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    let context = Context::detached();
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return exit_code(name, Err(error.into())),
    };
    // The ops port outlives the drain: whoever asks meanwhile must read "stopping", not a refused connection.
    let ops_stop = Shutdown::new();
    let ops = match listen("TAILRACE_OPS_LISTEN", settings.ops_listen).await {
        Ok(listener) => task::spawn(
            "ops",
            ops::serve(listener, context.readiness.clone(), telemetry::metrics(), ops_stop.clone()),
        ),
        Err(error) => return exit_code(name, Err(error.into())),
    };
    info!(process.name = name, process.version = env!("CARGO_PKG_VERSION"), ops.address = %settings.ops_listen, "started");

    let outcome = tokio::select! {
        outcome = run(context.clone()) => Some(outcome),
        () = cut(&mut signals, &context.shutdown, settings.drain_timeout) => None,
    };
    ops_stop.request();
    // Only its own end is waited for; a scrape that failed on the way out is nobody's failure.
    let _ = ops.await;
    match outcome {
        Some(outcome) => {
            info!(process.name = name, process.failed = outcome.is_err(), "stopped");
            exit_code(name, outcome)
        }
        None => ExitCode::from(DRAIN_CUT),
    }
}

/// Turns the first signal into the request to finish, and returns when there is no more time for it.
async fn cut(signals: &mut Signals, shutdown: &Shutdown, drain_timeout: Duration) {
    tokio::select! {
        name = signals.next() => info!(process.signal = name, "stopping"),
        // The process may decide by itself to stop.
        () = shutdown.wait() => info!("stopping"),
    }
    shutdown.request();
    tokio::select! {
        name = signals.next() => warn!(process.signal = name, "stopping at once: a second signal"),
        () = sleep(drain_timeout) => {
            warn!(process.drain_timeout_ms = drain_timeout.as_millis() as u64, "stopping at once: the drain deadline passed");
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            Some(()) = self.terminate.recv() => "SIGTERM",
            Some(()) = self.interrupt.recv() => "SIGINT",
            else => pending().await,
        }
    }
}
