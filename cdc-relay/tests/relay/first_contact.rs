//! `cdc-relay init`: repeatable, resumable, and never taking over what does not belong together.

use std::process::Output;

use crate::support::{Servers, Source};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn check_refused(source: &Source<'_>, words: &str) {
    let output = source.init();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(words), "{text:?} does not say {words:?}");
    assert_eq!(text.trim_end().lines().count(), 1, "one line: {text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_may_be_repeated() {
    let source = Servers::shared().await.source().await;
    assert!(source.init().status.success());
    let confirmed = source.confirmed().await;
    assert!(source.init().status.success());
    assert_eq!(source.confirmed().await, confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_nobody_recorded_is_not_taken_over() {
    let source = Servers::shared().await.source().await;
    let sql = "select pg_create_logical_replication_slot($1, 'pgoutput')";
    source.client.execute(sql, &[&source.slot()]).await.expect("a slot");
    check_refused(&source, "holds no position");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_whose_slot_is_gone_is_not_papered_over_with_a_new_slot() {
    let source = Servers::shared().await.source().await;
    assert!(source.init().status.success());
    source.client.execute("select pg_drop_replication_slot($1)", &[&source.slot()]).await.expect("the slot");
    check_refused(&source, "is gone");
    source.relay().not_ready_because("is gone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_before_init_waits_for_it_and_goes_on_by_itself() {
    let source = Servers::shared().await.source().await;
    let relay = source.relay();
    relay.not_ready_because("run `cdc-relay init`").await;
    assert!(source.init().status.success());
    relay.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_went_forward_without_the_relay_is_a_gap_and_stops_it() {
    let source = Servers::shared().await.source().await;
    let mut relay = source.running().await;
    source.write([("a", 1)]).await;
    assert_eq!(source.published(&source.topic(), 1).await.len(), 1);
    assert_eq!(relay.stop(), Some(0));
    source.write([("a", 2)]).await;
    let sql = "select pg_replication_slot_advance($1, pg_current_wal_lsn())";
    source.client.execute(sql, &[&source.slot()]).await.expect("the slot moves");
    source.relay().not_ready_because("went forward without the relay").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_prepared_is_told_the_sql_that_mends_it() {
    let source = Servers::shared().await.source().await;
    source.client.batch_execute("drop publication tailrace_outbox").await.expect("the publication");
    check_refused(&source, "CREATE PUBLICATION tailrace_outbox FOR TABLE public.outbox");
    source.client.batch_execute("create publication tailrace_outbox").await.expect("an empty one");
    check_refused(&source, "ALTER PUBLICATION tailrace_outbox ADD TABLE public.outbox");
}
