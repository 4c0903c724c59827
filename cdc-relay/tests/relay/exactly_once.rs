//! Nothing lost, repeated or reordered: in quiet, and through crashes of the relay, Postgres and Kafka.

use crate::forgotten::producers;
use crate::support::Servers;
use crate::takeover::asks_for_the_lease_again;
use crate::writer::Writer;

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_with_key_payload_headers_and_position() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let _relay = source.running().await;
    let sql = "insert into outbox (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, headers, owner)
        values ('11111111-2222-3333-4444-555555555555', 'things', 'a b', 3, 'thing.made.v1', '{\"a\":  [1,2] }',
                '{\"traceparent\": \"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}', 'users/1')";
    source.client.batch_execute(sql).await.expect("a row");
    let events = source.published(&source.topic(), 1).await;
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((event.key.as_str(), &*event.value), ("a b", &b"{\"a\":  [1,2] }"[..]));
    let header = |name: &str| event.headers.get(name).map(String::as_str);
    assert_eq!(header("ce_id"), Some("11111111-2222-3333-4444-555555555555"));
    assert_eq!(header("ce_type"), Some("thing.made.v1"));
    assert_eq!(header("ce_subject"), Some("things/a b"));
    assert_eq!(header("tailrace_owner"), Some("users/1"));
    assert_eq!(header("tailrace_aggregate_version"), Some("3"));
    assert_eq!(header("traceparent"), Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    assert!(header("tailrace_position").is_some_and(|position| position.ends_with("/0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_again_and_again_loses_repeats_and_reorders_nothing() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let mut relay = source.running().await;
    let mut writer = Writer::default();
    for _ in 0..6 {
        writer.write(&source, 60, 5).await;
        relay.kill();
        writer.write(&source, 20, 3).await;
        relay = source.relay();
        writer.write(&source, 20, 1).await;
    }
    writer.check(&source).await;
    let invariant = format!("tailrace_relay_ack_invariant_violations_total{{source=\"{}\"}} 0", source.name);
    relay.measures(&invariant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_larger_than_the_buffer_survives_a_kill_in_its_middle() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let config = source.default_config().replace("idle_position", "buffer_bytes_max = 65536\nidle_position");
    source.configure(&config);
    let mut relay = source.running().await;
    let mut writer = Writer::default();
    for _ in 0..3 {
        writer.write(&source, 1, 5_000).await;
        let _ = source.published(&source.topic(), writer.count - 4_000).await;
        relay.kill();
        relay = source.relay();
    }
    writer.check(&source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_and_kafka_may_crash_and_restart_in_any_order() {
    let servers = Servers::start(&[]).await;
    let mut source = servers.source().await;
    let relay = source.running().await;
    let mut writer = Writer::default();
    writer.write(&source, 50, 2).await;

    servers.postgres.crash();
    servers.postgres.restart().expect("Postgres starts again");
    source.client = servers.client(&source.name).await;
    writer.write(&source, 50, 2).await;
    writer.check(&source).await;

    servers.kafka.kill();
    writer.write(&source, 50, 2).await;
    relay.not_ready_because("Kafka").await;
    servers.kafka.start_again().expect("Kafka starts again");
    relay.ready().await;
    writer.write(&source, 10, 2).await;
    writer.check(&source).await;

    servers.postgres.restart().expect("Postgres restarts");
    source.client = servers.client(&source.name).await;
    writer.write(&source, 10, 2).await;
    relay.ready().await;
    writer.check(&source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_relay_stands_by_and_takes_over() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let mut first = source.running().await;
    let second = source.relay();
    second.not_ready_because("standing by").await;
    let mut writer = Writer::default();
    writer.write(&source, 30, 2).await;
    first.kill();
    writer.write(&source, 30, 2).await;
    second.ready().await;
    writer.check(&source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thawed_zombie_stands_by_and_does_not_fence_the_rightful_holder() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let zombie = source.running().await;
    let holder = source.relay();
    holder.not_ready_because("standing by").await;
    let mut writer = Writer::default();
    writer.write(&source, 10, 2).await;
    zombie.signal("STOP");
    writer.write(&source, 10, 2).await;
    holder.ready().await;
    let rightful = producers(&source);
    zombie.signal("CONT");
    zombie.not_ready_because("standing by").await;
    for _ in 0..2 {
        asks_for_the_lease_again(&source).await;
        writer.write(&source, 10, 2).await;
        writer.check(&source).await;
    }
    assert_eq!(producers(&source), rightful, "the zombie initialised the holder's producers");
    holder.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_relay_follows_the_log_so_that_the_server_keeps_nothing() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let _relay = source.running().await;
    source
        .client
        .batch_execute("create table other (t text); insert into other select repeat('x', 1000) from generate_series(1, 1000)")
        .await
        .expect("other work");
    let end = source.wal_end().await;
    let reached =
        "select confirmed_flush_lsn >= $1::text::pg_lsn from pg_replication_slots where slot_name = $2";
    let deadline = std::time::Instant::now() + crate::support::DEADLINE;
    loop {
        let row = source.client.query_one(reached, &[&end, &source.slot()]).await.expect("the slot");
        if row.get::<_, bool>(0) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the slot stays at {}", source.confirmed().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_stays_on_the_partition_that_every_kafka_client_gives_it() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let _relay = source.running().await;
    let mut writer = Writer::default();
    writer.write(&source, 3, 7).await;
    // Java's DefaultPartitioner over four partitions: toPositive(murmur2(key)) % 4.
    for event in source.published(&source.topic(), writer.count).await {
        assert_eq!(event.partition, murmur2(event.key.as_bytes()) % 4, "{}", event.key);
    }
}

/// Murmur2 as Kafka's Java client computes it, with the sign bit cleared.
fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ u32::try_from(data.len()).expect("short");
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().expect("four bytes")).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    for (index, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    i32::try_from(hash & 0x7fff_ffff).expect("the sign bit is clear")
}
