//! `delivery = "at-least-once"`: nothing lost, per key never a later event before an earlier one; a crash may repeat.

use std::collections::BTreeMap;

use crate::operator::dead_letters;
use crate::parking::{listed, versions};
use crate::support::{Published, Servers, Source};
use crate::writer::Writer;

fn config(source: &Source<'_>) -> String {
    source.default_config().replace("[[source]]\n", "[[source]]\ndelivery = \"at-least-once\"\n")
}

/// Asserts that every version came, the first time each in order, and tells how many were repeats.
#[track_caller]
fn check_at_least_once(events: &[Published], expected: &BTreeMap<String, i64>) -> usize {
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    let mut repeats = 0;
    for event in events {
        let before = last.entry(event.key.clone()).or_default();
        let is_repeat = event.version() <= *before;
        assert!(
            is_repeat || event.version() == *before + 1,
            "after {before} of {} came {}",
            event.key,
            event.version()
        );
        *before = event.version().max(*before);
        repeats += usize::from(is_repeat);
    }
    assert_eq!(&last, expected, "the last versions");
    repeats
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_again_and_again_loses_and_reorders_nothing() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    source.configure(&config(&source));
    let mut relay = source.running().await;
    let mut writer = Writer::default();
    for _ in 0..4 {
        writer.write(&source, 60, 5).await;
        relay.kill();
        writer.write(&source, 20, 3).await;
        relay = source.relay();
        writer.write(&source, 20, 1).await;
    }
    writer.check_arrived(&source).await;
    let invariant = format!("tailrace_relay_ack_invariant_violations_total{{source=\"{}\"}} 0", source.name);
    relay.measures(&invariant).await;

    // Stopped in order, it repeats nothing; and exactly once goes on from where it was.
    assert_eq!(relay.stop(), Some(0));
    let before =
        check_at_least_once(&source.published(&source.topic(), writer.count).await, &writer.versions);
    source.configure(&source.default_config());
    let mut relay = source.relay();
    for _ in 0..2 {
        writer.write(&source, 20, 3).await;
        relay.kill();
        relay = source.relay();
    }
    relay.ready().await;
    writer.check_arrived(&source).await;
    let events = source.published(&source.topic(), writer.count + before).await;
    assert_eq!(check_at_least_once(&events, &writer.versions), before, "no further repeats");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_key_waits_and_is_released_in_order() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    source.configure(&config(&source));
    let relay = source.running().await;
    source.write_typed("nobody.knows.v1", "a", 1, "{}").await;
    source.write([("a", 2), ("b", 1)]).await;
    listed(&relay, "1 waiting").await;
    let said = dead_letters(&relay, &["discard", "--all"]).await;
    assert!(said.is_success && said.text.contains("1 published, the key is free"), "{said:?}");
    source.write([("a", 3)]).await;
    let events = source.published(&source.topic(), 3).await;
    assert_eq!((versions(&events, "a"), versions(&events, "b")), (vec![2, 3], vec![1]));
}

impl Writer {
    /// Waits until the last version of each key has come, however often others have.
    async fn check_arrived(&self, source: &Source<'_>) {
        let mut wanted = self.count;
        loop {
            let events = source.published(&source.topic(), wanted).await;
            let is_last = |key: &String, version: i64| {
                events.iter().any(|event| event.key == *key && event.version() == version)
            };
            if self.versions.iter().all(|(key, version)| is_last(key, *version)) {
                check_at_least_once(&events, &self.versions);
                return;
            }
            assert!(events.len() >= wanted, "{} of {wanted} events came in time", events.len());
            wanted = events.len() + 1;
        }
    }
}
