//! One child process: its log file, its signals, and its death with ours.
//!
//! The kernel's parent-death signal belongs to the *thread* that started the child. A test that starts a server
//! from its own thread would take the server with it when it ends, so all children are started by one thread
//! that never ends. `setpriv` sets the signal, because to do it here would need `unsafe` code between fork and exec.
//! It needs no rights; started by root it also drops them. A runner killed in the millisecond between its fork and
//! that program's first call leaves the child behind: the lock of a data folder then names it at the next start.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use super::account::Account;

type Spawned = io::Result<std::process::Child>;

static NURSERY: LazyLock<Sender<(Command, SyncSender<Spawned>)>> = LazyLock::new(|| {
    let (sender, requests) = channel::<(Command, SyncSender<Spawned>)>();
    let nursery = move || {
        for (mut command, answer) in requests {
            // The asker waits for the answer; it is gone only if its thread was torn down.
            let _ = answer.send(command.spawn());
        }
    };
    std::thread::Builder::new().name("nursery".into()).spawn(nursery).expect("a thread can be started");
    sender
});

/// How a child is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// What it is called in messages.
    pub name: String,
    /// The program, a path or a name to be found in `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables added to the environment it inherits.
    pub environment: Vec<(String, String)>,
    /// The account it runs as; ours when `None`.
    pub account: Option<Account>,
    /// The folder it runs in; ours when `None`.
    pub folder: Option<PathBuf>,
    /// The file that standard output and error are appended to; our own when `None`.
    pub log: Option<PathBuf>,
    /// The signal it gets when this process dies, as `setpriv` spells it.
    pub death_signal: &'static str,
}

impl Launch {
    /// A child of that name that is killed when this process dies.
    pub fn new(name: &str, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            account: None,
            folder: None,
            log: Some(log.into()),
            death_signal: "KILL",
        }
    }

    /// A child that writes to our own standard output and error.
    pub fn on_terminal(name: &str, program: impl Into<PathBuf>) -> Self {
        Self { log: None, ..Self::new(name, program, "") }
    }

    /// Runs it in that folder.
    #[must_use]
    pub fn within(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Starts the child.
    ///
    /// # Errors
    ///
    /// When the log cannot be written or the program cannot be started.
    pub fn start(&self) -> Result<Child> {
        let command = self.command()?;
        let (sender, answer) = sync_channel(1);
        NURSERY.send((command, sender)).expect("the nursery lives as long as the process");
        let inner = answer
            .recv()
            .expect("the nursery answers every request")
            .with_context(|| format!("cannot start {} through setpriv (package util-linux)", self.name))?;
        let pid = Pid::from_child(&inner);
        let handle = pidfd_open(pid, PidfdFlags::empty()).context("cannot watch a child process")?;
        let death_signal = if self.death_signal == "QUIT" { Signal::QUIT } else { Signal::KILL };
        running().push((pid, death_signal));
        Ok(Child { name: self.name.clone(), log: self.log.clone(), pid, handle, inner: Mutex::new(inner) })
    }

    /// Runs the child to its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started, fails, or does not end within the deadline; with the last line of its log.
    pub fn run(&self, deadline: Duration) -> Result<()> {
        let child = self.start()?;
        match child.wait(deadline) {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{} failed ({status}): {}", self.name, child.last_line()),
            None => {
                child.kill();
                bail!("{} did not end within {} s: {}", self.name, deadline.as_secs(), child.last_line())
            }
        }
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig").arg(self.death_signal);
        if let Some(account) = &self.account {
            command.args([format!("--reuid={}", account.uid), format!("--regid={}", account.gid)]);
            command.arg("--clear-groups");
        }
        command.arg("--").arg(&self.program).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        // A group of its own: Ctrl-C at the terminal is for us, who stop things in order.
        command.process_group(0);
        command.stdin(Stdio::null());
        if let Some(path) = &self.log {
            let log = append(path)?;
            let error_log = log.try_clone().with_context(|| format!("cannot write {}", path.display()))?;
            command.stdout(log).stderr(error_log);
        }
        Ok(command)
    }
}

/// A running child process. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    name: String,
    log: Option<PathBuf>,
    pid: Pid,
    handle: OwnedFd,
    inner: Mutex<std::process::Child>,
}

impl Child {
    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// The status it ended with, if it has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.try_wait().ok().flatten()
    }

    /// Waits for its end, at most as long as `deadline`.
    pub fn wait(&self, deadline: Duration) -> Option<ExitStatus> {
        let timeout = Timespec::try_from(deadline).ok();
        let _ = poll(&mut [PollFd::new(&self.handle, PollFlags::IN)], timeout.as_ref());
        self.ended()
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        // Under the lock nobody reaps it, so the id still means this child.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(None) = inner.try_wait() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Kills it (`kill -9`) and waits for its end.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(10));
    }

    /// Asks it to end (`SIGTERM`), and kills it when the deadline has passed.
    pub fn stop(&self, deadline: Duration) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        let status = self.wait(deadline);
        if status.is_none() {
            self.kill();
        }
        status
    }

    /// The last line it logged, for messages about its end.
    pub fn last_line(&self) -> String {
        self.log.as_deref().map_or_else(|| "its reason is above".to_owned(), last_line)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        running().retain(|(pid, _)| *pid != self.pid);
    }
}

static RUNNING: Mutex<Vec<(Pid, Signal)>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<(Pid, Signal)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every child and its children at once, without waiting: for a process that is about to end itself.
pub fn end_all() {
    for (pid, signal) in running().iter() {
        let _ = kill_process_group(*pid, *signal);
    }
}

/// Whether a process runs. One that is dead but not yet reaped by its parent does not.
pub fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name in parentheses may hold anything; the state follows the last one.
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The last line of a log that says something.
pub(crate) fn last_line(log: &Path) -> String {
    let lines = File::open(log).map(|file| BufReader::new(file).lines());
    let last =
        lines.ok().and_then(|lines| lines.map_while(Result::ok).filter(|line| !line.is_empty()).last());
    last.unwrap_or_else(|| format!("nothing was logged to {}", log.display()))
}

fn append(log: &Path) -> Result<File> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))
}
