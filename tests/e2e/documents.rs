//! The lines that the documents tell their readers to type work as they stand, and print what is shown.

use xtask::stack::state::State;

use crate::support::document;
use crate::support::system::System;

const WATCHES: &str = "EventStreamService/Watch";
const AN_EVENT: &str = "\"event\": {";

#[tokio::test(flavor = "multi_thread")]
async fn every_grpcurl_line_of_the_readme_works_as_printed() {
    let system = System::shared().await;
    let outputs = document::run("README.md", &system.stack).await;
    assert!(outputs.iter().any(|output| output.contains(AN_EVENT)), "no event is seen: {WATCHES}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_the_grpcurl_tour_works_as_printed() {
    // For `cargo xtask token`, which looks for a running stack by its state.
    let system = System::shared().await;
    State::of(&system.stack).and_then(|state| state.save(system.stack.dir())).expect("its state");
    document::run("docs/grpcurl.md", &system.stack).await;
}
