//! Who listens on a port, from `/proc`: for the message that says why we cannot.

use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// A phrase that names who listens on a port.
pub fn of(port: u16) -> String {
    let Some(socket) = listening_socket(port) else { return "somebody".into() };
    match process_with(&socket) {
        Some((pid, name)) => format!("{name} (process {pid})"),
        None => "a process of another user".into(),
    }
}

fn listening_socket(port: u16) -> Option<String> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    tables.iter().find_map(|table| socket_in(table, port))
}

/// The inode of the socket in a table with columns `sl local_address rem_address st … inode`.
fn socket_in(table: &str, port: u16) -> Option<String> {
    let end = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let ours = fields.get(1)?.ends_with(&end) && *fields.get(3)? == LISTEN;
        ours.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
    })
}

fn process_with(socket: &str) -> Option<(u32, String)> {
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let files = std::fs::read_dir(entry.path().join("fd")).ok()?;
        let holds = |file: &Path| std::fs::read_link(file).is_ok_and(|target| target.as_os_str() == socket);
        files.flatten().any(|file| holds(&file.path())).then_some(())?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((pid, name.trim().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named_with_its_process() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let who = of(listener.local_addr().unwrap().port());
        assert!(who.ends_with(&format!("(process {})", std::process::id())), "{who}");
    }

    #[test]
    fn a_connection_is_not_a_listener() {
        let table = "sl\n 0: 0100007F:1389 0100007F:D431 01 0:0 0:0 0 0 0 77\n 1: 0100007F:1389 0:0 0A 0:0 0:0 0 0 0 78";
        assert_eq!(socket_in(table, 5001).as_deref(), Some("socket:[78]"));
        assert_eq!(socket_in(table, 5002), None);
    }
}
