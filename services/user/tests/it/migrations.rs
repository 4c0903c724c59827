//! The schema, when replicas start together and when the database comes late.

use crate::support::{Database, Service};

#[tokio::test]
async fn replicas_may_migrate_at_once() {
    let database = Database::new().await;
    let (one, two, three) =
        tokio::join!(Service::start(&database), Service::start(&database), Service::start(&database));
    let client = database.connect().await;
    let applied = |history: &str| format!("SELECT count(*) FROM {history}");
    for history in ["outbox_migration", "migration"] {
        let row = client.query_one(&applied(history), &[]).await.expect("a history");
        assert_eq!(row.get::<_, i64>(0), 1, "{history}");
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
