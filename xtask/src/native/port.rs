//! Ports on loopback that two runs at once do not both take.
//!
//! A port is picked below the range the kernel gives to outgoing connections, so that a server that is stopped
//! finds it free again, and is held by a locked file for as long as the lease lives.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

/// The first port that is given out.
const FIRST: u16 = 20_000;
/// How many ports are given out: all below 32768, where the kernel's range begins.
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Which port a server is to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Port {
    /// One that is free.
    #[default]
    Free,
    /// This one.
    Fixed(u16),
}

impl Port {
    /// Takes the port.
    ///
    /// # Errors
    ///
    /// When a fixed port is taken, or no port is free.
    pub fn lease(self) -> Result<PortLease> {
        match self {
            Self::Free => PortLease::free(),
            Self::Fixed(port) => PortLease::fixed(port),
        }
    }
}

/// A port that is ours until this is dropped, whether a server listens on it or not.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    _lock: Option<File>,
}

impl PortLease {
    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn free() -> Result<Self> {
        // Runs begin at different places, so that they seldom try the same port.
        let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or_default();
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let port = FIRST + start.wrapping_mul(7).wrapping_add(step) % COUNT;
            if let Some(lock) = lock(port)?
                && is_free(port)
            {
                return Ok(Self { port, _lock: Some(lock) });
            }
        }
        bail!("no port from {FIRST} to {} is free", FIRST + COUNT)
    }

    fn fixed(port: u16) -> Result<Self> {
        if is_free(port) {
            return Ok(Self { port, _lock: None });
        }
        bail!("port {port} is taken")
    }
}

/// Whether nobody listens on a port of loopback.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn lock(port: u16) -> Result<Option<File>> {
    let folder: PathBuf = std::env::temp_dir().join(format!("tailrace-ports-{}", geteuid().as_raw()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(port.to_string());
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock a port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leases_never_hold_the_same_port() {
        let leases: Vec<_> = (0..50).map(|_| Port::Free.lease().unwrap()).collect();
        let mut ports: Vec<_> = leases.iter().map(PortLease::port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), leases.len());
    }

    #[test]
    fn a_fixed_port_somebody_listens_on_is_refused() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Port::Fixed(port).lease().unwrap_err();
        assert_eq!(error.to_string(), format!("port {port} is taken"));
    }
}
