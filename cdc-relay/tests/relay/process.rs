//! The relay as a process: help, probe, exit codes, logs, and an orderly end.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::{Servers, check_exactly_once, relay_command};

#[test]
fn help_names_every_setting_with_its_variable_and_default() {
    let output = relay_command(Path::new("none")).arg("--help").output().expect("the relay's binary");
    let text = String::from_utf8(output.stdout).expect("text");
    for words in [
        "TAILRACE_RELAY_CONFIG",
        "TAILRACE_LISTEN",
        "127.0.0.1:5003",
        "TAILRACE_OPS_LISTEN",
        "127.0.0.1:9103",
        "TAILRACE_LOG",
        "TAILRACE_DRAIN_TIMEOUT",
        "TAILRACE_AUTH_KEYS_URL",
        "Exit codes",
        "init",
        "probe",
    ] {
        assert!(text.contains(words), "--help does not name {words}:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_whether_the_relay_is_ready() {
    assert_eq!(probe("127.0.0.1:1"), Some(1));
    let source = Servers::shared().await.source().await;
    let relay = source.relay();
    relay.not_ready_because("run `cdc-relay init`").await;
    assert_eq!(probe(&relay.ops().to_string()), Some(1));
    assert!(source.init().status.success());
    relay.ready().await;
    assert_eq!(probe(&relay.ops().to_string()), Some(0));
}

fn probe(ops: &str) -> Option<i32> {
    let mut command = relay_command(Path::new("none"));
    command.args(["--ops-listen", ops, "probe"]).output().expect("the relay's binary").status.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_told_to_stop_drains_and_the_next_one_repeats_nothing() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let mut relay = source.running().await;
    source.write((1..=2_000).map(|version| ("a", version))).await;
    source.write([("b", 1)]).await;
    source.published(&source.topic(), 1).await;
    assert_eq!(relay.stop(), Some(0));
    for line in relay.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    let relay = source.relay();
    relay.ready().await;
    source.write([("a", 2_001)]).await;
    let expected = BTreeMap::from([("a".to_owned(), 2_001), ("b".to_owned(), 1)]);
    check_exactly_once(&source.published(&source.topic(), 2_002).await, &expected);
    relay.measures("tailrace_relay_delivered_lsn").await;
    relay.measures("tailrace_relay_ack_invariant_violations_total{source=\"").await;
}
