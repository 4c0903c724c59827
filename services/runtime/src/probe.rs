//! The `probe` subcommand: asks the process' own ops port whether it is ready, for health checks in images without a
//! shell.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

const TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Succeeds when `/readyz` of the process whose ops port is `ops_listen` answers 200.
pub fn ready(ops_listen: SocketAddr) -> Result<(), ProbeError> {
    let address = reachable(ops_listen);
    let answer = ask(address).map_err(|source| ProbeError::Unreachable { address, source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    Err(ProbeError::NotReady(body.trim_end().replace('\n', ", ")))
}

/// The process is not ready.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing answers on the ops port.
    #[error("no answer from {address}: is the process running?")]
    Unreachable {
        /// The address asked.
        address: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
    /// The process answers, and gives its reasons.
    #[error("not ready: {0}")]
    NotReady(String),
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    write!(connection, "GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// A wildcard address can be listened on but not be connected to everywhere.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}
