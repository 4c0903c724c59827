//! Somebody who watches all the time: when his stream breaks he watches again with his last cursor.

use tailrace::event::v1::Event;
use tailrace::stream::v1::watch_request::{Earliest, Live, Start};
use tailrace::stream::v1::watch_response::Message;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::caller::Caller;
use super::{DEADLINE, ticks};

/// Where to start.
pub(crate) fn live() -> Start {
    Start::Live(Live {})
}

pub(crate) fn earliest() -> Start {
    Start::Earliest(Earliest {})
}

/// What a subscriber has been told so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Every event, in the order of arrival.
    pub(crate) events: Vec<Event>,
    /// Of the last response.
    pub(crate) cursor: String,
    /// How often he had to watch again.
    pub(crate) resumed: usize,
    caught_up: bool,
}

/// A subscriber, in a task of his own until this is dropped.
pub(crate) struct Subscriber {
    seen: watch::Receiver<Seen>,
    _task: JoinSet<()>,
}

impl Subscriber {
    /// Begins to watch and waits until what follows is live.
    pub(crate) async fn start(caller: &Caller, topics: &'static [&'static str], start: Start) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let mut task = JoinSet::new();
        task.spawn(follow(caller.clone(), topics, start, sender));
        let mut subscriber = Self { seen, _task: task };
        subscriber.until("the end of the topics", |seen| seen.caught_up).await;
        subscriber
    }

    /// Waits until what he has seen is as it should be.
    pub(crate) async fn until(&mut self, what: &str, is_it: impl FnMut(&Seen) -> bool) -> Seen {
        if let Ok(seen) = timeout(DEADLINE, self.seen.wait_for(is_it)).await {
            return seen.expect("the subscriber is alive").clone();
        }
        panic!("waited in vain for {what}; seen were {} events", self.seen.borrow().events.len())
    }

    /// Waits for an event.
    pub(crate) async fn event(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) -> Event {
        let seen = self.until(what, |seen| seen.events.iter().any(&is_it)).await;
        seen.events.into_iter().find(is_it).expect("it was seen")
    }

    /// What he has seen once it is that many events, or when the time is up: the comparison tells what is missing.
    pub(crate) async fn after(mut self, count: usize) -> Seen {
        let _ = timeout(DEADLINE, self.seen.wait_for(|seen| seen.events.len() >= count)).await;
        self.seen.borrow().clone()
    }
}

async fn follow(caller: Caller, topics: &'static [&'static str], start: Start, seen: watch::Sender<Seen>) {
    let mut ticks = ticks();
    loop {
        let cursor = seen.borrow().cursor.clone();
        let start = if cursor.is_empty() { start.clone() } else { Start::Cursor(cursor) };
        let broken = match caller.watch(topics, start).await {
            Ok(mut stream) => loop {
                match stream.message().await {
                    Ok(Some(response)) => seen.send_modify(|seen| {
                        seen.cursor = response.cursor;
                        take(seen, response.message);
                    }),
                    Ok(None) => panic!("a stream ended without a status"),
                    Err(status) => break status,
                }
            },
            Err(status) => status,
        };
        assert!(is_passing(&broken), "this does not pass by itself: {broken:?}");
        seen.send_modify(|seen| seen.resumed += 1);
        ticks.tick().await;
    }
}

fn take(seen: &mut Seen, message: Option<Message>) {
    match message {
        Some(Message::Event(event)) => seen.events.push(event),
        Some(Message::CaughtUp(_)) => seen.caught_up = true,
        Some(Message::Heartbeat(_)) => {}
        other @ (Some(Message::Gap(_)) | None) => panic!("not expected: {other:?}"),
    }
}

/// Whether watching again may help. A connection that breaks without a status is `Unknown` or `Cancelled` to this client.
fn is_passing(status: &Status) -> bool {
    [Code::Unavailable, Code::Unknown, Code::Cancelled].contains(&status.code())
}
