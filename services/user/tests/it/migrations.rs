//! The schema, when replicas start together and when the database comes late.

use tokio::{task::spawn_blocking, time::timeout};
use tokio_postgres::error::SqlState;
use xtask::settings::Settings;

use crate::support::{DEADLINE, Database, Service, connect, dev_cluster};

#[tokio::test]
async fn replicas_may_migrate_at_once() {
    let database = Database::new().await;
    let (one, two, three) =
        tokio::join!(Service::start(&database), Service::start(&database), Service::start(&database));
    let client = database.connect().await;
    for history in ["outbox_migration", "migration"] {
        let count = format!("SELECT count(*), count(DISTINCT version), max(version)::bigint FROM {history}");
        let row = client.query_one(&count, &[]).await.expect("a history");
        let (applied, distinct, last): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!((applied, distinct), (last, last), "{history}: each once");
    }
    let row = client
        .query_one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", &[])
        .await
        .expect("locks");
    assert_eq!(row.get::<_, i64>(0), 0, "nobody holds the lock");
    for service in [one, two, three] {
        service.stop().await;
    }
}

#[tokio::test]
async fn a_week_of_partitions_is_there_and_published() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let client = database.connect().await;
    let row = client
        .query_one("SELECT count(*) FROM pg_inherits WHERE inhparent = 'outbox'::regclass", &[])
        .await
        .expect("partitions");
    assert_eq!(row.get::<_, i64>(0), 8, "today and seven days ahead");
    let row = client
        .query_one("SELECT pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot FROM pg_publication WHERE pubname = 'tailrace_outbox'", &[])
        .await
        .expect("the publication");
    let flags: Vec<bool> = (0..5).map(|column| row.get(column)).collect();
    assert_eq!(flags, [true, false, false, false, true]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn least_rights_are_enough_for_the_service_and_the_relay() {
    let postgres = spawn_blocking(dev_cluster).await.expect("no panic");
    let password = |name: &str| Settings::get().value(name).expect("a password");
    let service_url = postgres.url("users_service", &password("USERS_SERVICE_PASSWORD"), "users");
    let owner_url = postgres.url("users_owner", &password("USERS_OWNER_PASSWORD"), "users");
    let service = Service::launch_with(&service_url, &["--owner-database-url", &owner_url]).await;
    timeout(DEADLINE, service.context().readiness.changed_from(false))
        .await
        .unwrap_or_else(|_| panic!("{}", service.context().readiness));
    service.create("ada@example.org").await;

    let relay = connect(&postgres.url("cdc_relay", &password("CDC_RELAY_PASSWORD"), "users")).await;
    let row = relay.query_one("SELECT count(*) FROM outbox", &[]).await.expect("the outbox is readable");
    assert_eq!(row.get::<_, i64>(0), 1);
    for refused in [
        "SELECT * FROM users",
        "SELECT * FROM carried_out_request",
        "DELETE FROM outbox",
        "UPDATE outbox SET owner = null",
        "INSERT INTO outbox SELECT * FROM outbox",
        "CREATE TABLE mine ()",
    ] {
        let error = relay.batch_execute(refused).await.expect_err(refused);
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{refused}");
    }
    service.stop().await;
}
