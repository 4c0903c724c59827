//! A dead letter parks its key: later events wait in order, through every restart, until an operator releases them.

use std::time::Instant;

use crate::operator::{Said, dead_letters, dead_letters_as_plain_user, dead_letters_without_token};
use crate::support::{DEADLINE, Published, Relay, Servers, Source};

impl Source<'_> {
    pub(crate) async fn write_typed(&self, event_type: &str, key: &str, version: i64, payload: &str) {
        let sql = "insert into outbox (aggregate_type, aggregate_id, aggregate_version, event_type, payload) \
                   values ('things', $1, $2, $3, $4::text::json)";
        self.client.execute(sql, &[&key, &version, &event_type, &payload]).await.expect("a row");
    }

    /// With a route for the type that had none.
    fn config_with_route(&self) -> String {
        let topic = self.topic();
        format!("{}[[route]]\nevent_type = \"nobody.*\"\ntopic = \"{topic}\"\n", self.default_config())
    }
}

pub(crate) fn versions(events: &[Published], key: &str) -> Vec<i64> {
    events.iter().filter(|event| event.key == key).map(Published::version).collect()
}

/// Asks until the list says these words.
pub(crate) async fn listed(relay: &Relay, words: &str) -> Said {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let said = dead_letters(relay, &["list"]).await;
        if said.text.contains(words) {
            return said;
        }
        assert!(Instant::now() < deadline, "waited for {words:?}, it says {said:?}\n{}", relay.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_key_survives_a_kill_and_a_redrive_releases_it_in_order() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let mut relay = source.running().await;
    source.write([("a", 1)]).await;
    source.write_typed("nobody.knows.v1", "a", 2, "{\"n\":  2}").await;
    source.write([("a", 3), ("b", 1)]).await;
    assert_eq!(source.published(&source.topic(), 2).await.len(), 2, "a waits, b flows");
    relay.measures("tailrace_relay_parked_keys").await;
    relay.kill();

    source.write([("a", 4), ("b", 2)]).await;
    source.configure(&source.config_with_route());
    let relay = source.relay();
    relay.ready().await;
    let said = listed(&relay, "2 waiting").await;
    assert!(said.text.contains("things/a  nobody.knows.v1"), "{said:?}");

    let said = dead_letters(&relay, &["redrive", "--all"]).await;
    assert!(said.is_success && said.text.contains("3 published, the key is free"), "{said:?}");
    source.write([("a", 5)]).await;
    let events = source.published(&source.topic(), 7).await;
    assert_eq!((versions(&events, "a"), versions(&events, "b")), (vec![1, 2, 3, 4, 5], vec![1, 2]));
    let redriven = events.iter().find(|event| event.version() == 2 && event.key == "a").expect("it is there");
    assert_eq!(redriven.value, b"{\"n\":  2}", "byte for byte");
    assert_eq!(redriven.headers.get("ce_type").map(String::as_str), Some("nobody.knows.v1"));
    assert_eq!(dead_letters(&relay, &["list"]).await.text.trim(), "no key is parked");
    let again =
        dead_letters(&relay, &["redrive", said.text.split_whitespace().next().expect("a name")]).await;
    assert!(!again.is_success && again.text.contains("No key is held"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_in_a_release_repeats_and_loses_nothing() {
    const EVENTS: i64 = 3_000;
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let small = |config: String| config.replace("[[source]]\n", "[[source]]\nbuffer_bytes_max = 65536\n");
    source.configure(&small(source.default_config()));
    let mut relay = source.running().await;
    source.write_typed("nobody.knows.v1", "a", 1, "{}").await;
    for first in (2..=EVENTS).step_by(500) {
        source.write((first..=EVENTS.min(first + 499)).map(|version| ("a", version))).await;
    }
    listed(&relay, &format!("{} waiting", EVENTS - 1)).await;
    assert_eq!(relay.stop(), Some(0));

    source.configure(&small(source.config_with_route()));
    let relay = source.relay();
    relay.ready().await;
    let redrive = dead_letters(&relay, &["redrive", "--all"]);
    let mut redrive = std::pin::pin!(redrive);
    let begun = tokio::select! {
        said = &mut redrive => panic!("it cannot be through: {said:?}"),
        events = async { source.published(&source.topic(), 1).await } => events,
    };
    relay.signal("KILL");
    assert!((begun.len() as i64) < EVENTS, "killed in the middle, not after it");
    assert!(!redrive.await.is_success, "who asked is told that it is not known");

    let relay = source.relay();
    relay.ready().await;
    let said = dead_letters(&relay, &["redrive", "--all"]).await;
    assert!(said.is_success && said.text.contains("the key is free"), "{said:?}");
    let events = source.published(&source.topic(), EVENTS as usize).await;
    assert_eq!(versions(&events, "a"), (1..=EVENTS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_too_large_to_be_kept_is_read_again_from_its_row() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let limited = |bytes: u32| {
        source.default_config().replace("[kafka]\n", &format!("[kafka]\nrecord_bytes_max = {bytes}\n"))
    };
    source.configure(&limited(100_000));
    let mut relay = source.running().await;
    let payload = format!("{{\"big\":  \"{}\"}}", "ä".repeat(100_000));
    source.write_typed("thing.made.v1", "a", 1, &payload).await;
    source.write([("a", 2)]).await;
    listed(&relay, "1 waiting").await;
    let said = dead_letters(&relay, &["redrive", "--all"]).await;
    assert!(!said.is_success && said.text.contains("the limit is 100000 bytes"), "{said:?}");
    assert_eq!(relay.stop(), Some(0));

    source.configure(&limited(500_000));
    let relay = source.relay();
    relay.ready().await;
    let said = dead_letters(&relay, &["redrive", "--all"]).await;
    assert!(said.is_success, "{said:?}\n{}", relay.log());
    let events = source.published(&source.topic(), 2).await;
    assert_eq!(versions(&events, "a"), [1, 2]);
    assert_eq!(events[0].value, payload.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discarded_event_lets_the_others_go_and_nobody_but_operators_may() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let relay = source.running().await;
    source.write_typed("nobody.knows.v1", "a", 1, "{}").await;
    source.write([("a", 2)]).await;
    source.write_typed("nobody.knows.v1", "a", 3, "{}").await;
    source.write([("a", 4)]).await;
    let said = listed(&relay, "3 waiting").await;
    let name = said.text.split_whitespace().next().expect("a name").to_owned();

    for said in [
        dead_letters_as_plain_user(&relay, &["discard", &name]).await,
        dead_letters_without_token(&relay, &["discard", &name]).await,
        dead_letters(&relay, &["redrive", &name]).await,
        dead_letters(&relay, &["discard", "sources/nowhere/deadLetters/0-1-0"]).await,
        dead_letters(&relay, &["discard", "nonsense"]).await,
    ] {
        assert!(!said.is_success, "{said:?}");
    }
    listed(&relay, "3 waiting").await;

    let said = dead_letters(&relay, &["discard", &name]).await;
    assert!(said.is_success && said.text.contains("1 published, the key is held by"), "{said:?}");
    listed(&relay, "1 waiting").await;
    let said = dead_letters(&relay, &["discard", "--all"]).await;
    assert!(said.text.contains("1 published, the key is free"), "{said:?}");
    assert_eq!(versions(&source.published(&source.topic(), 2).await, "a"), [2, 4]);
    assert_eq!(source.published(&source.dead_letter_topic(), 2).await.len(), 2, "the record of them stays");
}
