//! `cdc-relay init`: repeatable, resumable, and never taking over what does not belong together.

use std::process::{Child, Output, Stdio};
use std::time::Instant;

use crate::link::{At, Link, Pattern, Protocol, api};
use crate::support::{DEADLINE, Servers, Source, check_exactly_once, relay_command};
use crate::takeover::asks_for_the_lease_again;

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
    let relay = source.relay();
    relay.ready().await;
    assert!(source.init().status.success(), "a relay streams it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_waits_for_a_relay_that_tries_at_the_same_time() {
    let source = Servers::shared().await.source().await;
    let key = "hashtextextended('tailrace source ' || $1, 0)";
    let hold = format!("select pg_advisory_lock({key})");
    source.client.execute(&hold, &[&source.name]).await.expect("the lease");
    let mut init = begin_init(&source);
    for _ in 0..2 {
        asks_for_the_lease_again(&source).await;
    }
    let release = format!("select pg_advisory_unlock({key})");
    source.client.execute(&release, &[&source.name]).await.expect("the lease");
    assert!(init.wait().expect("the process").success());
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

/// What `init` asks of the servers, in its order.
fn steps(source: &Source<'_>) -> Vec<(Pattern, At)> {
    let of_ours = |api_key, skip| Pattern::kafka(api_key, format!("tailrace-{}-", source.name)).after(skip);
    let topics = Pattern::kafka(api::CREATE_TOPICS, format!("tailrace.position.{}", source.name));
    let slot = Pattern::postgres("CREATE_REPLICATION_SLOT");
    let asked = [
        topics,
        of_ours(api::INIT_PRODUCER_ID, 0),
        of_ours(api::INIT_PRODUCER_ID, 1),
        // The birth record, the slot, the position.
        of_ours(api::PRODUCE, 0),
        of_ours(api::END_TXN, 0),
        slot,
        of_ours(api::PRODUCE, 1),
        of_ours(api::END_TXN, 1),
    ];
    asked.into_iter().flat_map(|pattern| [(pattern.clone(), At::Request), (pattern, At::Answer)]).collect()
}

fn begin_init(source: &Source<'_>) -> Child {
    let mut command = relay_command(source.config());
    command.arg("init").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the relay's binary")
}

/// As someone does whose `init` was killed: the server may take a moment to notice.
fn init_at_last(source: &Source<'_>) {
    let deadline = Instant::now() + DEADLINE;
    while !source.init().status.success() {
        assert!(Instant::now() < deadline, "init does not succeed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_contact_killed_at_any_step_goes_on_where_it_was() {
    let servers = Servers::shared().await;
    let postgres = Link::to(([127, 0, 0, 1], servers.postgres.port()).into(), Protocol::Opaque);
    let ports = (format!(":{}/", servers.postgres.port()), format!(":{}/", postgres.address().port()));
    let count = steps(&servers.source().await).len();
    let (mut sources, mut all) = (Vec::new(), String::new());
    for step in 0..count {
        let source = servers.source().await;
        let direct = source.default_config();
        source.configure(&source.linked_config().replace(&ports.0, &ports.1));
        let (pattern, at) = steps(&source).swap_remove(step);
        let link = if pattern.api_key.is_some() { &*servers.link } else { &postgres };
        let trap = link.trap(pattern, at);
        let mut init = begin_init(&source);
        let held = trap.caught();
        init.kill().expect("it runs");
        init.wait().expect("it ends");
        held.cut();
        source.configure(&direct);
        init_at_last(&source);
        source.write([("a", 1)]).await;
        let (kafka, rest) = direct.split_once("[[source]]").expect("a source");
        let (this, _) = rest.split_once("[[route]]").expect("a route");
        let kafka = if all.is_empty() { kafka } else { "" };
        all.push_str(&format!("{kafka}[[source]]{this}"));
        sources.push(source);
    }
    // All of them in one relay; what was written after its `init` arrives once.
    let last = sources.last().expect("a source");
    last.configure(&format!("{all}[[route]]\nevent_type = \"thing.*\"\ntopic = \"{}\"\n", last.topic()));
    let relay = last.relay();
    relay.ready().await;
    let events = last.published(&last.topic(), count).await;
    assert_eq!(events.len(), count, "an event of each source");
    for event in events {
        check_exactly_once(&[event], &[("a".to_owned(), 1)].into());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_whose_making_was_interrupted_is_not_taken_for_a_finished_one() {
    let servers = Servers::with_own_postgres(&[]).await;
    let source = servers.source().await;
    // A slot waits for every transaction that was open when it was asked for.
    let other = servers.client("postgres").await;
    other.batch_execute("begin; select pg_current_xact_id()").await.expect("a transaction");
    let mut killed = begin_init(&source);
    let sql = "select count(*) = 1 from pg_replication_slots where confirmed_flush_lsn is null";
    let deadline = Instant::now() + DEADLINE;
    while !source.client.query_one(sql, &[]).await.expect("the slots").get::<_, bool>(0) {
        assert!(Instant::now() < deadline, "the slot is not begun");
    }
    killed.kill().expect("it runs");
    killed.wait().expect("it ends");

    let begun: jiff::Timestamp =
        source.client.query_one("select clock_timestamp()", &[]).await.expect("the time").get(0);
    let mut again = begin_init(&source);
    // It ends what the first one left, and waits in its turn.
    let sql =
        "select count(*) filter (where query like 'CREATE_REPLICATION_SLOT%') = 1 and min(backend_start) > $1
        from pg_stat_activity where usename = 'cdc_relay'";
    let deadline = Instant::now() + DEADLINE;
    while !source.client.query_one(sql, &[&begun]).await.expect("the sessions").get::<_, bool>(0) {
        assert!(again.try_wait().expect("our child").is_none(), "it made a position of an unfinished slot");
        assert!(Instant::now() < deadline, "it does not begin anew");
    }
    other.batch_execute("commit").await.expect("the transaction ends");
    let ended = tokio::task::block_in_place(|| again.wait()).expect("our child");
    assert!(ended.success());
    let relay = source.relay();
    relay.ready().await;
    source.write([("a", 1)]).await;
    check_exactly_once(&source.published(&source.topic(), 1).await, &[("a".to_owned(), 1)].into());
}
