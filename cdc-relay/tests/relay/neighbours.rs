//! What others do on the same servers: transactions they leave open in Kafka, and work in Postgres that is not ours.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use replication_protocol::Lsn;

use crate::support::{DEADLINE, Servers};
use crate::writer::Writer;

/// A transaction of somebody else, open on these topics.
fn open_transaction(
    servers: &Servers,
    id: &str,
    topics: &[&str],
) -> ThreadedProducer<DefaultProducerContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers.kafka.bootstrap()).set("transactional.id", id);
    let producer: ThreadedProducer<_> = config.create().expect("a producer");
    producer.init_transactions(DEADLINE).expect("a producer of its own");
    producer.begin_transaction().expect("a transaction");
    for topic in topics {
        let record = BaseRecord::to(topic).key("somebody else").payload("{}").partition(0);
        producer.send(record).map_err(|(error, _)| error).expect("a record");
    }
    producer.flush(DEADLINE).expect("the records are there");
    producer
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sources_open_transaction_does_not_make_a_position_stale() {
    let servers = Servers::shared().await;
    let (source, other) = (servers.source().await, servers.source().await);
    let mut relay = source.running().await;
    assert!(other.init().status.success());
    let mut writer = Writer::default();
    writer.write(&source, 5, 3).await;
    writer.check(&source).await;

    let (topic, dead_letters) = (source.topic(), source.dead_letter_topic());
    let theirs = format!("tailrace.position.{}", other.name);
    let id = format!("tailrace-{}-0", other.name);
    let open = open_transaction(servers, &id, &[&theirs, &topic, &dead_letters]);
    // Behind the open transaction, so that a reader of the topic does not see them yet.
    writer.write(&source, 5, 3).await;
    published_position_passes(&source).await;
    relay.kill();
    let relay = source.relay();
    relay.ready().await;
    writer.write(&source, 5, 3).await;
    published_position_passes(&source).await;
    open.abort_transaction(DEADLINE).expect("it is ours to abort");
    writer.check(&source).await;
}

/// Waits until everything that is committed in Postgres is acknowledged.
async fn published_position_passes(source: &crate::support::Source<'_>) {
    let end: Lsn = source.wal_end().await.parse().expect("an LSN");
    let deadline = Instant::now() + DEADLINE;
    while source.confirmed().await.parse::<Lsn>().expect("an LSN") < end {
        assert!(Instant::now() < deadline, "the slot stays at {}", source.confirmed().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_behind_an_open_transaction_is_waited_for_and_not_taken_from_before_it() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let mut relay = source.running().await;
    let mut writer = Writer::default();
    writer.write(&source, 5, 3).await;
    writer.check(&source).await;
    let topic = format!("tailrace.position.{}", source.name);
    let open = open_transaction(servers, &format!("stranger of {}", source.name), &[&topic]);
    writer.write(&source, 5, 3).await;
    writer.check(&source).await;
    relay.kill();
    let relay = source.relay();
    relay.not_ready_because("a transaction stays open on topic").await;
    open.abort_transaction(DEADLINE).expect("it is ours to abort");
    relay.ready().await;
    writer.write(&source, 5, 3).await;
    writer.check(&source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_neighbours_of_an_idle_outbox_do_not_make_the_server_keep_its_log() {
    let servers = Servers::with_own_postgres(&[]).await;
    let source = servers.source().await;
    let _relay = source.running().await;
    source.client.batch_execute("create table busy (t text)").await.expect("a table beside the outbox");
    let other = servers.client("postgres").await;
    other.batch_execute("create table busy (t text)").await.expect("a table of another database");
    let (mark, deadline) = (source.wal_end().await, Instant::now() + DEADLINE);
    let sql = "select confirmed_flush_lsn >= $1::text::pg_lsn and restart_lsn >= $1::text::pg_lsn
        from pg_replication_slots where slot_name = $2";
    let begun = Instant::now();
    // They never pause, and the slot moves all the same.
    loop {
        let work = "insert into busy select repeat('x', 1000) from generate_series(1, 500)";
        let (ours, theirs) = tokio::join!(source.client.batch_execute(work), other.batch_execute(work));
        ours.expect("work");
        theirs.expect("work");
        // As one does every few minutes: it also notes which transactions run, which is what the slot needs to move.
        other.batch_execute("checkpoint").await.expect("a checkpoint");
        if source.client.query_one(sql, &[&mark, &source.slot()]).await.expect("the slot").get(0) {
            break;
        }
        assert!(Instant::now() < deadline, "the slot stays at {}", source.confirmed().await);
    }
    eprintln!("the slot moved after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(25));
}
