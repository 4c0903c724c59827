//! Bad starts: each is answered with one clear line, and mended without a restart where it can pass.

use cdc_relay::config::Config;
use cdc_relay::source::{ReplicationConnection, StreamOptions};
use replication_protocol::Lsn;

use crate::support::{Servers, relay_command};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_once_and_waited_out() {
    let source = Servers::shared().await.source().await;
    assert!(source.init().status.success());
    source.configure(&source.default_config().replace("relay-secret", "wrong-secret"));
    let mut relay = source.relay();
    relay.not_ready_because("password authentication failed").await;
    assert_eq!(relay.stop(), Some(0));
    let said = relay.log().lines().filter(|line| line.contains("\"WARN\"")).count();
    assert_eq!(said, 1, "{}", relay.log());
    assert!(!relay.log().contains("wrong-secret"), "a secret is not logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_logical_decoding_is_told_what_to_set() {
    let servers = Servers::start(&[("wal_level", "replica")]).await;
    let source = servers.source().await;
    let output = source.init();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("wal_level is replica") && text.contains("ALTER SYSTEM"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_held_by_another_program_is_waited_for() {
    let source = Servers::shared().await.source().await;
    assert!(source.init().status.success());
    let config = Config::parse(&source.default_config(), |_| None).expect("a good configuration");
    let mut options = config.sources[0].connection.clone();
    options.application_name = "somebody else".into();
    let other = ReplicationConnection::connect(&options).await.expect("another program connects");
    let messages = StreamOptions { messages: false };
    let stream = other.start_replication(&source.slot(), "tailrace_outbox", Lsn::ZERO, messages).await;
    let stream = stream.expect("and holds the slot");
    let relay = source.relay();
    relay.not_ready_because("is held by another program").await;
    drop(stream);
    relay.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_named() {
    let source = Servers::shared().await.source().await;
    assert!(source.init().status.success());
    source.configure(&source.default_config().replace(&source.topic(), "no-such-topic"));
    let relay = source.relay();
    relay.not_ready_because("topic no-such-topic does not exist").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_and_postgres_may_be_absent_at_the_start() {
    let source = Servers::shared().await.source().await;
    assert!(source.init().status.success());
    let bootstrap = source.servers.kafka.bootstrap();
    source.configure(&source.default_config().replace(&bootstrap, "127.0.0.1:1"));
    source.relay().not_ready_because("Kafka at 127.0.0.1:1 does not answer").await;
    let port = source.servers.postgres.port().to_string();
    source.configure(&source.default_config().replace(&port, "1"));
    source.relay().not_ready_because("refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_configuration_is_refused_in_one_line_with_exit_code_2() {
    let source = Servers::shared().await.source().await;
    for (broken, words) in [
        (source.default_config().replace("slot = ", "slott = "), "slot"),
        (source.default_config().split("[[route]]").next().unwrap_or_default().to_owned(), "no [[route]]"),
        ("[kafka".to_owned(), "toml"),
    ] {
        source.configure(&broken);
        let output =
            relay_command(source.config()).arg("--check-config").output().expect("the relay's binary");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(words), "{text:?} does not say {words:?}");
    }
}
