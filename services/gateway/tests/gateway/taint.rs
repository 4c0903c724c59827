//! Fifty users, each with marked events: no byte that one of them is sent bears another's mark, wherever he starts and however
//! often he comes back.

use std::collections::BTreeSet;

use prost::Message as _;
use tailrace::stream::v1::{watch_request::Start, watch_response::Message};
use tailrace_runtime::task::spawn;
use tokio::time::timeout;

use crate::support::{DEADLINE, Gateway, OPERATOR, Topics, Writer, after, earliest, live};

/// Some names begin with another's.
const USERS: usize = 50;
/// Events of each, in both topics together.
const EVENTS: usize = 200;
const TRANSACTIONS: usize = 20;
const MARK: &str = "canary-";

fn user(number: usize) -> String {
    format!("users/u{number}")
}

/// What stands in an event's key, payload and headers.
fn mark(owner: &str, event: usize) -> String {
    format!("{MARK}{owner}.{event}")
}

/// Writes the events of all, and as many that are nobody's or dead.
fn write(topics: &Topics) {
    let writer = Writer::new(topics);
    let owners: Vec<String> = (0..USERS).map(user).collect();
    for transaction in 0..TRANSACTIONS {
        let numbers = transaction * EVENTS / TRANSACTIONS..(transaction + 1) * EVENTS / TRANSACTIONS;
        let marked = |owner: &str| numbers.clone().map(|event| mark(owner, event)).collect::<Vec<_>>();
        let mut events = Vec::new();
        for owner in owners.iter().map(String::as_str).chain(["", "users/", "u1", "users/u", "orders/u1"]) {
            events.extend(marked(owner).into_iter().map(|mark| (mark.clone(), mark, owner)));
        }
        let topic = if transaction % 2 == 0 { &topics.users } else { &topics.orders };
        writer.commit(topic, &events);
        writer.abort(topic, &events);
        writer.commit(&topics.dead_letter, &events);
    }
}

/// What one user was sent.
#[derive(Default)]
struct Sent {
    bytes: usize,
    streams: usize,
    events: BTreeSet<String>,
}

impl Sent {
    /// Looks at every byte of a response.
    fn take(&mut self, name: &str, response: &[u8]) {
        self.bytes += response.len();
        let text = String::from_utf8_lossy(response);
        for (at, _) in text.match_indices(MARK) {
            let rest = &text[at + MARK.len()..];
            assert!(
                rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')),
                "{name} was sent {rest:.40}"
            );
        }
    }
}

/// Reads on from one stream to the next until all of a user's events have come, with looks elsewhere between.
async fn follow(gateway: &Gateway, number: usize, foreign: &str) -> Sent {
    let name = user(number);
    let mut sent = Sent::default();
    let mut cursor = None;
    while sent.events.len() < EVENTS {
        let on = cursor.as_deref().map_or_else(earliest, after);
        let elsewhere = [live(), Start::Newest(7), after(foreign)];
        let (is_elsewhere, start) = match sent.streams % 4 {
            3 => (true, elsewhere[(number + sent.streams / 4) % elsewhere.len()].clone()),
            _ => (false, on),
        };
        let mut stream = gateway.watch(&name, &[], start).await.expect("a stream");
        sent.streams += 1;
        for _ in 0..5 + (number + sent.streams) % 17 {
            let response = timeout(DEADLINE, stream.streaming.message()).await.expect("in time");
            let response = response.expect("it goes on").expect("it goes on");
            sent.take(&name, &response.encode_to_vec());
            if let (Some(Message::Event(event)), false) = (&response.message, is_elsewhere) {
                let event = String::from_utf8(event.payload.to_vec()).expect("a mark");
                assert!(sent.events.insert(event.clone()), "{event} came twice");
            }
            if !is_elsewhere {
                cursor = Some(response.cursor);
            }
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_a_byte_of_anothers() {
    let topics = Topics::make().await;
    let gateway = std::sync::Arc::new(Gateway::ready(&topics, &[]).await);
    let mut operator = gateway.watch(OPERATOR, &[], live()).await.expect("a stream");
    operator.until_caught_up().await;
    let writing = tokio::task::spawn_blocking({
        let topics = topics.clone();
        move || write(&topics)
    });
    let following: Vec<_> = (0..USERS)
        .map(|number| {
            let (gateway, foreign) = (gateway.clone(), operator.cursor.clone());
            spawn("follow", async move { follow(&gateway, number, &foreign).await })
        })
        .collect();
    let (mut bytes, mut streams, mut events) = (0, 0, 0);
    for following in following {
        let sent = following.await.expect("nothing foreign");
        bytes += sent.bytes;
        streams += sent.streams;
        events += sent.events.len();
    }
    writing.await.expect("written");
    assert_eq!(events, USERS * EVENTS, "and everybody was sent what is his, once");
    eprintln!("{USERS} users, {streams} streams, {events} events, {bytes} bytes: nothing of another's");
    std::sync::Arc::into_inner(gateway).expect("all have ended").stop().await;
}
