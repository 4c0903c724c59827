//! The lines that the README tells its readers to type work as they stand.
//!
//! A fenced block with the info string `sh grpcurl` is one script, run by `bash -eu` with `grpcurl` in the path. Only the
//! ports are those of the system under test. What a block assigns (`TOKEN=…`) the blocks after it can use, as in one
//! terminal. A block that watches must show an event.

use std::path::Path;

use tokio::task::block_in_place;
use xtask::native::Scratch;
use xtask::native::child::Launch;
use xtask::settings::Settings;
use xtask::stack::Urls;
use xtask::toolchains::GRPCURL;
use xtask::workspace;

use crate::support::system::System;
use crate::support::until;

const FENCE: &str = "```sh grpcurl";
const WATCHES: &str = "EventStreamService/Watch";
const AN_EVENT: &str = "\"event\": {";

#[tokio::test(flavor = "multi_thread")]
async fn every_grpcurl_line_of_the_readme_works_as_printed() {
    let readme = std::fs::read_to_string(workspace::root().join("README.md")).expect("README.md");
    let blocks = blocks(&readme);
    assert!(blocks.iter().any(|block| block.contains("grpcurl ")), "the README shows no grpcurl line");
    let system = System::shared().await;
    let folder = Scratch::new().expect("a folder");
    let mut assignments = String::new();
    for block in blocks {
        let block = with_ports(&block, system.stack.urls());
        run(&format!("{assignments}{block}"), folder.path()).await;
        for line in block.lines().filter(|line| is_assignment(line)) {
            assignments.push_str(line);
            assignments.push('\n');
        }
    }
}

fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while lines.any(|line| line.trim_end() == FENCE) {
        let block: Vec<_> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
        blocks.push(block.join("\n") + "\n");
    }
    blocks
}

/// The default ports become those of the system.
fn with_ports(block: &str, urls: &Urls) -> String {
    let ports = [
        ("TAILRACE_USER_PORT", &urls.user),
        ("TAILRACE_ORDER_PORT", &urls.order),
        ("TAILRACE_RELAY_PORT", &urls.relay),
        ("TAILRACE_GATEWAY_PORT", &urls.gateway),
        ("TAILRACE_WEB_PORT", &urls.web),
    ];
    ports.iter().fold(block.to_owned(), |block, (name, url)| {
        let default = Settings::get().port(name).expect("a port");
        let (_, port) = url.rsplit_once(':').expect("a port in the URL");
        block.replace(&format!(":{default}"), &format!(":{port}"))
    })
}

/// Whether a line assigns to a variable on its own, all on this line.
fn is_assignment(line: &str) -> bool {
    line.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    })
}

/// Runs a block to its end.
async fn run(script: &str, folder: &Path) {
    let grpcurl = block_in_place(|| GRPCURL.path()).expect("grpcurl");
    let path = grpcurl.parent().expect("a folder").display();
    let log = folder.join("output");
    let _ = std::fs::remove_file(&log);
    let bash = Launch::new("bash", "bash", &log).within(workspace::root());
    let child = bash.args(["-eu", "-c", &format!("PATH={path}:$PATH\n{script}")]).start().expect("bash");
    let end = format!("the end of\n{script}");
    let status = until(&end, || async { child.ended() }).await;
    let output = std::fs::read_to_string(&log).expect("its output");
    assert!(status.success(), "{status}\n{script}\n{output}");
    assert!(!script.contains(WATCHES) || output.contains(AN_EVENT), "no event\n{script}\n{output}");
}
