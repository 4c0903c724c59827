//! Where things are in the work tree. Everything the runner writes stands under `.tailrace/`, which git ignores.

use std::path::{Path, PathBuf};

/// The root of the work tree this crate was built from.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ stands inside the work tree")
}

/// The runner's own folder: data, logs and state of `cargo xtask up`.
pub fn data() -> PathBuf {
    root().join(".tailrace")
}

/// Downloads, shared by every run: the broker's jars, Postgres when the system has none, tools.
pub fn cache() -> PathBuf {
    data().join("cache")
}
