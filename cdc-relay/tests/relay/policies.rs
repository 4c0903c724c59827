//! What Kafka refuses and may allow again: the relay waits, says it once, is not ready, and goes on by itself when it is
//! mended. None of it makes a dead letter.

use std::time::Instant;

use aws_lc_rs::pbkdf2;
use bytes::Bytes;
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{AlterUserScramCredentialsRequest, CreateAclsRequest, DeleteAclsRequest};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use crate::forgotten::{call, text};
use crate::link::{At, Pattern, api};
use crate::support::{DEADLINE, Relay, Servers, Source};
use crate::writer::Writer;

fn admin(servers: &Servers) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers.kafka.bootstrap());
    config.create().expect("a client")
}

/// Exactly what was written is there, the trouble was said once, and nothing became a dead letter.
async fn check_waited(source: &Source<'_>, relay: &Relay, writer: &Writer, words: &str) {
    relay.ready().await;
    writer.check(source).await;
    let log = relay.log();
    let said = log.lines().filter(|line| line.contains("\"WARN\"") && line.contains(words)).count();
    assert_eq!(said, 1, "{words:?} is said once:\n{log}");
    assert_eq!(source.published(&source.dead_letter_topic(), 0).await.len(), 0, "dead letters");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_while_the_relay_runs_is_waited_for() {
    let servers = Servers::shared().await;
    let source = servers.source().await;
    let relay = source.running().await;
    let (admin, topic) = (admin(servers), source.topic());
    let deleted = admin.delete_topics(&[&topic], &AdminOptions::new()).await.expect("an answer");
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let mut writer = Writer::default();
    writer.write(&source, 5, 3).await;
    let words = format!("topic {topic} does not exist");
    relay.not_ready_because(&words).await;
    let again = NewTopic::new(&topic, 4, TopicReplication::Fixed(1));
    let made = admin.create_topics([&again], &AdminOptions::new()).await.expect("an answer");
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    writer.write(&source, 5, 3).await;
    check_waited(&source, &relay, &writer, &words).await;
}

/// The second listener asks who one is, and what one may do is written down; the first is for the tests alone.
const GUARDED: &[(&str, &str)] = &[
    ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,LINK:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT"),
    ("sasl.enabled.mechanisms", "SCRAM-SHA-256"),
    (
        "listener.name.link.scram-sha-256.sasl.jaas.config",
        "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    ),
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("super.users", "User:ANONYMOUS"),
];

/// Kafka's numbers of what is guarded, of what is done with it, and of kinds of patterns.
const TOPIC: i8 = 2;
const TRANSACTIONAL_ID: i8 = 5;
const READ: i8 = 3;
const WRITE: i8 = 4;
const DESCRIBE: i8 = 8;
const PREFIXED: i8 = 4;
const LITERAL: i8 = 3;
const ALLOW: i8 = 3;
const PRINCIPAL: &str = "User:relay";

fn allow(servers: &Servers, kind: i8, name: &str, pattern: i8, operations: &[i8]) {
    let allowed = |operation: &i8| {
        AclCreation::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_resource_pattern_type(pattern)
            .with_principal(text(PRINCIPAL))
            .with_host(text("*"))
            .with_operation(*operation)
            .with_permission_type(ALLOW)
    };
    let request = CreateAclsRequest::default().with_creations(operations.iter().map(allowed).collect());
    let answer = call(&servers.kafka.bootstrap(), 2, &request);
    assert!(answer.results.iter().all(|result| result.error_code == 0), "{answer:?}");
}

fn revoke(servers: &Servers, kind: i8, name: &str, operation: i8) {
    let filter = DeleteAclsFilter::default()
        .with_resource_type_filter(kind)
        .with_resource_name_filter(Some(text(name)))
        .with_pattern_type_filter(LITERAL)
        .with_principal_filter(Some(text(PRINCIPAL)))
        .with_host_filter(None)
        .with_operation(operation)
        .with_permission_type(ALLOW);
    let request = DeleteAclsRequest::default().with_filters(vec![filter]);
    let answer = call(&servers.kafka.bootstrap(), 2, &request);
    assert!(answer.filter_results.iter().all(|result| !result.matching_acls.is_empty()), "{answer:?}");
}

fn set_password(servers: &Servers, password: &str) {
    const SCRAM_SHA_256: i8 = 1;
    const ITERATIONS: u32 = 4096;
    const SALT: &[u8] = b"a salt of tests";
    let mut salted = [0; 32];
    let iterations = ITERATIONS.try_into().expect("not zero");
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, SALT, password.as_bytes(), &mut salted);
    let credential = ScramCredentialUpsertion::default()
        .with_name(text("relay"))
        .with_mechanism(SCRAM_SHA_256)
        .with_iterations(ITERATIONS.try_into().expect("a small number"))
        .with_salt(Bytes::from_static(SALT))
        .with_salted_password(Bytes::copy_from_slice(&salted));
    let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![credential]);
    let answer = call(&servers.kafka.bootstrap(), 0, &request);
    assert!(answer.results.iter().all(|result| result.error_code == 0), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_and_a_password_that_is_changed_are_waited_for() {
    let servers = Servers::start_with(&[], GUARDED).await;
    let source = servers.source().await;
    assert!(source.init().status.success(), "topics are made by one who may");
    let properties = "[kafka.properties]\n\"security.protocol\" = \"sasl_plaintext\"\n\
                      \"sasl.mechanisms\" = \"SCRAM-SHA-256\"\n\"sasl.username\" = \"relay\"\n\
                      \"sasl.password\" = \"first\"\n[[source]]";
    source.configure(&source.linked_config().replace("[[source]]", properties));
    set_password(&servers, "first");
    let (topic, position) = (source.topic(), "tailrace.p");
    allow(&servers, TRANSACTIONAL_ID, "tailrace-", PREFIXED, &[WRITE, DESCRIBE]);
    allow(&servers, TOPIC, position, PREFIXED, &[READ, WRITE, DESCRIBE]);
    allow(&servers, TOPIC, &source.dead_letter_topic(), LITERAL, &[READ, WRITE, DESCRIBE]);
    allow(&servers, TOPIC, &topic, LITERAL, &[READ, WRITE, DESCRIBE]);

    let relay = source.running().await;
    let mut writer = Writer::default();
    writer.write(&source, 5, 3).await;
    writer.check(&source).await;

    revoke(&servers, TOPIC, &topic, WRITE);
    writer.write(&source, 5, 3).await;
    relay.not_ready_because("Topic authorization failed").await;
    tries_again(&source, 4).await;
    relay.not_ready_because("Topic authorization failed").await;
    allow(&servers, TOPIC, &topic, LITERAL, &[WRITE]);
    check_waited(&source, &relay, &writer, "Topic authorization failed").await;

    set_password(&servers, "second");
    // Who is connected stays so.
    let lost = servers.link.trap(Pattern::kafka(api::PRODUCE, &topic), At::Request);
    writer.write(&source, 5, 3).await;
    lost.caught().cut();
    relay.not_ready_because("Authentication failed").await;
    set_password(&servers, "first");
    check_waited(&source, &relay, &writer, "Authentication failed").await;
    assert!(!relay.log().contains("\"first\""), "a secret is not logged");
}

/// Waits until the relay has initialised its producers so many times more.
async fn tries_again(source: &Source<'_>, times: usize) {
    let init = Pattern::kafka(api::INIT_PRODUCER_ID, format!("tailrace-{}-0", source.name));
    let (link, deadline) = (&source.servers.link, Instant::now() + DEADLINE);
    let from = link.count();
    while link.places(from, &init).len() < times {
        assert!(Instant::now() < deadline, "it does not try again");
        tokio::task::yield_now().await;
    }
}
