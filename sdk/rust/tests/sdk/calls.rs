//! Retry, session, pages and failures.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use tailrace_client::order::v1::{CreateOrderRequest, GetOrderRequest, ListOrdersRequest};
use tailrace_client::relay::v1::RedriveDeadLetterRequest;
use tailrace_client::{
    Backoff, Code, Credentials, Endpoints, Password, RetryOptions, Status, connect, failure_of,
};
use tonic::Request;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::server::{Fake, away};

fn quick() -> RetryOptions {
    let wait = Duration::from_millis(1);
    RetryOptions { backoff: Backoff { base: wait, cap: wait }, ..RetryOptions::default() }
}

fn account() -> Password {
    Password::new("a@b.c", "p")
}

#[tokio::test]
async fn a_call_to_a_service_that_is_away_is_sent_again_with_one_request_id() {
    let server = Fake::failing([away(Duration::ZERO), away(Duration::ZERO)]);
    let running = server.run(Credentials::Nobody, quick()).await;
    running.tailrace.orders().create_order(CreateOrderRequest::default()).await.unwrap();
    let ids = running.server.with(|state| state.request_ids.clone());
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[0].len(), 36);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn a_request_id_that_was_given_is_kept() {
    let running = Fake::failing([away(Duration::ZERO)]).run(Credentials::Nobody, quick()).await;
    let request = CreateOrderRequest { request_id: "mine".to_owned(), ..CreateOrderRequest::default() };
    running.tailrace.orders().create_order(request).await.unwrap();
    assert_eq!(running.server.with(|state| state.request_ids.clone()), ["mine", "mine"]);
}

