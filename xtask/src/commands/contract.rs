//! `cargo xtask contract`: what a release says of the contract, as files, and what a later contract is held against.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::artefacts::npm_install;
use crate::contract::{buf, scratch};
use crate::native::child::Launch;
use crate::progress::Progress;
use crate::workspace;

/// The contract of the last release.
const RELEASED: &str = "proto/released.binpb";
/// What counts as breaking, in our own packages: what breaks generated code, the wire, or JSON.
const RULES: &str = r#"{"version": "v1", "breaking": {"use": ["FILE"], "ignore": ["google", "buf"]}}"#;
const TIMEOUT: Duration = Duration::from_secs(120);

/// The options of `contract`.
#[derive(Debug, Args)]
pub struct Options {
    /// Where `tailrace.protoset` and `tailrace-proto.tar.gz` are written.
    #[arg(long, value_name = "FOLDER", default_value_os_t = workspace::root().join("target/contract"))]
    out: PathBuf,

    /// Make the contract of now the released one, which later ones must not break: for the commit that is tagged.
    #[arg(long)]
    release: bool,
}

/// Writes the files of a release.
///
/// # Errors
///
/// When the contract breaks the released one, or a file cannot be written.
pub fn run(options: &Options) -> Result<ExitCode> {
    npm_install(&workspace::root().join("sdk/typescript"), Progress::on_terminal())?;
    check()?;
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    let protoset = options.out.join("tailrace.protoset").display().to_string();
    buf(&["build", "--as-file-descriptor-set", "-o", &protoset]).run(TIMEOUT)?;
    println!("{protoset}");
    let archive = options.out.join("tailrace-proto.tar.gz").display().to_string();
    // The same files make the same bytes.
    let same =
        ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--mode=u=rwX,go=rX"];
    Launch::on_terminal("tar", "tar")
        .within(workspace::root())
        .args(same)
        .args([
            "--exclude=*.rs",
            "--exclude=*.binpb",
            "-I",
            "gzip -n",
            "-cf",
            &archive,
            "buf.yaml",
            "LICENSE",
            "proto",
        ])
        .run(TIMEOUT)?;
    println!("{archive}");
    if options.release {
        let released = workspace::root().join(RELEASED).display().to_string();
        buf(&["build", "--exclude-source-info", "-o", &released]).run(TIMEOUT)?;
        println!("{released}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails when a client of the released contract would not work with this one.
///
/// # Errors
///
/// What is broken, a line each.
pub fn check() -> Result<()> {
    // As one image: buf compares module with module, and a released image is none.
    let now = scratch()?.join("now.binpb").display().to_string();
    buf(&["build", "-o", &now]).run(TIMEOUT)?;
    buf(&["breaking", &now, "--against", RELEASED, "--config", RULES])
        .run(TIMEOUT)
        .context("what is published is only added to")
}
