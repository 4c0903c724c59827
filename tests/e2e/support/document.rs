//! The lines that a document tells its readers to type, and what it says they will see.
//!
//! A fenced block with the info string `sh grpcurl` is one script, run by `bash -eu` with `grpcurl` in the path; `exit=N` after it
//! says that it fails with that code. Only the ports are those of the system under test. What a block assigns (`TOKEN=…`) the blocks
//! after it can use, as in one terminal. A block `json output` or `text output` after it is what it prints; there, `…` stands
//! for what is different each time, and alone on a line for any lines.

use std::path::Path;

use tokio::task::block_in_place;
use xtask::native::Scratch;
use xtask::native::child::Launch;
use xtask::settings::Settings;
use xtask::stack::{Stack, Urls};
use xtask::toolchains::GRPCURL;
use xtask::workspace;

use super::until;

const SCRIPT: &str = "```sh grpcurl";
const OUTPUTS: [&str; 2] = ["```json output", "```text output"];
const ANYTHING: &str = "…";

/// One script of a document.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) script: String,
    exit: i32,
    output: Option<String>,
}

/// The scripts of a document, in order.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut body =
            || lines.by_ref().take_while(|line| !line.starts_with("```")).collect::<Vec<_>>().join("\n");
        if let Some(options) = line.strip_prefix(SCRIPT) {
            let exit =
                options.trim().strip_prefix("exit=").map_or(0, |exit| exit.parse().expect("an exit code"));
            blocks.push(Block { script: body() + "\n", exit, output: None });
        } else if OUTPUTS.contains(&line) {
            let block = blocks.last_mut().filter(|block| block.output.is_none());
            block.expect("an output follows a script").output = Some(body());
        }
    }
    blocks
}

/// Runs every script of a document, and compares what it prints.
pub(crate) async fn run(path: &str, stack: &Stack) -> Vec<String> {
    let document = std::fs::read_to_string(workspace::root().join(path)).expect(path);
    let blocks = blocks(&document);
    assert!(blocks.iter().any(|block| block.script.contains("grpcurl ")), "{path} shows no grpcurl line");
    let folder = Scratch::new().expect("a folder");
    let (mut outputs, mut problems) = (Vec::new(), Vec::new());
    for block in &blocks {
        let script = with_ports(&block.script, stack.urls());
        let output = execute(&script, block.exit, folder.path(), stack).await;
        let expected = block.output.as_ref().map(|expected| with_ports(expected, stack.urls()));
        if let Some(expected) = expected.filter(|expected| !matches(expected, &output)) {
            problems.push(format!("shown is\n{expected}\nbut\n{script}prints\n{output}"));
        }
        outputs.push(output);
    }
    assert!(problems.is_empty(), "{path}:\n{}", problems.join("\n"));
    outputs
}

/// The default ports become those of the system.
pub(crate) fn with_ports(text: &str, urls: &Urls) -> String {
    let ports = [
        ("TAILRACE_USER_PORT", &urls.user),
        ("TAILRACE_ORDER_PORT", &urls.order),
        ("TAILRACE_RELAY_PORT", &urls.relay),
        ("TAILRACE_GATEWAY_PORT", &urls.gateway),
        ("TAILRACE_WEB_PORT", &urls.web),
    ];
    ports.iter().fold(text.to_owned(), |text, (name, url)| {
        let default = Settings::get().port(name).expect("a port");
        let (_, port) = url.rsplit_once(':').expect("a port in the URL");
        text.replace(&format!(":{default}"), &format!(":{port}"))
    })
}

/// Runs a script to its end, and keeps what it assigned for the next.
async fn execute(script: &str, exit: i32, folder: &Path, stack: &Stack) -> String {
    let grpcurl = block_in_place(|| GRPCURL.path()).expect("grpcurl");
    let path = grpcurl.parent().expect("a folder").display();
    let (variables, log) = (folder.join("variables"), folder.join("output"));
    let _ = std::fs::remove_file(&log);
    let known = variables.display();
    let names = script.lines().filter_map(assigned).collect::<Vec<_>>().join(" ");
    let keep = if names.is_empty() { String::new() } else { format!("declare -p {names} >> '{known}'\n") };
    let bash = Launch::new("bash", "bash", &log)
        .within(workspace::root())
        .env("TAILRACE_DIR", stack.dir().display().to_string());
    let whole = format!("PATH={path}:$PATH\ntouch '{known}'\nsource '{known}'\n{script}{keep}");
    let child = bash.args(["-eu", "-c", &whole]).start().expect("bash");
    let status = until(&format!("the end of\n{script}"), || async { child.ended() }).await;
    let output = std::fs::read_to_string(&log).expect("its output");
    assert_eq!(status.code(), Some(exit), "{script}\n{output}");
    output
}

/// The variable that a line assigns to on its own, all on this line.
fn assigned(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('=')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    is_name.then_some(name)
}

/// Whether an output is what a document shows.
fn matches(shown: &str, output: &str) -> bool {
    let (shown, output): (Vec<_>, Vec<_>) = (shown.trim().lines().collect(), output.trim().lines().collect());
    lines_match(&shown, &output)
}

fn lines_match(shown: &[&str], output: &[&str]) -> bool {
    let Some((first, rest)) = shown.split_first() else { return output.is_empty() };
    if first.trim() == ANYTHING {
        return (0..=output.len()).any(|skipped| lines_match(rest, &output[skipped..]));
    }
    output
        .split_first()
        .is_some_and(|(line, following)| line_matches(first, line) && lines_match(rest, following))
}

fn line_matches(shown: &str, line: &str) -> bool {
    let mut parts = shown.trim_end().split(ANYTHING);
    let Some(mut rest) = parts.next().and_then(|first| line.trim_end().strip_prefix(first)) else {
        return false;
    };
    let mut is_open = false;
    for part in parts {
        is_open = part.is_empty();
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    is_open || rest.is_empty()
}

#[test]
fn a_document_is_scripts_with_exit_codes_and_outputs() {
    let text = "# Title\n```sh grpcurl exit=74\ngrpcurl a\n```\ntext\n```json output\n{\n  \"a\": \"…\"\n}\n```\n```sh\nnot this\n```\n";
    let output = Some("{\n  \"a\": \"…\"\n}".to_owned());
    assert_eq!(blocks(text), [Block { script: "grpcurl a\n".to_owned(), exit: 74, output }]);
}

#[test]
fn three_dots_stand_for_what_is_different_each_time() {
    assert!(matches(
        "{\n  \"name\": \"orders/…\",\n…\n}\n",
        "{\n  \"name\": \"orders/1\",\n  \"a\": 1,\n  \"b\": 2\n}\n"
    ));
    assert!(matches("\"a…c…\"", "\"abcd\""));
    assert!(!matches("\"a…\",", "\"abcd\""));
    assert!(!matches("{\n}", "{\n  \"a\": 1\n}"));
    assert!(!matches("{\n…\n\"b\"\n}", "{\n\"a\"\n}"));
}
