//! A Postgres server in a folder of its own: logical replication on, loopback only, SCRAM passwords, no socket.
//!
//! The binaries are the system's (14 or newer), else those of an npm package.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::account::Account;
use super::child::{Child, Launch, is_alive};
use super::port::{Port, PortLease};
use super::{download, until};
use crate::settings::{Settings, environment, path_folders};

/// The oldest major version with what the relay needs (`binary` and `messages` of pgoutput).
const OLDEST_MAJOR: u32 = 14;
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A fast shutdown waits for every walsender; a stuck one must not keep us.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// The port it listens on.
    pub port: Port,
    /// Switches `fsync` off: quicker, and safe against `kill -9` but not against a power cut.
    pub without_fsync: bool,
    /// The file it logs to; `None` is its folder with `.log` appended.
    pub log: Option<PathBuf>,
    /// More lines for the configuration, which win over ours.
    pub settings: Vec<(String, String)>,
}

/// A server, stopped when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    binaries: PathBuf,
    data: PathBuf,
    log: PathBuf,
    account: Option<Account>,
    options: PostgresOptions,
    port: PortLease,
    password: String,
    child: Mutex<Option<Child>>,
}

impl Postgres {
    /// Makes the cluster `dir` unless it exists, and starts its server.
    ///
    /// # Errors
    ///
    /// When there are no binaries, the port is taken, or the server does not come up; with its last log line.
    pub fn start(dir: &Path, options: PostgresOptions) -> Result<Self> {
        let data = std::path::absolute(dir).context("cannot resolve the folder of Postgres")?;
        let postgres = Self {
            binaries: binaries()?,
            log: options.log.clone().unwrap_or_else(|| beside(&data, ".log")),
            account: Account::for_postgres()?,
            port: options.port.lease()?,
            password: Settings::get().value("POSTGRES_PASSWORD")?,
            data,
            options,
            child: Mutex::new(None),
        };
        postgres.make_cluster()?;
        postgres.launch()?;
        Ok(postgres)
    }

