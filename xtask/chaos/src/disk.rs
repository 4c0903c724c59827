//! A disk that can be full: a tmpfs under the data of a server, and a file in it that takes all the room that is left.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// More than a series of runs needs, whose topics and databases are removed after each.
const SIZE: &str = "size=1500m";
const CHUNK_BYTES: usize = 1024 * 1024;

/// A small disk of its own.
#[derive(Debug)]
pub(crate) struct Disk {
    filler: PathBuf,
}

impl Disk {
    /// Mounts one. The mount belongs to this process and its children alone, see `cargo xtask chaos`.
    pub(crate) fn mount(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(folder).status();
        if !mounted.context("cannot start mount")?.success() {
            bail!("cannot mount a tmpfs on {}", folder.display());
        }
        Ok(Self { filler: folder.join("filler") })
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut file = File::create(&self.filler).context("cannot make a file that fills the disk")?;
        let (zeros, mut size) = (vec![0; CHUNK_BYTES], CHUNK_BYTES);
        while size > 0 {
            match file.write(&zeros[..size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error).context("cannot fill the disk"),
            }
        }
        Ok(())
    }

    /// Gives the room back.
    pub(crate) fn clear(&self) -> Result<()> {
        std::fs::remove_file(&self.filler).context("cannot clear the disk")
    }
}