#[tokio::test]
async fn the_wait_is_as_long_as_the_server_asks() {
    let running = Fake::failing([away(Duration::from_millis(150))]).run(Credentials::Nobody, quick()).await;
    let start = Instant::now();
    running.tailrace.orders().get_order(GetOrderRequest::default()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn a_call_that_was_one_too_many_is_sent_again_when_the_server_says() {
    let exhausted = |reason: &str| {
        let mut details = ErrorDetails::with_error_info(reason, "tailrace", []);
        details.set_retry_info(Some(Duration::from_millis(150)));
        Status::with_error_details(Code::ResourceExhausted, "too many", details)
    };
    let running = Fake::failing([exhausted("RATE_LIMIT_EXCEEDED")]).run(Credentials::Nobody, quick()).await;
    let start = Instant::now();
    running.tailrace.orders().get_order(GetOrderRequest::default()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150));

    let running = Fake::failing([exhausted("SIGN_IN_THROTTLED")]).run(Credentials::Nobody, quick()).await;
    let status = running.tailrace.orders().get_order(GetOrderRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "other limits are for people to wait for");
}

#[tokio::test]
async fn no_wait_passes_the_deadline() {
    let running = Fake::failing([away(Duration::from_secs(7))]).run(Credentials::Nobody, quick()).await;
    let mut request = Request::new(GetOrderRequest::default());
    request.set_timeout(Duration::from_secs(5));
    let start = Instant::now();
    let status = running.tailrace.orders().get_order(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_call_fails_in_the_end() {
    let running =
        Fake::failing([(); 5].map(|()| away(Duration::ZERO))).run(Credentials::Nobody, quick()).await;
    let status = running.tailrace.orders().get_order(GetOrderRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "away"));
    assert_eq!(running.server.with(|state| state.request_ids.len()), 5);
}

#[tokio::test]
async fn a_call_that_could_do_harm_twice_is_sent_once() {
    let running = Fake::failing([away(Duration::ZERO)]).run(Credentials::Nobody, quick()).await;
    let request = RedriveDeadLetterRequest::default();
    let status = running.tailrace.relay().redrive_dead_letter(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(running.server.with(|state| state.request_ids.len()), 1);
}

#[tokio::test]
async fn a_server_that_nobody_runs_is_unavailable() {
    let [users, orders, relay, gateway] = [(); 4].map(|()| "http://127.0.0.1:1".to_owned());
    let tailrace = connect(&Endpoints { users, orders, relay, gateway }, Credentials::Nobody).unwrap();
    let status = tailrace.relay().redrive_dead_letter(RedriveDeadLetterRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn a_session_signs_in_once_for_calls_at_the_same_time_and_renews_once() {
    let fake = Fake::default();
    // The first token is fresh for 80 ms, the next for long.
    fake.with(|state| state.life_ms = 100);
    let running = fake.run(account(), quick()).await;
    let get = || async {
        running.tailrace.orders().get_order(GetOrderRequest::default()).await.unwrap();
    };
    futures::join!(get(), get(), get());
    running.server.with(|state| state.life_ms = 0);
    let renewed = || running.server.with(|state| state.asked.len() > 1);
    while !renewed() {
        futures::join!(get(), get(), get());
    }
    futures::join!(get(), get(), get());
    assert_eq!(running.server.with(|state| state.asked.clone()), ["login", "refresh r1"]);
    let last = running.server.with(|state| state.tokens.last().cloned().flatten());
    assert_eq!(last.as_deref(), Some("Bearer a2"));
}

#[tokio::test]
async fn a_session_signs_in_anew_when_the_refresh_token_is_not_taken() {
    let fake = Fake::default();
    fake.with(|state| state.refresh_fails = true);
    let running = fake.run(account(), quick()).await;
    running.tailrace.renew().await.unwrap();
    running.tailrace.renew().await.unwrap();
    running.tailrace.sign_out().await.unwrap();
    let asked = running.server.with(|state| state.asked.clone());
    assert_eq!(asked, ["login", "refresh r1", "login", "logout r2"]);
}

#[tokio::test]
async fn a_call_that_is_refused_for_its_token_is_sent_with_the_next() {
    let details = ErrorDetails::with_error_info("TOKEN_INVALID", "tailrace", []);
    let refused = Status::with_error_details(Code::Unauthenticated, "not any more", details);
    let running = Fake::failing([refused]).run(account(), quick()).await;
    let request = RedriveDeadLetterRequest::default();
    running.tailrace.relay().redrive_dead_letter(request).await.unwrap();
    let tokens: Vec<_> = running.server.with(|state| state.tokens.iter().flatten().cloned().collect());
    assert_eq!(tokens, ["Bearer a1", "Bearer a2"]);
    assert_eq!(running.server.with(|state| state.asked.clone()), ["login", "refresh r1"]);
}

#[tokio::test]
async fn a_token_that_was_given_is_sent_as_it_is() {
    let running = Fake::default().run("t1".to_owned(), quick()).await;
    running.tailrace.orders().get_order(GetOrderRequest::default()).await.unwrap();
    assert_eq!(running.server.with(|state| state.tokens.clone()), [Some("Bearer t1".to_owned())]);
}

#[tokio::test]
async fn pages_are_asked_for_one_after_the_other_with_the_same_filter() {
    let running = Fake::default().run(Credentials::Nobody, quick()).await;
    let request = ListOrdersRequest { filter: "f".to_owned(), ..ListOrdersRequest::default() };
    let read = |_| async {
        running.server.with(|state| state.asked.push("read".to_owned()));
    };
    let pages: Vec<()> = running
        .tailrace
        .pages(request)
        .map_ok(read)
        .and_then(|read| async {
            read.await;
            Ok(())
        })
        .boxed()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(pages.len(), 2);
    assert_eq!(running.server.with(|state| state.asked.clone()), ["f ", "read", "f second", "read"]);
}

#[tokio::test]
async fn a_failure_names_its_reason_and_its_fields() {
    let mut details = ErrorDetails::with_error_info("INVALID_FIELDS", "tailrace", []);
    details.set_bad_request([FieldViolation::new("name", "is no name")]);
    let invalid = Status::with_error_details(Code::InvalidArgument, "the request is not valid", details);
    let running = Fake::failing([invalid]).run(Credentials::Nobody, quick()).await;
    let status = running.tailrace.orders().get_order(GetOrderRequest::default()).await.unwrap_err();
    let failure = failure_of(&status);
    assert_eq!((failure.code, failure.reason.as_str()), (Code::InvalidArgument, "INVALID_FIELDS"));
    assert_eq!(failure.message, "the request is not valid");
    assert_eq!(failure.fields["name"], "is no name");
}

#[test]
fn a_password_is_not_shown() {
    assert!(!format!("{:?}", Credentials::from(Password::new("a@b.c", "secret"))).contains("secret"));
}
