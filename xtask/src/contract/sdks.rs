//! The generated code of the SDKs.
//!
//! ```text
//! proto/ ── buf ──┬── protoc-gen-es ───────────────▶ sdk/typescript/src/gen
//!                 └── plain descriptors ─ protoc ─┬▶ sdk/python/src/tailrace/*/v1
//!                                                 └▶ sdk/go/gen
//! proto/ ── protox, tonic-prost-build ─────────────▶ sdk/rust/src/generated
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{buf, descriptors};
use crate::artefacts::programs;
use crate::native::child::Launch;
use crate::toolchains::{PROTOC_GEN_GO, PROTOC_GEN_GO_GRPC, python_packages};
use crate::workspace;

const GENERATE_TIMEOUT: Duration = Duration::from_secs(120);
const BUILD_TIMEOUT: Duration = Duration::from_secs(1800);
const PYTHON: &str = "sdk/python/src";
const GO: &str = "sdk/go";
const GO_MODULE: &str = "github.com/tailrace/tailrace/sdk/go";
const RUST: &str = "sdk/rust/src/generated";

/// Where generated code stands, and nothing else.
///
/// # Errors
///
/// When a folder cannot be read.
pub fn folders() -> Result<Vec<PathBuf>> {
    let root = workspace::root();
    let mut folders = python_folders()?;
    folders.extend(["sdk/typescript/src/gen", "sdk/go/gen", RUST].map(|folder| root.join(folder)));
    Ok(folders)
}

/// Generates the code of all four.
///
/// # Errors
///
/// When a generator is missing or fails.
pub fn generate(whole: &Value) -> Result<()> {
    buf(&["generate"]).run(GENERATE_TIMEOUT)?;
    let plain = descriptors::plain(whole)?;
    let files = descriptors::own_files(whole);
    python(&plain, &files)?;
    go(&plain, &files)?;
    rust()
}

/// The folders of the packages, beside the modules that are written by hand.
fn python_folders() -> Result<Vec<PathBuf>> {
    let package = workspace::root().join(PYTHON).join("tailrace");
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(&package).with_context(|| format!("cannot read {}", package.display()))? {
        let path = entry?.path();
        if path.join("v1").is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

fn python(plain: &Path, files: &[String]) -> Result<()> {
    for folder in python_folders()? {
        std::fs::remove_dir_all(&folder)?;
    }
    let programs = python_packages()?.join("bin");
    let plugin = |name: &str| format!("--plugin={}", programs.join(name).display());
    let out = workspace::root().join(PYTHON).display().to_string();
    protoc(plain)?
        .args([plugin("protoc-gen-mypy"), format!("--python_out={out}"), format!("--mypy_out=quiet:{out}")])
        .args(files)
        .run(GENERATE_TIMEOUT)?;
    // A file without a service would get an empty module.
    let services = files.iter().filter(|file| file.ends_with("_service.proto"));
    protoc(plain)?
        .args([plugin("protoc-gen-mypy_grpc"), format!("--grpc_python_out={out}")])
        .arg(format!("--mypy_grpc_out=quiet:{out}"))
        .args(services)
        .run(GENERATE_TIMEOUT)
}

fn go(plain: &Path, files: &[String]) -> Result<()> {
    let root = workspace::root().join(GO);
    let _ = std::fs::remove_dir_all(root.join("gen"));
    let mut protoc = protoc(plain)?;
    for (program, option) in [(PROTOC_GEN_GO, "go"), (PROTOC_GEN_GO_GRPC, "go-grpc")] {
        protoc = protoc
            .arg(format!("--plugin={}", program.path()?.display()))
            .arg(format!("--{option}_out={}", root.display()))
            .arg(format!("--{option}_opt=module={GO_MODULE}"))
            .args(files.iter().filter_map(|file| {
                // tailrace/user/v1/user.proto is package userv1 in gen/user/v1.
                let package = file.split('/').nth(1)?;
                Some(format!("--{option}_opt=M{file}={GO_MODULE}/gen/{package}/v1;{package}v1"))
            }));
    }
    protoc.args(files).run(GENERATE_TIMEOUT)
}

/// The compiler that comes with the Python packages.
pub(super) fn protoc(plain: &Path) -> Result<Launch> {
    Ok(Launch::on_terminal("protoc", "python3")
        .env("PYTHONPATH", python_packages()?.display().to_string())
        .args(["-m", "grpc_tools.protoc"])
        .arg(format!("--descriptor_set_in={}", plain.display())))
}

fn rust() -> Result<()> {
    Launch::on_terminal("cargo build", "cargo")
        .within(workspace::root())
        .args(["build", "--workspace", "--bin", "tailrace-codegen", "--locked", "--quiet"])
        .run(BUILD_TIMEOUT)?;
    Launch::on_terminal("tailrace-codegen", programs()?.join("tailrace-codegen"))
        .arg(workspace::root().join(RUST).display().to_string())
        .run(GENERATE_TIMEOUT)
}
