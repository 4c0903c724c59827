//! The whole system on this machine: Postgres, Kafka, the four processes, in order.
//!
//! ```text
//! programs, page ──┐
//! Postgres ── migrations ──┤
//! Kafka ───────────┴── cdc-relay init ── user-service, order-service, gateway, cdc-relay ── seed
//! ```
//!
//! `cargo xtask up` runs one in `.tailrace/`; the end-to-end tests run theirs in folders of their own, on free ports.
//! A process is named as its program is: `user-service`, `order-service`, `gateway`, `cdc-relay`.

pub mod addresses;
pub mod holder;
pub mod lock;
pub mod process;
pub mod state;

mod servers;
mod topology;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

pub use addresses::Ports;
pub use process::Process;
pub use topology::Urls;

use self::addresses::Addresses;
use self::lock::Lock;
use self::servers::Servers;
use self::topology::Topology;
use crate::native::account::let_pass;
use crate::native::child::Launch;
use crate::native::{Kafka, Postgres};
use crate::progress::Progress;
use crate::settings::Settings;

/// The longest a migration, an `init` or the seed may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// What a stack is like.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Its folder: data, logs, lock.
    pub dir: PathBuf,
    /// Which ports it takes.
    pub ports: Ports,
    /// Whether data of an earlier run is wiped.
    pub fresh: bool,
    /// Whether programs and page are built first. A test finds them built.
    pub build: bool,
    /// Whether the demo account, a few users and orders are made, unless they are there.
    pub seed: bool,
    /// Switches Postgres' `fsync` off.
    pub without_fsync: bool,
    /// The relay's configuration; `deploy/relay.toml` when `None`.
    pub relay_config: Option<PathBuf>,
    /// Where it says what goes on.
    pub progress: Progress,
}

impl StackOptions {
    /// A quiet stack for a test: free ports, nothing built, `fsync` off, with the demo account.
    pub fn for_test(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            ports: Ports::Auto,
            fresh: false,
            build: false,
            seed: true,
            without_fsync: true,
            relay_config: None,
            progress: Progress::quiet(),
        }
    }
}

/// A running stack. Dropping it stops everything it started.
#[derive(Debug)]
pub struct Stack {
    dir: PathBuf,
    urls: Urls,
    demo: Launch,
    user_service: Process,
    order_service: Process,
    gateway: Process,
    relay: Process,
    traffic: Process,
    servers: Servers,
    // Held to the end, in this order: the ports, then the folder.
    _addresses: Addresses,
    _lock: Lock,
}

impl Stack {
    /// Starts everything and waits until all of it is ready.
    ///
    /// # Errors
    ///
    /// One line that says what is wrong: a port taken, another stack in the folder, a process that ended.
    pub fn start(options: StackOptions) -> Result<Self> {
        let dir = std::path::absolute(&options.dir).context("cannot resolve the data folder")?;
        let lock = Lock::take(&dir)?;
        let_pass(&dir)?;
        let addresses = Addresses::take(options.ports)?;
        if options.fresh {
            servers::wipe(&dir)?;
        }
        let _ = std::fs::remove_dir_all(dir.join("logs"));
        let servers = Servers::start(&dir, &addresses, &options)?;
        let topology =
            Topology::new(&dir, &addresses, &servers.postgres, &servers.kafka, options.relay_config.clone());
        let demo = topology.demo()?;
        let traffic = demo.clone().args(["traffic", "--rate", "2"]);
        let stack = Self {
            urls: Urls::of(&addresses),
            user_service: topology.user_service()?,
            order_service: topology.order_service()?,
            gateway: topology.gateway()?,
            relay: topology.relay()?,
            traffic: Process::new(
                Launch { name: "demo-traffic".into(), ..traffic },
                topology.log("demo-traffic"),
                None,
            ),
            demo,
            dir: dir.clone(),
            servers,
            _addresses: addresses,
            _lock: lock,
        };
        stack.prepare(options.progress)?;
        stack.start_processes(options.progress)?;
        if options.seed {
            options.progress.step("demo account, users and orders", || stack.seed())?;
        }
        Ok(stack)
    }

