//! Postgres restarts and crashes: its slot goes back, it sends again, and it never waits for the relay to stop.

use std::time::{Duration, Instant};

use replication_protocol::Lsn;
use rustix::process::Signal;

use crate::support::{Servers, Source};
use crate::writer::Writer;

/// `pg_ctl stop --mode=fast` is done within this.
const FAST: Duration = Duration::from_secs(4);

async fn confirmed(source: &Source<'_>) -> Lsn {
    source.confirmed().await.parse().expect("an LSN")
}

/// Ends and starts the server between two runs of the relay until its slot has gone back, and says whether it ever did.
async fn goes_back(servers: &Servers, end: impl Fn(&Servers)) -> bool {
    let mut source = servers.source().await;
    let mut relay = source.running().await;
    let mut writer = Writer::default();
    let mut went_back = false;
    for _ in 0..3 {
        writer.write(&source, 20, 2).await;
        writer.check(&source).await;
        assert_eq!(relay.stop(), Some(0));
        let before = confirmed(&source).await;
        end(servers);
        servers.postgres.restart().expect("Postgres starts again");
        source.client = servers.client(&source.name).await;
        went_back |= confirmed(&source).await < before;
        relay = source.relay();
        relay.ready().await;
        writer.write(&source, 5, 2).await;
        writer.check(&source).await;
    }
    went_back
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_went_back_in_a_crash_is_sent_again_and_nothing_is_published_twice() {
    let servers = Servers::with_own_postgres(&[]).await;
    assert!(goes_back(&servers, |servers| servers.postgres.crash()).await, "the slot never went back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_restart_of_postgres_may_send_again_and_nothing_is_published_twice() {
    let servers = Servers::with_own_postgres(&[]).await;
    let went_back = goes_back(&servers, |servers| servers.postgres.stop()).await;
    let version = servers.client("postgres").await.query_one("show server_version_num", &[]).await;
    let version: u32 = version.expect("a setting").get::<_, &str>(0).parse().expect("a number");
    // Since 17 a slot is saved when the server stops.
    assert_eq!(went_back, version < 170_000, "Postgres {version}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_stops_fast_with_the_relay_attached_whatever_kafka_does() {
    let servers = Servers::start(&[]).await;
    let mut source = servers.source().await;
    let relay = source.running().await;
    let mut writer = Writer::default();
    writer.write(&source, 10, 2).await;
    writer.check(&source).await;
    stops_fast(&servers, &mut source, "while Kafka works").await;
    relay.ready().await;

    // Frozen in the middle of a transaction: the relay has something that it can neither publish nor acknowledge.
    servers.kafka.signal(Signal::STOP);
    writer.write(&source, 10, 2).await;
    let streamed = source.wal_end().await;
    source.sent(&streamed).await;
    stops_fast(&servers, &mut source, "while Kafka is frozen").await;
    servers.kafka.signal(Signal::CONT);
    relay.ready().await;
    writer.check(&source).await;

    servers.kafka.kill();
    writer.write(&source, 10, 2).await;
    stops_fast(&servers, &mut source, "while Kafka is gone").await;
    servers.kafka.start_again().expect("Kafka starts again");
    relay.ready().await;
    writer.check(&source).await;
}

async fn stops_fast(servers: &Servers, source: &mut Source<'_>, when: &str) {
    let begun = Instant::now();
    tokio::task::block_in_place(|| servers.postgres.stop());
    let took = begun.elapsed();
    assert!(took < FAST, "{when} Postgres took {took:?} to stop");
    servers.postgres.restart().expect("Postgres starts again");
    source.client = servers.client(&source.name).await;
}
