//! What has to be installed. The list is `xtask/packages.txt`, which `.ci/run` reads too.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use crate::settings::path_folders;
use crate::workspace;

/// The oldest Node.js that builds the page.
const OLDEST_NODE: u32 = 20;
/// The oldest Java that runs the broker.
const OLDEST_JAVA: u32 = 17;

/// What running the stack does without: Postgres comes from npm where the system has none.
const ONLY_TESTS: [&str; 5] = ["postgresql", "chromium", "golang-go", "python3-pip", "git"];

/// A Debian package, and the program or file that tells that it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    name: String,
    proof: String,
}

impl Package {
    fn is_there(&self) -> bool {
        if self.proof.starts_with('/') { Path::new(&self.proof).exists() } else { in_path(&self.proof) }
    }
}

/// What a command needs of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run the stack.
    Run,
    /// To run every test.
    Test,
}

/// Sees that everything is there; installs Debian packages if asked.
///
/// # Errors
///
/// One line that says what is missing and how to get it.
pub fn check(purpose: Purpose, install: bool) -> Result<()> {
    if !in_path("setpriv") {
        bail!("setpriv is missing: apt-get install util-linux (2.33 or newer; this runs on Linux only)");
    }
    let mut missing: Vec<String> =
        needed(purpose)?.into_iter().filter(|p| !p.is_there()).map(|p| p.name).collect();
    if install && !missing.is_empty() {
        apt_install(&missing)?;
        missing = needed(purpose)?.into_iter().filter(|p| !p.is_there()).map(|p| p.name).collect();
    }
    if !missing.is_empty() {
        let names = missing.join(" ");
        bail!("missing: {names} — get it with `sudo apt-get install {names}`, or run again with --install");
    }
    version_at_least("node", &["--version"], OLDEST_NODE, "https://nodejs.org/en/download")?;
    version_at_least("java", &["--version"], OLDEST_JAVA, "apt-get install openjdk-17-jdk-headless")
}

fn needed(purpose: Purpose) -> Result<Vec<Package>> {
    let path = workspace::root().join("xtask/packages.txt");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let all = parse(&text).into_iter();
    Ok(all
        .filter(|package| purpose == Purpose::Test || !ONLY_TESTS.contains(&package.name.as_str()))
        .collect())
}

fn parse(text: &str) -> Vec<Package> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let package = |line: &str| {
        let (name, proof) = line.split_once(char::is_whitespace)?;
        Some(Package { name: name.to_owned(), proof: proof.trim().to_owned() })
    };
    lines.filter_map(package).collect()
}

fn apt_install(packages: &[String]) -> Result<()> {
    let mut command = if geteuid().is_root() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    };
    let installed = command.args(["install", "-y", "--no-install-recommends"]).args(packages).status();
    if !installed.context("--install works on Debian and its relatives, with apt-get")?.success() {
        bail!("apt-get could not install {}: try `apt-get update` first", packages.join(" "));
    }
    Ok(())
}

fn version_at_least(program: &str, arguments: &[&str], oldest: u32, remedy: &str) -> Result<()> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match major_version(&text) {
        Some(version) if version >= oldest => Ok(()),
        Some(version) => bail!("{program} {version} is too old, {oldest} is needed: {remedy}"),
        None => bail!("{program} does not tell its version; {oldest} or newer is needed: {remedy}"),
    }
}

fn major_version(text: &str) -> Option<u32> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    text[start..].split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn in_path(program: &str) -> bool {
    path_folders().iter().any(|folder| folder.join(program).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_first_number_of_what_a_program_says() {
        assert_eq!(major_version("v20.20.2\n"), Some(20));
        assert_eq!(major_version("openjdk 17.0.15 2025-04-15\n"), Some(17));
        assert_eq!(major_version("unknown"), None);
    }

    #[test]
    fn the_list_names_a_proof_for_each_package() {
        let packages = needed(Purpose::Test).unwrap();
        assert!(packages.iter().all(|package| !package.proof.is_empty()));
        assert!(packages.iter().any(|package| package.name == "maven" && package.proof == "mvn"));
    }

    #[test]
    fn running_needs_no_browser() {
        assert!(needed(Purpose::Run).unwrap().iter().all(|package| package.name != "chromium"));
    }
}
