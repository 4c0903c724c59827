//! The watch, against a server that plays one script for each call.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tailrace::event::v1::Event;
use tailrace::stream::v1 as stream;
use tailrace_client::stream::v1::watch_response::Message;
use tailrace_client::stream::v1::{WatchRequest, WatchResponse};
use tailrace_client::{
    Backoff, Code, Credentials, Password, RetryOptions, Status, Watch, WatchOptions, WatchState,
};

use crate::server::{Fake, Running};

type Step = Result<stream::WatchResponse, Status>;

fn event(offset: i64) -> Step {
    let message = stream::watch_response::Message::Event(Event { offset, ..Event::default() });
    Ok(stream::WatchResponse { cursor: format!("after {offset}"), message: Some(message) })
}

fn caught_up() -> Step {
    let message = stream::watch_response::Message::CaughtUp(stream::watch_response::CaughtUp {});
    Ok(stream::WatchResponse { cursor: "end".to_owned(), message: Some(message) })
}

fn quick() -> WatchOptions {
    let wait = Duration::from_millis(1);
    WatchOptions { backoff: Backoff { base: wait, cap: wait }, ..WatchOptions::default() }
}

async fn play(calls: impl IntoIterator<Item = (Vec<Step>, bool)>, who: impl Into<Credentials>) -> Running {
    let fake = Fake::default();
    fake.with(|state| state.calls = calls.into_iter().collect());
    fake.run(who, RetryOptions::default()).await
}

/// The offsets of the first events, or what ended them.
async fn read(watch: &mut Watch, count: usize) -> Result<Vec<i64>, (Vec<i64>, Status)> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        match watch.next().await {
            Ok(WatchResponse { message: Some(Message::Event(event)), .. }) => offsets.push(event.offset),
            Ok(_) => {}
            Err(status) => return Err((offsets, status)),
        }
    }
    Ok(offsets)
}

#[tokio::test]
async fn it_begins_where_asked_and_goes_on_after_the_last_cursor() {
    let calls = [
        (vec![event(1), event(2), Err(Status::unavailable("draining"))], false),
        (vec![event(3)], false),
        (vec![caught_up(), event(4)], true),
    ];
    let running = play(calls, Credentials::Nobody).await;
    let states = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&states);
    let options =
        WatchOptions { on_state: Arc::new(move |state| seen.lock().unwrap().push(state)), ..quick() };
    let mut watch = running.tailrace.watch(WatchRequest::default(), options);
    assert_eq!(read(&mut watch, 4).await.unwrap(), [1, 2, 3, 4]);
    assert_eq!(running.server.with(|state| state.cursors.clone()), ["", "after 2", "after 3"]);
    let beginning = [WatchState::Connecting, WatchState::CatchingUp, WatchState::Waiting];
    let expected = [&beginning[..], &beginning, &[WatchState::Connecting, WatchState::Live]].concat();
    assert_eq!(*states.lock().unwrap(), expected);
    assert_eq!(watch.cursor(), Some("after 4"));
}

#[tokio::test]
async fn it_fails_when_another_call_would_fail_likewise_and_can_be_read_again() {
    let denied = Err(Status::permission_denied("not yours"));
    let running = play([(vec![event(7), denied], false), (vec![event(8)], true)], Credentials::Nobody).await;
    let mut watch = running.tailrace.watch(WatchRequest::default(), quick());
    let (offsets, status) = read(&mut watch, 2).await.unwrap_err();
    assert_eq!((offsets.as_slice(), status.code()), (&[7][..], Code::PermissionDenied));
    assert_eq!(watch.state(), WatchState::Failed);
    assert_eq!(read(&mut watch, 1).await.unwrap(), [8]);
    assert_eq!(running.server.with(|state| state.cursors.clone()), ["", "after 7"]);
}

#[tokio::test]
async fn it_goes_on_with_the_next_token_unless_that_is_refused_too() {
    let expired = || Err(Status::unauthenticated("expired"));
    let calls =
        [(vec![event(1), expired()], false), (vec![event(2), expired()], false), (vec![expired()], false)];
    let running = play(calls, Password::new("a@b.c", "p")).await;
    let mut watch = running.tailrace.watch(WatchRequest::default(), quick());
    let (offsets, status) = read(&mut watch, 3).await.unwrap_err();
    assert_eq!((offsets.as_slice(), status.code()), (&[1, 2][..], Code::Unauthenticated));
}

#[tokio::test]
async fn it_gives_a_silent_call_up_and_loses_nothing() {
    let running = play([(vec![event(1)], true), (vec![event(2)], true)], Credentials::Nobody).await;
    let options = WatchOptions { abandon_after: Duration::from_millis(100), ..quick() };
    let mut watch = running.tailrace.watch(WatchRequest::default(), options);
    assert_eq!(read(&mut watch, 2).await.unwrap(), [1, 2]);
    assert_eq!(running.server.with(|state| state.cursors.clone()), ["", "after 1"]);
}
