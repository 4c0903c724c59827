//! Folders for tests: outside the work tree, open to the account Postgres runs as, gone when they are dropped.
//!
//! A server in a `static` is never dropped, so what a dead process left behind is removed by the next one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use rustix::fs::statvfs;
use rustix::process::geteuid;

use super::account::let_pass;

/// The folder that Linux keeps in memory.
const MEMORY: &str = "/dev/shm";

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A folder that is removed with everything in it when this is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty folder.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    /// Makes an empty folder that is kept in memory; `None` where there is less than `bytes` of it.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn in_memory(bytes: u64) -> Result<Option<Self>> {
        let free = statvfs(MEMORY).map_or(0, |memory| memory.f_bavail * memory.f_frsize);
        if free < bytes {
            return Ok(None);
        }
        Self::within(Path::new(MEMORY)).map(Some)
    }

    fn within(parent: &Path) -> Result<Self> {
        let home = parent.join(format!("tailrace-test-{}", geteuid().as_raw()));
        std::fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
        remove_left_behind(&home);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = home.join(format!("{}-{number}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let_pass(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes the folders of processes that are gone. Best effort: another run may be doing the same.
fn remove_left_behind(home: &Path) {
    let Ok(entries) = std::fs::read_dir(home) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('-').next()).unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_is_gone_when_it_is_dropped() {
        let scratch = Scratch::new().unwrap();
        std::fs::write(scratch.path().join("file"), "x").unwrap();
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn there_is_no_folder_in_memory_that_would_not_fit() {
        assert!(Scratch::in_memory(u64::MAX).unwrap().is_none());
        let scratch = Scratch::in_memory(1).unwrap().expect("a byte");
        assert!(scratch.path().starts_with(MEMORY), "{}", scratch.path().display());
    }
}
