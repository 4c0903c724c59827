//! One relay at a time works on a source.

use cdc_relay::source::Lease;

use crate::support::{DEADLINE, Server, eventually, soon};

#[tokio::test]
async fn one_holds_the_lease_of_a_source_until_it_gives_it_up() {
    let database = Server::shared().await.database().await;
    let options = database.options();
    let held = Lease::try_take(&options, "users").await.unwrap().expect("nobody holds it");
    assert!(Lease::try_take(&options, "users").await.unwrap().is_none());
    assert!(Lease::try_take(&options, "orders").await.unwrap().is_some(), "another source is another lease");
    assert!(held.prove().await.unwrap());
    held.release(DEADLINE).await.unwrap();
    assert!(Lease::try_take(&options, "users").await.unwrap().is_some());
}

#[tokio::test]
async fn a_dropped_lease_is_free() {
    let database = Server::shared().await.database().await;
    let options = database.options();
    drop(Lease::try_take(&options, "users").await.unwrap().unwrap());
    eventually("the lease is free", async || Lease::try_take(&options, "users").await.unwrap().is_some())
        .await;
}

#[tokio::test]
async fn a_lease_is_lost_with_its_connection_and_can_no_longer_be_proven() {
    let database = Server::shared().await.database().await;
    let held = Lease::try_take(&database.options(), "users").await.unwrap().unwrap();
    let sql = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' \
               and database = (select oid from pg_database where datname = current_database())";
    assert_eq!(database.client.query(sql, &[]).await.unwrap().len(), 1);
    soon(held.lost()).await.expect("the loss is noticed");
    soon(held.lost()).await.expect("and stays known");
    assert!(held.prove().await.is_err());
}
