//! One relay at a time works on a source.

use cdc_relay::source::{Candidate, Lease, ReplicationOptions};

use crate::support::{DEADLINE, Server, eventually, soon};

async fn try_take(options: &ReplicationOptions, source: &str) -> Option<Lease> {
    Candidate::connect(options, source).await.unwrap().try_take().await.unwrap().ok()
}

#[tokio::test]
async fn one_holds_the_lease_of_a_source_until_it_gives_it_up() {
    let database = Server::shared().await.database().await;
    let options = database.options();
    let held = try_take(&options, "users").await.expect("nobody holds it");
    assert!(try_take(&options, "users").await.is_none());
    assert!(try_take(&options, "orders").await.is_some(), "another source is another lease");
    assert!(held.prove().await.unwrap());
    held.release(DEADLINE).await.unwrap();
    assert!(try_take(&options, "users").await.is_some());
}

#[tokio::test]
async fn a_dropped_lease_is_free() {
    let database = Server::shared().await.database().await;
    let options = database.options();
    drop(try_take(&options, "users").await.unwrap());
    eventually("the lease is free", async || try_take(&options, "users").await.is_some()).await;
}

#[tokio::test]
async fn a_lease_is_lost_with_its_connection_and_can_no_longer_be_proven() {
    let database = Server::shared().await.database().await;
    let held = try_take(&database.options(), "users").await.unwrap();
    let sql = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' \
               and database = (select oid from pg_database where datname = current_database())";
    assert_eq!(database.client.query(sql, &[]).await.unwrap().len(), 1);
    soon(held.lost()).await.expect("the loss is noticed");
    soon(held.lost()).await.expect("and stays known");
    assert!(held.prove().await.is_err());
}

#[tokio::test]
async fn a_holder_that_gives_signs_of_life_keeps_the_lease_and_one_that_is_silent_loses_it() {
    let database = Server::shared().await.database().await;
    let options = database.options();
    let held = try_take(&options, "users").await.expect("nobody holds it");
    let beat = "select state_change from pg_stat_activity join pg_locks using (pid) \
                where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())";
    let first: jiff::Timestamp = database.client.query_one(beat, &[]).await.unwrap().get(0);
    eventually("it gives a sign of life", async || {
        database.client.query_one(beat, &[]).await.unwrap().get::<_, jiff::Timestamp>(0) > first
    })
    .await;
    assert!(try_take(&options, "users").await.is_none());
    drop(held);

    // Silent: the lock of a relay whose process does not run, taken by hand on a connection that asks nothing more.
    let silent = database.client_of_relay().await;
    let lock = "select pg_advisory_lock(hashtextextended('tailrace source users', 0))";
    silent.execute(lock, &[]).await.unwrap();
    eventually("the silent one is ended", async || try_take(&options, "users").await.is_some()).await;
    assert!(silent.query("select 1", &[]).await.is_err(), "its session has ended");
}
