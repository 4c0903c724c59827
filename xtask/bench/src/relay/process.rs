//! A relay as a process of its own, started as anybody would.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use xtask::artefacts;
use xtask::native::child::{Child, Launch};
use xtask::native::{Port, PortLease};

use super::servers::Servers;
use super::source::{Source, configuration};

/// What `cdc-relay init` may take.
const INIT_TIMEOUT: Duration = Duration::from_secs(120);
/// What a healthy relay needs to hold its sources.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How a relay says that another one holds its source.
const STANDBY: &str = "standing by";

/// A relay that can be started again and again.
pub(super) struct Relay {
    launch: Launch,
    ops: SocketAddr,
    _ops_port: PortLease,
}

impl Relay {
    /// A relay of that name with these sources.
    pub(super) fn new(servers: &Servers, name: &str, sources: &[Source]) -> Result<Self> {
        let folder = servers.scratch.path();
        let path = folder.join(format!("{name}.toml"));
        std::fs::write(&path, configuration(servers, sources)?).context("cannot write a configuration")?;
        let ops_port = Port::Free.lease()?;
        let ops = SocketAddr::from((Ipv4Addr::LOCALHOST, ops_port.port()));
        let program = artefacts::programs()?.join("cdc-relay");
        let launch = Launch::new("cdc-relay", program, folder.join(format!("{name}.log")))
            .env("TAILRACE_LISTEN", "127.0.0.1:0")
            .env("TAILRACE_OPS_LISTEN", ops.to_string())
            .args(["--config".to_owned(), path.display().to_string()]);
        Ok(Self { launch, ops, _ops_port: ops_port })
    }

    /// Makes what is missing: topics, slots and first positions.
    pub(super) fn init(&self) -> Result<()> {
        self.launch.clone().arg("init").run(INIT_TIMEOUT)
    }

    /// Starts it.
    pub(super) fn start(&self) -> Result<Child> {
        self.launch.start()
    }

    /// Waits until it holds its sources.
    pub(super) fn wait_until_ready(&self, child: &Child) -> Result<()> {
        self.wait_for(child, |is_ready, _| is_ready)
    }

    /// Waits until it is connected and another one holds its source.
    pub(super) fn wait_until_standby(&self, child: &Child) -> Result<()> {
        self.wait_for(child, |_, words| words.contains(STANDBY))
    }

    fn wait_for(&self, child: &Child, is_wanted: impl Fn(bool, &str) -> bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            let state = self.state();
            if let Ok((is_ready, words)) = &state
                && is_wanted(*is_ready, words)
            {
                return Ok(());
            }
            if let Some(status) = child.ended() {
                bail!("the relay ended ({status}): {}", child.last_line());
            }
            if begun.elapsed() > READY_TIMEOUT {
                bail!("the relay does not get there: {state:?}; {}", child.last_line());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Whether it is ready, and what it says about that.
    fn state(&self) -> Result<(bool, String)> {
        let mut stream = TcpStream::connect_timeout(&self.ops, ANSWER_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok((answer.starts_with("HTTP/1.1 200"), answer))
    }
}
