//! The clients against the whole system: the quick start of each README as it stands, and the same story in each language: lists by
//! pages, readable failures, a sign-in that goes on, and orders placed and seen exactly once over links that break.

mod rust;

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio::task::block_in_place;
use xtask::native::Scratch;
use xtask::stack::Urls;
use xtask::toolchains::python_packages;
use xtask::{artefacts, workspace};

use crate::support::document::with_ports;
use crate::support::link::BreakingLink;
use crate::support::system::System;

const AN_ORDER: &str = "orders.created.v1 orders/";

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_client_does_what_its_readme_shows() {
    let system = System::shared().await;
    let folder = workspace::root().join("sdk/typescript");
    run(Command::new("npm").args(["run", "--silent", "build"]).current_dir(&folder)).await;
    // Inside the package, so that it finds itself by its name.
    let program = folder.join("dist/quickstart.mjs");
    write(&program, &quick_start("typescript", "ts", system.stack.urls()));
    shows_an_order(Command::new("node").arg(&program).current_dir(&folder)).await;
    live(system, Command::new("npm").args(["run", "--silent", "test:live"]).current_dir(&folder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_does_what_its_readme_shows() {
    let system = System::shared().await;
    let folder = workspace::root().join("sdk/python");
    let packages = block_in_place(python_packages).expect("the packages");
    let path = format!("{}:{}", packages.display(), folder.join("src").display());
    let scratch = Scratch::new().expect("a folder");
    let program = scratch.path().join("quickstart.py");
    write(&program, &quick_start("python", "python", system.stack.urls()));
    shows_an_order(Command::new("python3").arg(&program).env("PYTHONPATH", &path)).await;
    let mut tests = Command::new("python3");
    tests.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", "live"]);
    live(system, tests.env("PYTHONPATH", &path).current_dir(&folder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_client_does_what_its_readme_shows() {
    let system = System::shared().await;
    let folder = workspace::root().join("sdk/go");
    let scratch = Scratch::new().expect("a folder");
    let program = scratch.path().join("quickstart.go");
    let lines = quick_start("go", "go", system.stack.urls());
    write(&program, &format!("{GO_HEAD}\nfunc main() {{\n{lines}}}\n"));
    shows_an_order(Command::new("go").arg("run").arg(&program).current_dir(&folder)).await;
    let tests = ["test", "-count=1", "-tags", "live", "./live"];
    live(system, Command::new("go").args(tests).current_dir(&folder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client_does_what_its_readme_shows() {
    let system = System::shared().await;
    let urls = system.stack.urls();
    let program = artefacts::programs().expect("the programs").join("tailrace-quickstart");
    let addresses = [&urls.user, &urls.order, &urls.relay, &urls.gateway];
    shows_an_order(Command::new(program).args(addresses)).await;
}

/// What the Go quick start leaves out: imports, and what it does with an error.
const GO_HEAD: &str = r#"package main

import (
	"context"
	"fmt"

	"google.golang.org/genproto/googleapis/type/money"

	tailrace "github.com/tailrace/tailrace/sdk/go"
	orderv1 "github.com/tailrace/tailrace/sdk/go/gen/order/v1"
	streamv1 "github.com/tailrace/tailrace/sdk/go/gen/stream/v1"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}
"#;

/// The lines of a README's quick start, with the addresses of the system.
fn quick_start(language: &str, fence: &str, urls: &Urls) -> String {
    let readme = workspace::root().join("sdk").join(language).join("README.md");
    let text = std::fs::read_to_string(&readme).expect("a README");
    let (_, rest) = text.split_once(&format!("```{fence} quickstart\n")).expect("a quick start");
    let (lines, _) = rest.split_once("```").expect("its end");
    with_ports(lines, urls)
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file that can be written");
}

async fn shows_an_order(program: &mut Command) {
    let output = run(program).await;
    assert!(output.contains(AN_ORDER), "no order is seen:\n{output}");
}

/// Runs the tests of a client that need a system.
async fn live(system: &System, tests: &mut Command) {
    let urls = system.stack.urls();
    let (orders, gateway) = (BreakingLink::to(&urls.order).await, BreakingLink::to(&urls.gateway).await);
    let variables = [
        ("TAILRACE_USERS_URL", urls.user.as_str()),
        ("TAILRACE_ORDERS_URL", &urls.order),
        ("TAILRACE_RELAY_URL", &urls.relay),
        ("TAILRACE_GATEWAY_URL", &urls.gateway),
        ("TAILRACE_CUT_ORDERS_URL", orders.url()),
        ("TAILRACE_CUT_GATEWAY_URL", gateway.url()),
    ];
    run(tests.envs(variables)).await;
}

/// What a program prints, when it ends well.
async fn run(command: &mut Command) -> String {
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.expect("the program can be started");
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}
