//! What the catalog says about slot, publication and table.

use cdc_relay::source::Catalog;
use cdc_relay::source::catalog::PublicationCoverage;
use jiff::{SignedDuration, Timestamp};
use replication_protocol::Lsn;

use crate::support::{PUBLICATION, Server, eventually};

#[tokio::test]
async fn a_slot_is_seen_as_it_is() {
    let database = Server::shared().await.database().await;
    let catalog = Catalog::connect(&database.options()).await.unwrap();
    assert_eq!(catalog.slot(&database.slot).await.unwrap(), None);
    let created = database.create_slot().await;
    let slot = catalog.slot(&database.slot).await.unwrap().unwrap();
    assert_eq!(slot.plugin.as_deref(), Some("pgoutput"));
    assert_eq!(slot.database.as_ref(), Some(&database.name));
    assert_eq!(slot.confirmed_flush_lsn, Some(created));
    assert!(slot.restart_lsn.unwrap() <= created);
    assert_eq!((slot.active, slot.active_pid), (false, None));
    assert_eq!((slot.wal_status.as_deref(), slot.safe_wal_size_bytes), (Some("reserved"), None));
    assert!(catalog.current_wal_lsn().await.unwrap() >= created);

    let tail = database.start(Lsn::ZERO).await.unwrap();
    let slot = catalog.slot(&database.slot).await.unwrap().unwrap();
    assert_eq!((slot.active, slot.active_pid), (true, Some(tail.stream.backend_pid())));
    tail.finish(Lsn::ZERO).await;
    database.drop_slot().await;
}

#[tokio::test]
async fn the_two_connections_agree_on_the_system() {
    let database = Server::shared().await.database().await;
    let mut connection = database.connect().await;
    let identity = connection.identify_system().await.unwrap();
    let row = database.client.query_one("select system_identifier::text from pg_control_system()", &[]).await;
    assert_eq!(identity.system_id, row.unwrap().get::<_, String>(0));
    assert_eq!((identity.timeline, identity.database.as_ref()), (1, Some(&database.name)));
    let catalog = Catalog::connect(&database.options()).await.unwrap();
    assert!(catalog.current_wal_lsn().await.unwrap() >= identity.xlog_pos);
    let major = catalog.server_version().await.unwrap() / 10_000;
    assert!(connection.server_version().starts_with(&major.to_string()));
}

#[tokio::test]
async fn a_publication_is_seen_to_cover_a_table_or_not() {
    let database = Server::shared().await.database().await;
    let catalog = Catalog::connect(&database.options()).await.unwrap();
    let coverage = async |publication: &str, table: &str| {
        catalog.publication_coverage(publication, "public", table).await.unwrap()
    };
    assert_eq!(coverage("nothing", "outbox").await, None);
    let covered = PublicationCoverage { inserts: true, via_root: false, table: true };
    assert_eq!(coverage(PUBLICATION, "outbox").await, Some(covered));
    assert_eq!(coverage(PUBLICATION, "other").await, Some(PublicationCoverage { table: false, ..covered }));
    // Made anew under the same name, the table is no longer in it: everything would look well and nothing arrive.
    database.execute("drop table outbox; create table outbox (number int)").await;
    assert_eq!(coverage(PUBLICATION, "outbox").await, Some(PublicationCoverage { table: false, ..covered }));
    let root = "create table parts (n int) partition by range (n); create publication parts for table parts \
                with (publish = 'delete', publish_via_partition_root = true)";
    database.execute(root).await;
    let rooted = PublicationCoverage { inserts: false, via_root: true, table: true };
    assert_eq!(coverage("parts", "parts").await, Some(rooted));
}

#[tokio::test]
async fn a_tables_columns_are_listed_without_dropped_ones() {
    let database = Server::shared().await.database().await;
    let catalog = Catalog::connect(&database.options()).await.unwrap();
    database.execute("alter table outbox add gone int; alter table outbox drop gone").await;
    let columns = catalog.table_columns("public", "outbox").await.unwrap();
    let columns: Vec<_> =
        columns.iter().map(|column| (&*column.name, column.type_oid, column.not_null)).collect();
    assert_eq!(columns, [("number", 23, true), ("payload", 114, false), ("created_at", 1184, true)]);
    assert!(catalog.table_columns("public", "nothing").await.unwrap().is_empty());
}

#[tokio::test]
async fn rows_from_before_an_instant_are_counted() {
    let database = Server::shared().await.database().await;
    let catalog = Catalog::connect(&database.options()).await.unwrap();
    let hour_ago = Timestamp::now() - SignedDuration::from_hours(1);
    let before = async || catalog.rows_before("public", "outbox", "created_at", hour_ago).await.unwrap();
    assert_eq!((before().await.count, before().await.oldest), (0, None));
    database.execute("insert into outbox values (1, '{}', now()), (2, '{}', '2020-01-02 03:04:05Z')").await;
    assert_eq!(before().await.count, 1);
    assert_eq!(before().await.oldest, Some("2020-01-02T03:04:05Z".parse().unwrap()));
}

#[tokio::test]
async fn only_a_stream_of_our_own_is_ended() {
    let database = Server::shared().await.database().await;
    database.create_slot().await;
    let catalog = Catalog::connect(&database.options()).await.unwrap();
    let mut others = database.options();
    others.application_name = "somebody else".into();
    let others = Catalog::connect(&others).await.unwrap();

    let tail = database.start(Lsn::ZERO).await.unwrap();
    let pid = tail.stream.backend_pid();
    assert!(!others.terminate_own_stream(pid).await.unwrap(), "another name, another relay");
    let backend: i32 = database.client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    assert!(!catalog.terminate_own_stream(backend).await.unwrap(), "not a stream");
    assert!(catalog.terminate_own_stream(pid).await.unwrap());
    eventually("the slot is free", async || {
        !catalog.slot(&database.slot).await.unwrap().is_some_and(|slot| slot.active)
    })
    .await;
    database.drop_slot().await;
}
