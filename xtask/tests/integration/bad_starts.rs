//! A start that cannot work is answered with one line that says why and how to mend it.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use anyhow::Result;
use xtask::native::{Port, PortLease, Scratch};
use xtask::settings::Settings;
use xtask::stack::lock::Lock;

/// `cargo xtask up` in a scratch folder, with these variables.
fn up(scratch: &Scratch, variables: &[(String, String)]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["up", "--dir"]).arg(scratch.path().join("data"));
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    Ok(command.output()?)
}

/// The one line of an answer, and that there is no other.
fn line(output: &Output) -> String {
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    text.trim().to_owned()
}

#[test]
fn a_second_up_is_told_of_the_first() -> Result<()> {
    let scratch = Scratch::new()?;
    let _first = Lock::take(&scratch.path().join("data"))?;
    let told = line(&up(&scratch, &[])?);
    let pid = std::process::id();
    assert!(told.starts_with("xtask: Tailrace already runs from "), "{told}");
    assert!(
        told.ends_with(&format!("(process {pid}): see `cargo xtask status`, end it with `cargo xtask down`"))
    );
    Ok(())
}

#[test]
fn a_taken_port_is_named_with_its_holder_and_its_setting() -> Result<()> {
    let scratch = Scratch::new()?;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = taken.local_addr()?.port().to_string();
    let mut leases: Vec<PortLease> = Vec::new();
    let mut variables = Vec::new();
    for (name, _) in Settings::get().all().filter(|(name, _)| name.ends_with("_PORT")) {
        leases.push(Port::Free.lease()?);
        variables.extend(leases.last().map(|lease| (name.to_owned(), lease.port().to_string())));
    }
    variables.push(("TAILRACE_WEB_PORT".to_owned(), port.clone()));
    let told = line(&up(&scratch, &variables)?);
    assert!(told.starts_with(&format!("xtask: port {port} is taken by ")), "{told}");
    let holder = format!("(process {}): stop that, or set TAILRACE_WEB_PORT in .env", std::process::id());
    assert!(told.ends_with(&holder), "{told}");
    Ok(())
}

#[test]
fn what_is_not_installed_is_listed_with_the_command_that_installs_it() -> Result<()> {
    let scratch = Scratch::new()?;
    let path = scratch.path().join("bin");
    std::fs::create_dir(&path)?;
    symlink("/usr/bin/setpriv", path.join("setpriv"))?;
    let told = line(&up(&scratch, &[("PATH".to_owned(), path.display().to_string())])?);
    assert!(told.starts_with("xtask: missing: "), "{told}");
    assert!(told.contains("sudo apt-get install"), "{told}");
    assert!(told.contains("maven"), "{told}");
    Ok(())
}

#[test]
fn a_setting_that_is_no_port_is_named() -> Result<()> {
    let scratch = Scratch::new()?;
    let told = line(&up(&scratch, &[("TAILRACE_USER_PORT".to_owned(), "five".to_owned())])?);
    assert_eq!(told, "xtask: TAILRACE_USER_PORT=five is not a port: set a number from 1 to 65535 in .env");
    Ok(())
}