    /// Where its interfaces are.
    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its database server.
    pub fn postgres(&self) -> &Postgres {
        &self.servers.postgres
    }

    /// Its broker.
    pub fn kafka(&self) -> &Kafka {
        &self.servers.kafka
    }

    /// E-mail address and password of the demo account, an operator.
    ///
    /// # Errors
    ///
    /// When `.env` does not have them.
    pub fn demo_account(&self) -> Result<(String, String)> {
        Ok((Settings::get().value("TAILRACE_DEMO_EMAIL")?, Settings::get().value("TAILRACE_DEMO_PASSWORD")?))
    }

    /// A process by its name.
    ///
    /// # Panics
    ///
    /// When no process has that name.
    pub fn process(&self, name: &str) -> &Process {
        let mut all = self.processes().into_iter();
        all.find(|process| process.name() == name).unwrap_or_else(|| panic!("no process is named {name}"))
    }

    /// The four processes, in the order in which they are started.
    pub fn processes(&self) -> [&Process; 4] {
        [&self.user_service, &self.order_service, &self.gateway, &self.relay]
    }

    /// Kills a process (`kill -9`).
    pub fn kill_9(&self, name: &str) {
        self.process(name).kill_9();
    }

    /// Asks a process to stop (`SIGTERM`) and answers its exit code, if it gave one before it had to be killed.
    pub fn stop_process(&self, name: &str) -> Option<i32> {
        self.process(name).stop()
    }

    /// Stops a process if it runs, starts it and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it ends or does not get ready.
    pub fn restart(&self, name: &str) -> Result<()> {
        let process = self.process(name);
        process.stop();
        process.start()?;
        process.wait_ready()
    }

    /// Starts two events a second, for something to look at.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn start_traffic(&self) -> Result<()> {
        self.traffic.start()
    }

    /// What has ended by itself, a line each.
    pub fn deaths(&self) -> Vec<String> {
        let processes = self.processes().into_iter().chain([&self.traffic]);
        processes.filter_map(Process::death).chain(self.servers.deaths()).collect()
    }

    /// Stops everything in order: who writes, who reads, who carries, then the stores.
    pub fn stop(&self) {
        self.traffic.stop();
        std::thread::scope(|scope| {
            scope.spawn(|| self.user_service.stop());
            scope.spawn(|| self.order_service.stop());
        });
        self.gateway.stop();
        self.relay.stop();
        self.servers.kafka.stop();
        self.servers.postgres.stop();
    }

    /// Migrations, the key that signs tokens, the relay's slots and topics: before the first write.
    fn prepare(&self, progress: Progress) -> Result<()> {
        progress.step("migrations, slots and topics", || {
            let key = self.dir.join("signing-key.pem");
            if !key.exists() {
                let out = ["keygen".to_owned(), "--out".to_owned(), key.display().to_string()];
                self.user_service.launch().clone().args(out).run(COMMAND_TIMEOUT)?;
            }
            self.user_service.launch().clone().arg("migrate").run(COMMAND_TIMEOUT)?;
            self.order_service.launch().clone().arg("migrate").run(COMMAND_TIMEOUT)?;
            self.relay.launch().clone().arg("init").run(COMMAND_TIMEOUT)
        })
    }

    fn start_processes(&self, progress: Progress) -> Result<()> {
        progress.step("the four processes", || {
            for process in self.processes() {
                process.start()?;
            }
            self.processes().into_iter().try_for_each(Process::wait_ready)
        })
    }

    fn seed(&self) -> Result<()> {
        self.demo.clone().arg("seed").run(COMMAND_TIMEOUT)?;
        let (email, _) = self.demo_account()?;
        // The service runs already: what the command says is no part of its log.
        let service = Launch { log: self.demo.log.clone(), ..self.user_service.launch().clone() };
        service.args(["operator", "grant", &email]).run(COMMAND_TIMEOUT)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.stop();
    }
}
