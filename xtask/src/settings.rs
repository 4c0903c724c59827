//! The settings shared with `docker-compose.yml`: the `.env` file at the root of the work tree.
//!
//! A variable of the environment wins over the file, as it does for `docker compose`. No other module of this
//! crate reads the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};

use crate::workspace;

static SETTINGS: LazyLock<Result<Settings>> = LazyLock::new(|| {
    let path = workspace::root().join(".env");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Settings::parse(&text)
});

/// The variables of `.env`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// The settings of this work tree.
    ///
    /// # Panics
    ///
    /// When `.env` cannot be read: it is part of the work tree.
    pub fn get() -> &'static Self {
        match &*SETTINGS {
            Ok(settings) => settings,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// Reads `NAME=value` lines; an empty line and one that starts with `#` say nothing.
    ///
    /// # Errors
    ///
    /// When a line has no `=`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut values = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else {
                bail!(".env line {}: expected NAME=value", number + 1);
            };
            values.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        Ok(Self(values))
    }

    /// The value of a variable.
    ///
    /// # Errors
    ///
    /// When neither the environment nor `.env` has it.
    pub fn value(&self, name: &str) -> Result<String> {
        environment(name)
            .and_then(|value| value.into_string().ok())
            .or_else(|| self.0.get(name).cloned())
            .with_context(|| format!("{name} is not set: put it back into .env"))
    }

    /// The value of a variable that is a port.
    ///
    /// # Errors
    ///
    /// When it is not set, or not a number from 1 to 65535.
    pub fn port(&self, name: &str) -> Result<u16> {
        let value = self.value(name)?;
        match value.parse() {
            Ok(port) if port > 0 => Ok(port),
            Ok(_) | Err(_) => bail!("{name}={value} is not a port: set a number from 1 to 65535 in .env"),
        }
    }

    /// Every variable of the file, as the environment overrides it.
    pub fn all(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|(name, value)| {
            let over = environment(name).and_then(|value| value.into_string().ok());
            (name.as_str(), over.unwrap_or_else(|| value.clone()))
        })
    }
}

/// The folders of `PATH`.
pub(crate) fn path_folders() -> Vec<PathBuf> {
    environment("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// One variable of the environment.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads the environment")]
pub(crate) fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_settings_is_names_values_and_comments() {
        let settings = Settings::parse("# ports\nAN_UNLIKELY_PORT = 5001\n\nURL=a=b\n").unwrap();
        assert_eq!(settings.port("AN_UNLIKELY_PORT").unwrap(), 5001);
        assert_eq!(settings.value("URL").unwrap(), "a=b");
    }

    #[test]
    fn a_line_without_a_value_is_named() {
        let error = Settings::parse("A=1\nB\n").unwrap_err();
        assert_eq!(error.to_string(), ".env line 2: expected NAME=value");
    }

    #[test]
    fn a_port_out_of_range_tells_the_mend() {
        let settings = Settings::parse("AN_UNLIKELY_PORT=0").unwrap();
        let error = settings.port("AN_UNLIKELY_PORT").unwrap_err().to_string();
        assert_eq!(error, "AN_UNLIKELY_PORT=0 is not a port: set a number from 1 to 65535 in .env");
    }

    #[test]
    fn the_work_tree_has_every_port() {
        for (name, value) in Settings::get().all().filter(|(name, _)| name.ends_with("_PORT")) {
            assert!(Settings::get().port(name).is_ok(), "{name}={value}");
        }
    }
}
