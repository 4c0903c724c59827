//! Who may initialise the producers of a source, and how fast a position is found.

use std::time::{Duration, Instant};

use cdc_relay::config::Config;
use cdc_relay::sink::kafka::last_position;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};

use crate::forgotten::producers;
use crate::support::{DEADLINE, Servers, Source};
use crate::writer::Writer;

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_initialises_no_producer_without_the_lease() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let mut holder = source.running().await;
    let ours = producers(&source);
    let standby = source.relay();
    standby.not_ready_because("standing by").await;
    // It asks for the lease again and again, and the holder works on.
    let mut writer = Writer::default();
    for _ in 0..3 {
        asks_for_the_lease_again(&source).await;
        writer.write(&source, 5, 2).await;
        writer.check(&source).await;
    }
    assert_eq!(producers(&source), ours, "somebody initialised the holder's producers");
    holder.kill();
    standby.ready().await;
    writer.write(&source, 5, 2).await;
    writer.check(&source).await;
    assert_ne!(producers(&source), ours, "the one that took over did");
}

/// Waits until a session of the relay's role that does not hold the lease has asked once more.
pub(crate) async fn asks_for_the_lease_again(source: &Source<'_>) {
    let sql = "select max(query_start) from pg_stat_activity a where datname = $1 and usename = 'cdc_relay'
        and query like 'select pg_t%' and not exists
        (select from pg_locks l where l.pid = a.pid and locktype = 'advisory' and granted)";
    let asked = async || -> Option<jiff::Timestamp> {
        source.client.query_one(sql, &[&source.name]).await.expect("the sessions").get(0)
    };
    let (before, deadline) = (asked().await, Instant::now() + DEADLINE);
    while asked().await <= before {
        assert!(Instant::now() < deadline, "the standby does not ask");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_after_a_million_position_records_is_as_fast_as_the_first() {
    const RECORDS: usize = 1_000_000;
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let mut relay = source.running().await;
    let mut writer = Writer::default();
    writer.write(&source, 5, 2).await;
    writer.check(&source).await;
    assert_eq!(relay.stop(), Some(0));
    let (position, first) = (source.last_position(), fastest(&source));

    let topic = format!("tailrace.position.{}", source.name);
    let bootstrap = servers.kafka.bootstrap();
    let (key, value) = (source.name.clone(), position.clone());
    let written = move || write_many(&bootstrap, &topic, &key, &value, RECORDS);
    tokio::task::spawn_blocking(written).await.expect("the records are written");
    let again = fastest(&source);
    assert!(
        again < first * 5 + Duration::from_millis(50),
        "{first:?} with few records, {again:?} with a million"
    );

    let relay = source.relay();
    relay.ready().await;
    writer.write(&source, 5, 2).await;
    writer.check(&source).await;
}

/// How long it takes to find the position, the fastest of several times.
fn fastest(source: &Source<'_>) -> Duration {
    let config = Config::parse(&source.default_config(), |_| None).expect("a good configuration");
    let times = (0..5).map(|_| {
        let begun = Instant::now();
        let found = tokio::task::block_in_place(|| last_position(&config.kafka, &source.name));
        assert!(found.expect("the topic can be read").is_some());
        begun.elapsed()
    });
    times.min().expect("five times")
}

struct Undelivered;

impl ClientContext for Undelivered {}

impl ProducerContext for Undelivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "{result:?}");
    }
}

fn write_many(bootstrap: &str, topic: &str, key: &str, value: &str, count: usize) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("compression.type", "lz4").set("linger.ms", "20");
    config.set("queue.buffering.max.messages", "200000").set("batch.num.messages", "100000");
    let producer = ThreadedProducer::from_config_and_context(&config, Undelivered).expect("a producer");
    for _ in 0..count {
        let mut record = BaseRecord::to(topic).key(key).payload(value).partition(0);
        while let Err((error, again)) = producer.send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
            std::thread::yield_now();
            record = again;
        }
    }
    producer.flush(DEADLINE).expect("everything is delivered");
}
