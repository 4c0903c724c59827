//! The running system: started once for the tests that only use it, anew for a test that breaks it.

use std::path::Path;

use tokio::sync::OnceCell;
use tokio::task::{JoinSet, block_in_place};
use tokio_postgres::{Client, NoTls};
use xtask::native::Scratch;
use xtask::settings::Settings;
use xtask::stack::{Stack, StackOptions};

use super::caller::Caller;
use super::until;

/// How much of a log a failed test shows.
const LINES_SHOWN: usize = 30;

static SHARED: OnceCell<System> = OnceCell::const_new();

/// Postgres, Kafka and the four processes, with the demo account.
pub(crate) struct System {
    pub(crate) stack: Stack,
    _folder: Scratch,
}

impl System {
    /// The one that most tests share; it ends with this process.
    pub(crate) async fn shared() -> &'static Self {
        SHARED.get_or_init(|| async { Self::start() }).await
    }

    /// One of its own, for a test that breaks it.
    pub(crate) fn start() -> Self {
        block_in_place(|| {
            let folder = Scratch::new().expect("a folder");
            let stack = Stack::start(StackOptions::for_test(folder.path()));
            Self { stack: stack.unwrap_or_else(|error| panic!("{error:#}")), _folder: folder }
        })
    }

    /// Somebody without a token.
    pub(crate) fn anyone(&self) -> Caller {
        Caller::new(self.stack.urls())
    }

    /// The demo account, an operator.
    pub(crate) async fn operator(&self) -> Caller {
        let (email, password) = self.stack.demo_account().expect("the demo account");
        self.anyone().signed_in(&email, &password).await
    }

    /// Somebody with a new account and no privileges.
    pub(crate) async fn customer(&self, name: &str) -> Caller {
        self.anyone().with_new_account(name).await
    }

    /// A connection to a database as the role that owns it.
    pub(crate) async fn database(&self, service: Service, connections: &mut JoinSet<()>) -> Client {
        let password = Settings::get().value(service.password()).expect("its password");
        let url = self.stack.postgres().url(service.role(), &password, service.database());
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("Postgres answers");
        connections.spawn(async move {
            // It ends with an error when a test kills the server.
            let _ = connection.await;
        });
        client
    }

    /// Stops a process as an operator would, and starts it again.
    pub(crate) fn restart(&self, process: &str) {
        block_in_place(|| self.stack.restart(process)).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Waits until a process says that it is ready.
    pub(crate) async fn ready(&self, process: &str) {
        until(&format!("{process} to be ready"), || async { self.stack.process(process).readiness().ok() })
            .await;
    }

    /// Waits until a process says that it is not ready, with these words among its reasons.
    pub(crate) async fn not_ready_because(&self, process: &str, words: &str) {
        until(&format!("{process} to say {words:?}"), || async {
            let reasons = self.stack.process(process).readiness().err()?;
            reasons.contains(words).then_some(())
        })
        .await;
    }
}

/// A test that fails shows what the system said last.
impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in self.stack.processes() {
                show_end(process.name(), process.log());
            }
            show_end("Kafka", &self.stack.kafka().log());
            show_end("Postgres", self.stack.postgres().log());
        }
    }
}

/// Without the calls: they are many, and the callers have told of them.
fn show_end(name: &str, log: &Path) {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines = log.lines().rev().filter(|line| !line.contains(r#""message":"call""#));
    let lines: Vec<_> = lines.take(LINES_SHOWN).collect();
    eprintln!("── the end of {name}'s log, newest first\n{}", lines.join("\n"));
}

/// A service with a database of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Users,
    Orders,
}

impl Service {
    /// The topic of its events.
    pub(crate) fn topic(self) -> &'static str {
        match self {
            Self::Users => "users.created",
            Self::Orders => "orders.created",
        }
    }

    pub(crate) fn database(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Orders => "orders",
        }
    }

    fn role(self) -> &'static str {
        match self {
            Self::Users => "users_owner",
            Self::Orders => "orders_owner",
        }
    }

    fn password(self) -> &'static str {
        match self {
            Self::Users => "USERS_OWNER_PASSWORD",
            Self::Orders => "ORDERS_OWNER_PASSWORD",
        }
    }
}
