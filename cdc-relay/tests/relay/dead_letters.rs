//! An event that cannot be published goes to the dead letters with its reason, and the rest flows.

use serde_json::Value;

use crate::support::{Published, Servers};

fn letter(event: &Published) -> Value {
    serde_json::from_slice(&event.value).expect("a dead letter is JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn unroutable_oversize_and_malformed_events_are_set_aside_and_the_rest_flows() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let _relay = source.running().await;
    let sql =
        "insert into outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload) values
        ('things', 'a', 1, 'thing.made.v1', '{}'),
        ('things', 'b', 1, 'nobody.knows.v1', '{\"kept\":true}'),
        ('things', 'c', 1, 'thing.made.v1', json_build_object('big', repeat('x', 3000000))),
        ('things', '', 1, 'thing.made.v1', '{}'),
        ('things', 'a', 2, 'thing.made.v1', '{}')";
    source.client.batch_execute(sql).await.expect("the rows");
    let events = source.published(&source.topic(), 2).await;
    let keys: Vec<_> = events.iter().map(|event| (event.key.as_str(), event.version())).collect();
    assert_eq!(keys, [("a", 1), ("a", 2)]);

    let dead = source.published(&source.dead_letter_topic(), 3).await;
    let reasons: Vec<_> = dead.iter().map(|event| letter(event)["reason"].clone()).collect();
    assert_eq!(reasons, ["REASON_UNROUTABLE", "REASON_TOO_LARGE", "REASON_MALFORMED"]);
    assert_eq!(letter(&dead[0])["eventType"], "nobody.knows.v1");
    assert_eq!(letter(&dead[0])["payload"], "eyJrZXB0Ijp0cnVlfQ==", "the payload is kept");
    assert_eq!(letter(&dead[1])["topic"], source.topic());
    assert_eq!(dead[1].headers.get("ce_type").map(String::as_str), Some("thing.made.v1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_only_the_broker_finds_too_large_is_set_aside_too() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let config = source.default_config().replace("[[source]]", "record_bytes_max = 5000000\n[[source]]");
    source.configure(&config);
    let relay = source.running().await;
    let sql =
        "insert into outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload) values
        ('things', 'a', 1, 'thing.made.v1', '{}'),
        ('things', 'b', 1, 'thing.made.v1',
            (select json_build_object('big', string_agg(md5(random()::text), '')) from generate_series(1, 60000))),
        ('things', 'a', 2, 'thing.made.v1', '{}')";
    source.client.batch_execute(sql).await.expect("the rows");
    let events = source.published(&source.topic(), 2).await;
    let keys: Vec<_> = events.iter().map(|event| (event.key.as_str(), event.version())).collect();
    assert_eq!(keys, [("a", 1), ("a", 2)], "{}", relay.log());
    let dead = source.published(&source.dead_letter_topic(), 1).await;
    assert_eq!(letter(&dead[0])["aggregateId"], "b");
}
