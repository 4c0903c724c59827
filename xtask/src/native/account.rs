//! The account that Postgres runs as. It refuses root, so root hands it to the account `postgres`, else `nobody`;
//! anybody else runs it as themselves.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

/// An account to drop to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name, for messages.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Account {
    /// The account to start Postgres as: `None` is our own, which will do unless it is root's.
    ///
    /// # Errors
    ///
    /// When we are root and the system has neither `postgres` nor `nobody`.
    pub fn for_postgres() -> Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let accounts = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let found = ["postgres", "nobody"].iter().find_map(|name| Self::parse(&accounts, name));
        match found {
            Some(account) => Ok(Some(account)),
            None => bail!("Postgres refuses root and there is no account for it: adduser --system postgres"),
        }
    }

    /// Makes a folder that belongs to the account, and sees that the account reaches it.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or a folder above it is closed to the account.
    pub fn own(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        chown(folder, Some(self.uid), Some(self.gid))
            .with_context(|| format!("cannot give {} to {}", folder.display(), self.name))?;
        match self.barrier(folder) {
            None => Ok(()),
            Some(closed) => bail!(
                "Postgres refuses root, and the account {} cannot pass {closed}: chmod o+x {closed}, or use another folder",
                self.name,
                closed = closed.display(),
            ),
        }
    }

    /// The first folder above `path` that the account may not pass.
    pub fn barrier(&self, path: &Path) -> Option<PathBuf> {
        let reaches = |path: &Path| {
            let ids = [format!("--reuid={}", self.uid), format!("--regid={}", self.gid)];
            let test = Command::new("setpriv")
                .args(ids)
                .args(["--clear-groups", "--", "test", "-x"])
                .arg(path)
                .status();
            test.is_ok_and(|status| status.success())
        };
        if reaches(path) {
            return None;
        }
        let mut above: Vec<_> = path.ancestors().skip(1).collect();
        above.reverse();
        above.into_iter().find(|folder| !reaches(folder)).map(Path::to_owned)
    }

    /// `path`, or a place for the same under `/var/lib/tailrace` when the account cannot reach it: the home of root is
    /// closed to everybody else.
    ///
    /// # Errors
    ///
    /// When the folder above `path` cannot be made.
    pub fn within_reach(&self, path: &Path) -> Result<PathBuf> {
        let above = path.parent().unwrap_or(path);
        std::fs::create_dir_all(above).with_context(|| format!("cannot make {}", above.display()))?;
        if self.barrier(above).is_none() {
            return Ok(path.to_owned());
        }
        let name = path.display().to_string().trim_start_matches('/').replace('/', "-");
        Ok(Path::new("/var/lib/tailrace").join(name))
    }

    fn parse(accounts: &str, name: &str) -> Option<Self> {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(str::parse);
        Some(Self { name: name.to_owned(), uid: fields.next()?.ok()?, gid: fields.next()?.ok()? })
    }
}

/// Lets every account pass a folder that we own, so that Postgres reaches what is inside.
pub(crate) fn let_pass(folder: &Path) -> Result<()> {
    let mode =
        std::fs::metadata(folder).with_context(|| format!("cannot read {}", folder.display()))?.permissions();
    let open = std::fs::Permissions::from_mode(mode.mode() | 0o011);
    std::fs::set_permissions(folder, open).with_context(|| format!("cannot open {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts =
            "postgresql:x:1:2::/:/bin/sh\npostgres:x:101:104:admin:/var/lib/postgresql:/bin/bash\n";
        let account = Account::parse(accounts, "postgres").unwrap();
        assert_eq!((account.uid, account.gid), (101, 104));
        assert_eq!(Account::parse(accounts, "nobody"), None);
    }
}
