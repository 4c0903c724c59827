//! Files with what an authority signs, as an operator puts them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// Whom the certificates of servers name.
pub(crate) const HOST: &str = "localhost";

/// A folder with files of an operator's.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Puts a file in the place of another at once.
    pub(crate) fn put(&self, name: &str, contents: &str) -> PathBuf {
        let (path, beside) = (self.path().join(name), self.path().join(format!("{name}.new")));
        fs::write(&beside, contents).expect("written");
        fs::rename(beside, &path).expect("renamed");
        path
    }
}
