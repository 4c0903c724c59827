//! The contract in `proto/`, as buf reads it, and what is made of it.

pub mod descriptors;
pub mod reference;
pub mod schemas;
pub mod sdks;

use std::path::PathBuf;

use anyhow::Result;

use crate::native::child::Launch;
use crate::workspace;

/// Where what lies between two programs is kept.
pub(crate) fn scratch() -> Result<PathBuf> {
    let folder = workspace::cache().join("contract");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The program `buf`, at the root of the work tree.
pub(crate) fn buf(arguments: &[&str]) -> Launch {
    let program = workspace::root().join("sdk/typescript/node_modules/.bin/buf");
    Launch::on_terminal("buf", program).within(workspace::root()).args(arguments.iter().copied())
}
