//! Files in the data folder of a Postgres.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

/// Writes a file of the server's, as private as it demands of its key.
pub(crate) fn put(data: &Path, name: &str, text: &str) {
    let path = data.join(name);
    std::fs::write(&path, text).expect("a file of the server's");
    let owner = data.metadata().expect("the server's folder");
    chown(&path, Some(owner.uid()), Some(owner.gid())).expect("its owner");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its permissions");
}
