//! `tailrace-codegen FOLDER`: writes the generated code of the Rust client there, in place of what was there.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

/// Where the build script put it.
const GENERATED: &str = concat!(env!("OUT_DIR"), "/client");

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("usage: tailrace-codegen FOLDER");
        return ExitCode::FAILURE;
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(GENERATED)? {
        let entry = entry?;
        fs::copy(entry.path(), folder.join(entry.file_name()))?;
    }
    Ok(())
}
