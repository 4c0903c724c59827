//! `cargo xtask generate`: everything that is made of the contract and kept in the work tree.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::artefacts::{fingerprint, npm_install};
use crate::contract::{descriptors, reference, schemas, sdks};
use crate::progress::Progress;
use crate::workspace;

/// The options of `generate`.
#[derive(Debug, Args)]
pub struct Options {
    /// Fail when something was not what the contract says. It is afterwards.
    #[arg(long)]
    check: bool,
}

/// Generates.
///
/// # Errors
///
/// When a generator is missing or fails.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.check {
        check()?
    } else {
        generate()?
    }
    Ok(ExitCode::SUCCESS)
}

/// Generates, and fails when that changed something.
///
/// # Errors
///
/// When a generator fails, or what was not fresh.
pub fn check() -> Result<()> {
    let before = state()?;
    generate()?;
    let after = state()?;
    let root = workspace::root();
    let stale: Vec<_> = (before.keys().chain(after.keys()))
        .filter(|folder| before.get(*folder) != after.get(*folder))
        .map(|folder| folder.strip_prefix(root).unwrap_or(folder).display().to_string())
        .collect();
    if !stale.is_empty() {
        bail!(
            "not what proto/ says until now: {} — commit what `cargo xtask generate` made",
            stale.join(", ")
        );
    }
    Ok(())
}

fn generate() -> Result<()> {
    npm_install(&workspace::root().join("sdk/typescript"), Progress::on_terminal())?;
    let whole = descriptors::json()?;
    sdks::generate(&whole)?;
    reference::generate(&whole)?;
    schemas::generate(&whole)
}

fn state() -> Result<BTreeMap<PathBuf, String>> {
    let folders = sdks::folders()?.into_iter().chain([reference::folder(), schemas::folder()]);
    let folders = folders.filter(|folder| folder.exists());
    folders.map(|folder| Ok((folder.clone(), fingerprint(&[&folder])?))).collect()
}
