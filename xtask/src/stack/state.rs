//! What a running stack tells other terminals: a file in its folder, for `status`, `logs` and `down`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::lock::Lock;
use super::{Process, Stack, process};
use crate::settings::Settings;

const FILE: &str = "state.json";

/// The state of a stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// The process that runs the stack.
    pub runner_pid: u32,
    /// What it runs.
    pub entries: Vec<Entry>,
    /// The demo account.
    pub demo_email: String,
    /// Its password.
    pub demo_password: String,
}

/// One thing that runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub url: String,
    /// Who may enter.
    pub account: String,
    /// Its process id.
    pub pid: Option<u32>,
    /// The port of `/readyz`; a server without one is healthy while its process lives.
    pub ops_port: Option<u16>,
    /// Its log.
    pub log: PathBuf,
}

impl Entry {
    /// `ready`, or why not.
    pub fn health(&self) -> String {
        let lives = self.pid.is_some_and(crate::native::child::is_alive);
        match self.ops_port.map(process::ready) {
            Some(Ok(())) => "ready".into(),
            Some(Err(reasons)) => format!("not ready: {reasons}"),
            None if lives => "running".into(),
            None => "does not run".into(),
        }
    }
}

impl State {
    /// The state of a stack that has started.
    ///
    /// # Errors
    ///
    /// When `.env` lacks the demo account.
    pub fn of(stack: &Stack) -> Result<Self> {
        let (demo_email, demo_password) = stack.demo_account()?;
        let demo = format!("{demo_email} / {demo_password}");
        let urls = stack.urls();
        let service = |name: &str, url: &str, account: &str| entry(stack.process(name), name, url, account);
        let postgres = stack.postgres();
        let password = Settings::get().value("POSTGRES_PASSWORD")?;
        let server = |name: &str, url: String, account: String, pid, log: &Path| Entry {
            name: name.into(),
            url,
            account,
            pid,
            ops_port: None,
            log: log.into(),
        };
        let kafka = stack.kafka();
        Ok(Self {
            runner_pid: std::process::id(),
            entries: vec![
                entry(stack.process("gateway"), "web page", &urls.web, &demo),
                service("user-service", &urls.user, ""),
                service("order-service", &urls.order, "token"),
                service("gateway", &urls.gateway, "token"),
                service("cdc-relay", &urls.relay, "operator's token"),
                server(
                    "postgres",
                    format!("postgres://127.0.0.1:{}", postgres.port()),
                    format!("postgres / {password}"),
                    postgres.pid(),
                    postgres.log(),
                ),
                server("kafka", kafka.bootstrap(), String::new(), kafka.pid(), &kafka.log()),
            ],
            demo_email,
            demo_password,
        })
    }

    /// Writes it into the folder of the stack.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let text = serde_json::to_string_pretty(self).context("a state is always JSON")?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The state of the stack that runs in a folder, if one does and has started.
    pub fn load(dir: &Path) -> Option<Self> {
        let runner = Lock::holder(dir)?;
        let text = std::fs::read_to_string(dir.join(FILE)).ok()?;
        let state: Self = serde_json::from_str(&text).ok()?;
        (state.runner_pid == runner).then_some(state)
    }
}

fn entry(process: &Process, name: &str, url: &str, account: &str) -> Entry {
    Entry {
        name: name.into(),
        url: url.into(),
        account: account.into(),
        pid: process.pid(),
        ops_port: process.ops_port(),
        log: process.log().into(),
    }
}
