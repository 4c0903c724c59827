//! The page in headless Chromium, driven by `page.mjs`, which notes when each row appears.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use xtask::workspace;

/// What a step of the page may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// A row as `page.mjs` tells of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// `topic/partition/offset`.
    key: String,
    seen_ms: f64,
}

/// A signed-in page that watches.
pub(super) struct Page {
    child: Child,
    /// Closing it asks for the rows.
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Page {
    /// Opens the page, signs in with the demo account and waits until it is live.
    pub(super) async fn open(url: &str) -> Result<Self> {
        let mut child = Command::new("node")
            .arg(workspace::root().join("xtask/bench/page.mjs"))
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start node")?;
        let stdin = child.stdin.take().context("node has no standard input")?;
        let stdout = child.stdout.take().context("node has no standard output")?;
        let mut page = Self { child, stdin, lines: BufReader::new(stdout).lines() };
        let line = page.line().await?;
        ensure!(line == "live", "the page is not live: {line}");
        Ok(page)
    }

    /// Closes the page; answers when the row of each event, `topic/partition/offset`, was first seen, in seconds since
    /// 1970.
    pub(super) async fn close(mut self) -> Result<HashMap<String, f64>> {
        drop(self.stdin);
        let line =
            timeout(STEP_TIMEOUT, self.lines.next_line()).await.context("the page does not close")??;
        let rows: Vec<Row> = serde_json::from_str(&line.context("the page told nothing")?)?;
        let _ = timeout(STEP_TIMEOUT, self.child.wait()).await;
        Ok(rows.into_iter().map(|row| (row.key, row.seen_ms / 1e3)).collect())
    }

    async fn line(&mut self) -> Result<String> {
        match timeout(STEP_TIMEOUT, self.lines.next_line()).await.context("the page does not get ready")?? {
            Some(line) => Ok(line),
            None => bail!(
                "the browser ended; the reason is above (is Chromium installed, is `npm ci` done in web/?)"
            ),
        }
    }
}
