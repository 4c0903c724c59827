//! `cargo xtask token`: nothing but a token on standard output, so that a shell can take it, and a reason on the other.

use std::process::Output;

use tailrace::relay::v1::ListSourcesRequest;
use tokio::process::Command;
use xtask::artefacts;
use xtask::native::Scratch;
use xtask::stack::state::State;

use crate::support::system::System;

async fn token(arguments: &[&str], folder: &std::path::Path) -> Output {
    let program = artefacts::programs().expect("the programs").join("xtask");
    let mut command = Command::new(program);
    command.arg("token").args(arguments).arg("--dir").arg(folder).kill_on_drop(true);
    command.output().await.expect("xtask")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_all_that_is_printed_and_it_works() {
    let system = System::shared().await;
    let state = State::of(&system.stack).expect("its state");
    state.save(system.stack.dir()).expect("a file");
    let output = token(&["--operator"], system.stack.dir()).await;
    let printed = String::from_utf8(output.stdout).expect("ASCII");
    assert!(output.status.success() && printed.lines().count() == 1, "{printed}");
    let operator = system.anyone().with_token(printed.trim());
    operator
        .relay
        .clone()
        .list_sources(operator.request(ListSourcesRequest::default()))
        .await
        .expect("sources");

    let output = token(&["--email", "nobody@example.com"], system.stack.dir()).await;
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot sign in"), "{output:?}");
}

#[tokio::test]
async fn without_a_stack_it_says_what_starts_one() {
    let nowhere = Scratch::new().expect("a folder");
    let output = token(&[], nowhere.path()).await;
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(reason.contains("Tailrace does not run: `cargo xtask up` starts it"), "{reason}");
}
