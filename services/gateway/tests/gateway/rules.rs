//! The service agrees with every rule of the contract, and answers what is hostile exactly.

use std::time::Duration;

use service_testing::{Hostile, Sample, assert_damaged, assert_hostile_texts, assert_rules};
use tailrace::stream::v1::{WatchRequest, event_stream_service_server::SERVICE_NAME};

use crate::support::{ALICE, Gateway, Topics, token};

const WATCH: &str = "tailrace.stream.v1.EventStreamService/Watch";

fn watch(topics: &Topics) -> Sample {
    let request = WatchRequest { topics: vec![topics.users.clone()], start: None };
    Sample::new(WATCH, &token(ALICE, Duration::from_secs(600)), &request)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_agrees_with_every_rule_of_the_contract() {
    let topics = Topics::make().await;
    let gateway = Gateway::ready(&topics, &[]).await;
    let sent = assert_rules(&gateway.channel(), SERVICE_NAME, &[watch(&topics)]).await;
    assert!(sent > 50, "the rules were found: {sent}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_texts_and_damaged_messages_get_an_exact_answer() {
    let topics = Topics::make().await;
    let gateway = Gateway::ready(&topics, &[]).await;
    let requests = [Hostile::new(watch(&topics), None)
        .where_allowed("topics", "TOPIC_NOT_FOUND")
        .always("cursor", "CURSOR_INVALID")];
    let answers = assert_hostile_texts(&gateway.channel(), SERVICE_NAME, &requests).await
        + assert_damaged(&gateway.channel(), SERVICE_NAME, &requests).await;
    assert!(answers > 90, "{answers}");
    gateway.stop().await;
}
