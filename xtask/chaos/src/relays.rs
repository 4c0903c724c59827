//! The two relays of a run, as processes of their own: started, killed, frozen, and asked how they are.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use xtask::native::child::{Child, Launch};
use xtask::native::{Port, PortLease};

use crate::cluster::RELAYS;
use crate::schedule::Side;
use crate::source::Source;

/// What a healthy relay needs to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A frozen relay does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// A relay's own drain deadline is shorter.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// Must stay 0: the slot was told of events that Kafka does not hold.
const INVARIANT: &str = "tailrace_relay_ack_invariant_violations_total";

/// Both relays.
pub(crate) struct Relays {
    pub(crate) relays: Vec<Relay>,
    /// Which of them a fault has in its hands.
    claimed: Mutex<[bool; RELAYS]>,
}

/// One relay.
pub(crate) struct Relay {
    /// `a` or `b`.
    pub(crate) name: char,
    launch: Launch,
    ops: SocketAddr,
    child: Mutex<Option<Child>>,
    _ports: [PortLease; 2],
}

impl Relays {
    /// Starts both, and waits until one holds the source.
    pub(crate) async fn start(source: &Source) -> Result<Self> {
        let relays = (0..RELAYS).map(|number| Relay::new(source, number)).collect::<Result<Vec<_>>>()?;
        let relays = Self { relays, claimed: Mutex::default() };
        relays.relays.iter().try_for_each(Relay::start)?;
        let holds = async {
            let mut looks = interval(LOOK_INTERVAL);
            while relays.holder().await.is_none() {
                looks.tick().await;
            }
        };
        if timeout(READY_TIMEOUT, holds).await.is_err() {
            bail!("no relay is ready: {}", relays.states().await);
        }
        Ok(relays)
    }

    /// The one that holds the source, as it says itself.
    pub(crate) async fn holder(&self) -> Option<usize> {
        for (number, relay) in self.relays.iter().enumerate() {
            if relay.is_ready().await {
                return Some(number);
            }
        }
        None
    }

    /// Takes a relay that no other fault has: on that side, if there is one.
    pub(crate) async fn claim(&self, side: Side) -> Option<Claim<'_>> {
        let holder = self.holder().await;
        let is_wanted = |number: usize| (holder == Some(number)) == (side == Side::Holder);
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free: Vec<usize> = (0..RELAYS).filter(|number| !claimed[*number]).collect();
        free.sort_by_key(|number| !is_wanted(*number));
        let number = *free.first()?;
        claimed[number] = true;
        Some(Claim { relays: self, number })
    }

    /// What each says of itself.
    pub(crate) async fn states(&self) -> String {
        let mut states = Vec::new();
        for relay in &self.relays {
            states.push(format!("relay {}: {}", relay.name, relay.state().await));
        }
        states.join("; ")
    }

    /// A relay ends only when it is told to.
    pub(crate) fn ensure_alive(&self) -> Result<()> {
        for relay in &self.relays {
            if let Some(child) = relay.child().as_ref()
                && let Some(status) = child.ended()
            {
                bail!("relay {} ended by itself ({status}): {}", relay.name, child.last_line());
            }
        }
        Ok(())
    }

    /// What the run-time watch over the first invariant has counted, as far as the processes that are there now have seen.
    pub(crate) async fn broken_invariants(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for relay in &self.relays {
            let metrics = relay.get("/metrics").await.map_or_else(String::new, |(_, body)| body);
            let samples = metrics.lines().filter(|line| line.starts_with(INVARIANT) && !line.ends_with(" 0"));
            broken.extend(samples.map(|line| format!("relay {} counts {line}", relay.name)));
        }
        broken
    }

    /// Stops both as an operator would; with nothing left to do they must end well.
    pub(crate) fn stop(&self) -> Vec<String> {
        let ends = self.relays.iter().map(|relay| (relay.name, relay.stop()));
        let ill = ends.filter(|(_, status)| !status.is_some_and(|status| status.success()));
        ill.map(|(name, status)| format!("relay {name} did not end as asked: {status:?}")).collect()
    }
}

/// A relay in the hands of a fault; given back when dropped.
pub(crate) struct Claim<'a> {
    relays: &'a Relays,
    pub(crate) number: usize,
}

impl Claim<'_> {
    pub(crate) fn relay(&self) -> &Relay {
        &self.relays.relays[self.number]
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.relays.claimed.lock().unwrap_or_else(PoisonError::into_inner)[self.number] = false;
    }
}

impl Relay {
    fn new(source: &Source, number: usize) -> Result<Self> {
        let name = if number == 0 { 'a' } else { 'b' };
        let ports = [Port::Free.lease()?, Port::Free.lease()?];
        let [admin, ops] =
            [&ports[0], &ports[1]].map(|lease| SocketAddr::from((Ipv4Addr::LOCALHOST, lease.port())));
        let launch = source
            .launch(number, &source.logs.join(format!("relay-{name}.log")))?
            .env("TAILRACE_LISTEN", admin.to_string())
            .env("TAILRACE_OPS_LISTEN", ops.to_string())
            .env("TAILRACE_LOG", "info,cdc_relay=debug");
        Ok(Self { name, launch, ops, child: Mutex::default(), _ports: ports })
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it.
    pub(crate) fn start(&self) -> Result<()> {
        let child = self.launch.start().context("cannot start a relay")?;
        *self.child() = Some(child);
        Ok(())
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        if let Some(child) = self.child().take() {
            child.kill();
        }
    }

    /// SIGTERM; killed when it does not end in time.
    pub(crate) fn stop(&self) -> Option<ExitStatus> {
        let child = self.child().take()?;
        child.stop(STOP_TIMEOUT)
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = self.child().as_ref() {
            child.signal(signal);
        }
    }

    async fn is_ready(&self) -> bool {
        self.get("/readyz").await.is_some_and(|(status, _)| status == 200)
    }

    async fn state(&self) -> String {
        match self.get("/readyz").await {
            Some((200, _)) => "ready".to_owned(),
            Some((_, body)) => body.lines().map(str::trim).collect::<Vec<_>>().join(", "),
            None => "no answer".to_owned(),
        }
    }

    /// Asks the ops port.
    async fn get(&self, path: &str) -> Option<(u16, String)> {
        timeout(ANSWER_TIMEOUT, async {
            let mut stream = TcpStream::connect(self.ops).await.ok()?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let status = answer.split(' ').nth(1)?.parse().ok()?;
            Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
        })
        .await
        .ok()
        .flatten()
    }
}
