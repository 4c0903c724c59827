//! The page in a real browser against the whole system: `npm run e2e` of `web/`, which keeps its screenshots there.

use std::process::Stdio;

use tokio::process::Command;
use xtask::workspace;

use crate::support::system::System;

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_creates_and_watches_in_both_themes() {
    let system = System::shared().await;
    let (email, password) = system.stack.demo_account().expect("the demo account");
    let output = Command::new("npm")
        .args(["run", "--silent", "e2e"])
        .current_dir(workspace::root().join("web"))
        .env("TAILRACE_WEB_URL", &system.stack.urls().web)
        .env("TAILRACE_DEMO_EMAIL", email)
        .env("TAILRACE_DEMO_PASSWORD", password)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("npm");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}{err}", output.status);
    println!("{out}");
}
