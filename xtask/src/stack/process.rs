//! One process of the stack: how it is started, whether it runs, whether it is ready.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::native::child::{Child, Launch, last_line};
use crate::native::until;

const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// A little more than the drain deadline of the processes.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// A process that can be killed and started again.
#[derive(Debug)]
pub struct Process {
    launch: Launch,
    log: PathBuf,
    ops_port: Option<u16>,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// A process that is not started yet. Without an ops port it counts as ready while it runs.
    pub fn new(launch: Launch, log: PathBuf, ops_port: Option<u16>) -> Self {
        Self { launch: Launch { log: Some(log.clone()), ..launch }, log, ops_port, child: Mutex::new(None) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// The file it logs to.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::pid)
    }

    /// The port of `/readyz` and `/metrics`, if it has one.
    pub fn ops_port(&self) -> Option<u16> {
        self.ops_port
    }

    /// How it is started, for commands of the same program.
    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    /// Starts it unless it runs. Does not wait.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn start(&self) -> Result<()> {
        let mut child = self.child();
        if child.as_ref().is_none_or(|child| child.ended().is_some()) {
            *child = Some(self.launch.start()?);
        }
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it ends instead (with the last line it logged), or says for a minute why it is not ready.
    pub fn wait_ready(&self) -> Result<()> {
        let mut state = Err("it was not asked".to_owned());
        let outcome = until(READY_TIMEOUT, || {
            if let Some(death) = self.death() {
                return Some(Err(death));
            }
            state = self.readiness();
            state.is_ok().then_some(Ok(()))
        });
        match (outcome, state) {
            (Some(Ok(())), _) => Ok(()),
            (Some(Err(death)), _) => bail!(death),
            (None, state) => bail!(
                "{} is not ready after {} s: {}",
                self.name(),
                READY_TIMEOUT.as_secs(),
                state.err().unwrap_or_default()
            ),
        }
    }

    /// Whether it is ready, or its reasons why not.
    ///
    /// # Errors
    ///
    /// The reasons.
    pub fn readiness(&self) -> std::result::Result<(), String> {
        if self.child().as_ref().is_none_or(|child| child.ended().is_some()) {
            return Err("it does not run".into());
        }
        self.ops_port.map_or(Ok(()), ready)
    }

    /// If it was started and has ended by itself: one line about that.
    pub fn death(&self) -> Option<String> {
        let status = self.child().as_ref()?.ended()?;
        Some(format!("{} ended ({status}): {}", self.name(), last_line(&self.log)))
    }

    /// Kills it (`kill -9`).
    pub fn kill_9(&self) {
        if let Some(child) = self.child().take() {
            child.kill();
        }
    }

    /// Asks it to stop (`SIGTERM`); kills it when it does not. Answers its exit code, if it gave one.
    pub fn stop(&self) -> Option<i32> {
        let child = self.child().take()?;
        child.stop(STOP_TIMEOUT)?.code()
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the process with that ops port says that it is ready, or its reasons why not.
///
/// # Errors
///
/// The reasons.
pub fn ready(ops_port: u16) -> std::result::Result<(), String> {
    let answer =
        get(ops_port, "/readyz").map_err(|error| format!("no answer on port {ops_port}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(body.trim_end().replace('\n', ", ")),
    }
}

/// The answer to an HTTP request to loopback, head and body.
pub(crate) fn get(port: u16, path: &str) -> std::io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::Scratch;

    fn process(scratch: &Scratch, script: &str) -> Process {
        let log = scratch.path().join("it.log");
        Process::new(Launch::new("it", "sh", &log).args(["-c", script]), log, None)
    }

    #[test]
    fn a_process_that_ends_is_reported_with_its_last_line() {
        let scratch = Scratch::new().unwrap();
        let process = process(&scratch, "echo first; echo the reason; exit 3");
        process.start().unwrap();
        let death = until(READY_TIMEOUT, || process.death()).unwrap();
        assert_eq!(death, "it ended (exit status: 3): the reason");
    }

    #[test]
    fn a_process_is_started_again_after_a_kill() {
        let scratch = Scratch::new().unwrap();
        let process = process(&scratch, "exec sleep 600");
        process.start().unwrap();
        let first = process.pid();
        process.kill_9();
        assert_eq!(process.readiness(), Err("it does not run".into()));
        process.start().unwrap();
        process.wait_ready().unwrap();
        assert_ne!(process.pid(), first);
    }
}
