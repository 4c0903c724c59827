//! What is built before anything runs: the programs and the web page. Each is skipped when it is up to date.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::native::child::Launch;
use crate::progress::Progress;
use crate::workspace;

/// The programs of the stack, packages and binaries alike.
pub const PROGRAMS: [&str; 5] = ["user-service", "order-service", "gateway", "cdc-relay", "tailrace-demo"];

const BUILD_TIMEOUT: Duration = Duration::from_secs(3600);
/// What does not count as a source of the page.
const GENERATED: [&str; 4] = ["node_modules", "dist", ".screenshots", "__pycache__"];

/// The folder the programs are built into: the one this program itself was built into.
///
/// # Errors
///
/// When the system does not say which program this is.
pub fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the system does not say where this program is")?;
    let folder = own.parent().context("a program stands in a folder")?;
    // A test binary stands one deeper, in deps/.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}

/// Builds the programs; cargo shows its progress.
///
/// # Errors
///
/// When the build fails.
pub fn build_programs(progress: Progress) -> Result<()> {
    progress.step("programs: cargo build", || {
        let packages = PROGRAMS.iter().flat_map(|program| ["--package", program]);
        let cargo = if progress.is_quiet() {
            Launch::new("cargo build", "cargo", workspace::data().join("logs/cargo.log"))
        } else {
            Launch::on_terminal("cargo build", "cargo")
        };
        cargo
            .within(workspace::root())
            .args(["build", "--locked", "--bins"])
            .args(packages)
            .run(BUILD_TIMEOUT)
    })
}

/// The folder of the built web page.
pub fn page() -> PathBuf {
    workspace::root().join("web/dist")
}

/// Builds the web page unless its sources are those it was last built from.
///
/// # Errors
///
/// When npm or the build fails; the reason is the last line of `npm.log`.
pub fn build_page(progress: Progress) -> Result<()> {
    let web = workspace::root().join("web");
    let sources = fingerprint(&[&web, &workspace::root().join("sdk/typescript")])?;
    let mark = page().join(".sources");
    if std::fs::read_to_string(&mark).is_ok_and(|built| built == sources) {
        return Ok(());
    }
    npm_install(&workspace::root().join("sdk/typescript"), progress)?;
    npm_install(&web, progress)?;
    progress.step("web page: npm run build", || npm(&web, &["run", "build"]))?;
    std::fs::write(&mark, sources).with_context(|| format!("cannot write {}", mark.display()))
}

/// Installs the packages of a folder's lock file unless they are installed.
///
/// # Errors
///
/// When npm fails.
pub fn npm_install(folder: &Path, progress: Progress) -> Result<()> {
    let lock = fingerprint(&[&folder.join("package-lock.json")])?;
    let mark = folder.join("node_modules/.tailrace-lock");
    if std::fs::read_to_string(&mark).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let name = folder.strip_prefix(workspace::root()).unwrap_or(folder).display();
    progress.step(&format!("{name}: npm ci"), || npm(folder, &["ci", "--no-audit", "--no-fund"]))?;
    std::fs::write(&mark, lock).with_context(|| format!("cannot write {}", mark.display()))
}

fn npm(folder: &Path, arguments: &[&str]) -> Result<()> {
    let log = workspace::data().join("logs/npm.log");
    let npm = Launch::new(&format!("npm {}", arguments.join(" ")), "npm", &log);
    let done = npm.within(folder).args(arguments.iter().copied()).run(BUILD_TIMEOUT);
    done.map_err(|failure| match npm_reason(&std::fs::read_to_string(&log).unwrap_or_default()) {
        Some(reason) => anyhow!("npm {} in {}: {reason}", arguments.join(" "), folder.display()),
        None => failure,
    })
}

/// npm ends with advice; its reason is the first line after the last code.
fn npm_reason(log: &str) -> Option<String> {
    let (_, end) = log.rsplit_once("npm error code")?;
    let lines = end.lines().skip(1).filter_map(|line| line.strip_prefix("npm error "));
    lines.map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// A number that changes when a file of these folders does.
pub(crate) fn fingerprint(roots: &[&Path]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for root in roots {
        hash_into(root, &mut hasher).with_context(|| format!("cannot read {}", root.display()))?;
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn hash_into(path: &Path, hasher: &mut DefaultHasher) -> std::io::Result<()> {
    if path.is_file() {
        path.hash(hasher);
        std::fs::read(path)?.hash(hasher);
        return Ok(());
    }
    let mut entries = std::fs::read_dir(path)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if !GENERATED.iter().any(|name| entry.file_name() == *name) {
            hash_into(&entry.path(), hasher)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::Scratch;

    #[test]
    fn the_reason_of_npm_is_not_its_advice() {
        let log =
            "npm error code EUSAGE\nnpm error\nnpm error not in sync\nnpm error A complete log of this run\n";
        assert_eq!(npm_reason(log).as_deref(), Some("not in sync"));
    }

    #[test]
    fn a_fingerprint_follows_the_sources_and_not_what_is_built_from_them() {
        let scratch = Scratch::new().unwrap();
        let write = |name: &str, text: &str| {
            let path = scratch.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            fingerprint(&[scratch.path()]).unwrap()
        };
        let first = write("src/main.ts", "1");
        assert_eq!(write("dist/main.js", "1"), first);
        assert_ne!(write("src/main.ts", "2"), first);
    }
}
