//! One stack per folder: a file locked by the process that runs it, with its process id inside.
//! The kernel lets go of it however that process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The lock of a folder, held until this is dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

impl Lock {
    /// Takes the lock.
    ///
    /// # Errors
    ///
    /// When another process holds it; it is named.
    pub fn take(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut file = open(dir)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)
                    .and_then(|()| write!(file, "{}", std::process::id()))
                    .context("cannot write the lock")?;
                Ok(Self(file))
            }
            Err(TryLockError::WouldBlock) => bail!(
                "Tailrace already runs from {} (process {}): see `cargo xtask status`, end it with `cargo xtask down`",
                dir.display(),
                read(&mut file).map_or_else(|| "unknown".into(), |pid| pid.to_string()),
            ),
            Err(TryLockError::Error(error)) => Err(error).context("cannot lock the data folder"),
        }
    }

    /// The process that holds the lock of a folder.
    pub fn holder(dir: &Path) -> Option<u32> {
        let mut file = File::open(dir.join("lock")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => read(&mut file),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }
}

fn open(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let options = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    options.with_context(|| format!("cannot write {}", path.display()))
}

fn read(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut text)).ok()?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::Scratch;

    #[test]
    fn a_second_stack_in_the_folder_is_told_of_the_first() {
        let scratch = Scratch::new().unwrap();
        assert_eq!(Lock::holder(scratch.path()), None);
        let first = Lock::take(scratch.path()).unwrap();
        let error = Lock::take(scratch.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
        assert_eq!(Lock::holder(scratch.path()), Some(std::process::id()));
        drop(first);
        assert_eq!(Lock::holder(scratch.path()), None);
    }
}