    /// The port it listens on, the same after every restart.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// The process id of the server, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running().as_ref().map(Child::pid)
    }

    /// The file it logs to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// If it has ended by itself: one line about that.
    pub fn death(&self) -> Option<String> {
        let running = self.running();
        let child = running.as_ref()?;
        Some(format!("Postgres ended ({}): {}", child.ended()?, child.last_line()))
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.running().as_ref().is_some_and(|child| child.ended().is_none())
    }

    /// The URL of the superuser for a database.
    pub fn superuser_url(&self, database: &str) -> String {
        self.url("postgres", &self.password, database)
    }

    /// The URL of a role for a database.
    pub fn url(&self, role: &str, password: &str, database: &str) -> String {
        format!("postgres://{role}:{password}@127.0.0.1:{}/{database}", self.port())
    }

    /// Stops it as an operator would (fast shutdown). Does nothing when it does not run.
    pub fn stop(&self) {
        let Some(child) = self.running().take() else { return };
        child.signal(Signal::INT);
        if child.wait(STOP_TIMEOUT).is_none() {
            child.signal(Signal::QUIT);
            child.wait(STOP_TIMEOUT);
        }
    }

    /// Kills the server and all its processes at once (`kill -9`), as a power cut of the machine would.
    pub fn crash(&self) {
        let Some(child) = self.running().take() else { return };
        let workers = children_of(child.pid());
        child.kill();
        for worker in workers.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
            let _ = kill_process(worker, Signal::KILL);
        }
        // The next start refuses while one of them holds the shared memory.
        until(STOP_TIMEOUT, || (!workers.iter().any(|worker| is_alive(*worker))).then_some(()));
    }

    /// Freezes the server and all its processes (`SIGSTOP`): connections stay open, and nobody answers.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Ends [`Postgres::freeze`].
    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        let Some(server) = self.pid() else { return };
        for pid in std::iter::once(server).chain(children_of(server)) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Stops it, if it runs, and starts it on the same port.
    ///
    /// # Errors
    ///
    /// When it does not come up; with its last log line.
    pub fn restart(&self) -> Result<()> {
        self.stop();
        self.launch()
    }

    fn running(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_cluster(&self) -> Result<()> {
        if self.data.join("PG_VERSION").exists() {
            return Ok(());
        }
        match &self.account {
            Some(account) => account.own(&self.data)?,
            None => std::fs::create_dir_all(&self.data)
                .with_context(|| format!("cannot make {}", self.data.display()))?,
        }
        let password_file = beside(&self.data, ".password");
        write(&password_file, &self.password)?;
        let mut initdb = self
            .child_of("initdb")
            .args(["--username=postgres", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"])
            .args([
                format!("--pwfile={}", password_file.display()),
                format!("--pgdata={}", self.data.display()),
            ]);
        if self.options.without_fsync {
            initdb = initdb.arg("--no-sync");
        }
        let made = initdb.run(START_TIMEOUT);
        let _ = std::fs::remove_file(&password_file);
        made?;
        let configuration = self.data.join("postgresql.conf");
        let mut text = std::fs::read_to_string(&configuration).context("initdb left no postgresql.conf")?;
        text.push_str("\ninclude_if_exists = 'tailrace.conf'\n");
        write(&configuration, &text)
    }

    fn launch(&self) -> Result<()> {
        write(&self.data.join("tailrace.conf"), &self.configuration())?;
        self.wait_for_predecessor()?;
        let mut launch = self.child_of("postgres").arg("-D").arg(self.data.display().to_string());
        // "Immediate shutdown": its processes end with it, and it recovers from the log when it starts again.
        launch.death_signal = "QUIT";
        let child = launch.start()?;
        let ready = until(START_TIMEOUT, || match child.ended() {
            Some(_) => Some(false),
            None => self.is_ready(child.pid()).then_some(true),
        });
        match ready {
            Some(true) => {
                *self.running() = Some(child);
                Ok(())
            }
            Some(false) => bail!("Postgres ended while it started: {}", child.last_line()),
            None => bail!("Postgres did not come up in {} s: {}", START_TIMEOUT.as_secs(), child.last_line()),
        }
    }

    fn configuration(&self) -> String {
        let mut text = format!(
            "# Written by xtask at every start.\n\
             port = {}\n\
             listen_addresses = '127.0.0.1'\n\
             unix_socket_directories = ''\n\
             password_encryption = 'scram-sha-256'\n\
             wal_level = 'logical'\n\
             max_replication_slots = 20\n\
             max_wal_senders = 20\n\
             max_connections = 200\n",
            self.port()
        );
        if self.options.without_fsync {
            text.push_str("fsync = off\n");
        }
        for (name, value) in &self.options.settings {
            let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
        }
        text
    }

    /// A server whose runner was killed is still shutting down: it is given time to.
    fn wait_for_predecessor(&self) -> Result<()> {
        let Some(pid) = self.postmaster_line(0).and_then(|pid| pid.parse::<i32>().ok()) else {
            return Ok(());
        };
        let works_here =
            || std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == self.data);
        match until(STOP_TIMEOUT, || (!works_here()).then_some(())) {
            Some(()) => Ok(()),
            None => bail!("another Postgres (process {pid}) uses {}: stop it first", self.data.display()),
        }
    }

    /// What `pg_ctl --wait` looks at: the server writes its state to the eighth line of `postmaster.pid`.
    fn is_ready(&self, pid: u32) -> bool {
        self.postmaster_line(0).is_some_and(|line| line == pid.to_string())
            && self.postmaster_line(7).is_some_and(|line| line == "ready")
    }

    fn postmaster_line(&self, number: usize) -> Option<String> {
        let text = std::fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        text.lines().nth(number).map(|line| line.trim().to_owned())
    }

    fn child_of(&self, program: &str) -> Launch {
        let mut launch = Launch::new(program, self.binaries.join(program), &self.log).env("LC_ALL", "C");
        launch.account.clone_from(&self.account);
        launch.folder = Some(self.data.clone());
        launch
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Chooses another server than the system's: a version of the npm package.
pub const POSTGRES_VARIABLE: &str = "TAILRACE_TEST_POSTGRES";

/// The folder of the binaries that [`POSTGRES_VARIABLE`] names, else of the newest of the system that are new enough, else of those
/// fetched through npm.
///
/// # Errors
///
/// When the system has none and they cannot be fetched.
pub fn binaries() -> Result<PathBuf> {
    if let Some(version) = environment(POSTGRES_VARIABLE) {
        return download::embedded_postgres(&version.to_string_lossy());
    }
    match system_binaries() {
        Some(folder) => Ok(folder),
        None => download::embedded_postgres(&Settings::get().value("EMBEDDED_POSTGRES_VERSION")?),
    }
}

/// The folder of the newest system binaries that are new enough.
pub fn system_binaries() -> Option<PathBuf> {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = packaged.map(|entry| entry.path().join("bin")).chain(path_folders());
    let versions = folders.filter_map(|folder| Some((major_version(&folder)?, folder)));
    versions
        .filter(|(major, _)| *major >= OLDEST_MAJOR)
        .max_by_key(|(major, _)| *major)
        .map(|(_, folder)| folder)
}

fn major_version(folder: &Path) -> Option<u32> {
    if !folder.join("initdb").exists() {
        return None;
    }
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn children_of(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The path with something appended to its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
