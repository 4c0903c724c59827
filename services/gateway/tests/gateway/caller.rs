//! What a caller may ask.

use std::time::Duration;

use service_testing::assert_forgeries_refused;
use tailrace::stream::v1::{event_stream_service_server::SERVICE_NAME, watch_request::Start};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{ALICE, AUTHORITY, Gateway, OPERATOR, Topics, after, live, reason, token};

async fn refusal(gateway: &Gateway, topics: &[&str], start: Start) -> Status {
    gateway.watch(OPERATOR, topics, start).await.err().expect("refused")
}

fn field(status: &Status) -> String {
    let details = status.get_error_details();
    details.bad_request().map(|bad| bad.field_violations[0].field.clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_contract_does_not_allow_is_refused_with_the_field() {
    let topics = Topics::make().await;
    let gateway = Gateway::ready(&topics, &[]).await;
    for count in [0, -1, 10_001] {
        let status = refusal(&gateway, &[], Start::Newest(count)).await;
        assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, "newest"));
    }
    let twice = [topics.users.as_str(), topics.users.as_str()];
    assert_eq!(field(&refusal(&gateway, &twice, live()).await), "topics[1]");
    assert_eq!(field(&refusal(&gateway, &[""], live()).await), "topics[0]");
    assert_eq!(field(&refusal(&gateway, &["x"; 17], live()).await), "topics");
    let unknown = refusal(&gateway, &["tailrace.position.users"], live()).await;
    assert_eq!(reason(&unknown), (Code::NotFound, "TOPIC_NOT_FOUND".to_owned()));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_not_ours_is_refused() {
    let topics = Topics::make().await;
    let gateway = Gateway::ready(&topics, &[]).await;
    let mut stream = gateway.watch(OPERATOR, &[], live()).await.expect("a stream");
    stream.until_caught_up().await;
    let cut = &stream.cursor[..stream.cursor.len() - 1];
    for cursor in ["", "garbage", cut, &format!("{}A", stream.cursor)] {
        let refused = refusal(&gateway, &[], after(cursor)).await;
        assert_eq!(reason(&refused), (Code::InvalidArgument, "CURSOR_INVALID".to_owned()), "{cursor}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_limited_per_user_and_in_all() {
    let topics = Topics::make().await;
    let gateway = Gateway::ready(&topics, &["--streams-per-principal-max", "1", "--streams-max", "2"]).await;
    let first = gateway.watch(ALICE, &[], live()).await.expect("a stream");
    let refused = gateway.watch(ALICE, &[], live()).await.err().expect("refused");
    assert_eq!(reason(&refused), (Code::ResourceExhausted, "STREAMS_PER_PRINCIPAL_EXHAUSTED".to_owned()));
    let _second = gateway.watch(OPERATOR, &[], live()).await.expect("a stream");
    let refused = gateway.watch("users/third", &[], live()).await.err().expect("refused");
    assert_eq!(reason(&refused), (Code::ResourceExhausted, "STREAMS_EXHAUSTED".to_owned()));
    drop(first);
    let again = async {
        while gateway.watch(ALICE, &[], live()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::DEADLINE, again).await.expect("a stream that was left makes room");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_anew_too_often_is_told_to_wait() {
    let topics = Topics::make().await;
    let limit = ["--rate-per-principal", "1", "--rate-burst-per-principal", "2"];
    let gateway = Gateway::ready(&topics, &limit).await;
    let token = token(ALICE, Duration::from_secs(600));
    let mut refused = None;
    // The first counts for the address, two make the burst; on a slow machine a second passes meanwhile, and lets one more in.
    for _ in 0..100 {
        if let Err(status) = gateway.watch_with(&token, &[], live()).await {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.expect("refused");
    assert_eq!(reason(&refused), (Code::ResourceExhausted, "RATE_LIMIT_EXCEEDED".to_owned()));
    let details = refused.get_error_details();
    let wait = details.retry_info().and_then(|info| info.retry_delay).expect("when to come back");
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token() {
    let topics = Topics::make().await;
    let gateway = Gateway::ready(&topics, &[]).await;
    let token = token(ALICE, Duration::from_secs(2));
    let mut stream = gateway.watch_with(&token, &[], live()).await.expect("a stream");
    assert_eq!(reason(&stream.end().await), (Code::Unauthenticated, "TOKEN_EXPIRED".to_owned()));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_are_refused_in_the_same_words() {
    let topics = Topics::make().await;
    // Calls without a token that holds are limited by address.
    let unlimited = ["--rate-per-address=1000000", "--rate-burst-per-address=1000000"];
    let gateway = Gateway::ready(&topics, &unlimited).await;
    let mut stream = gateway.watch(ALICE, &[], live()).await.expect("a stream");
    stream.until_caught_up().await;
    let others = [("a cursor", stream.cursor.clone())];
    assert_forgeries_refused(&gateway.channel(), SERVICE_NAME, &AUTHORITY.forger(ALICE), &others).await;
    gateway.stop().await;
}
