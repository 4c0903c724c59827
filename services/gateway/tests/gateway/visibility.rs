//! Who sees what.

use tailrace::stream::v1::WatchRequest;
use tonic::{Code, Request};

use crate::support::{
    ALICE, BOB, Gateway, OPERATOR, Topics, Writer, earliest, live, numbered, reason, token,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_users_stream_holds_only_what_they_own() {
    let topics = Topics::make().await;
    let writer = Writer::new(&topics);
    let gateway = Gateway::ready(&topics, &[]).await;
    let mut live_stream = gateway.watch(ALICE, &[], live()).await.expect("a stream");
    live_stream.until_caught_up().await;
    for (owner, name) in [(ALICE, "alice"), (BOB, "bob"), ("", "nobody"), ("users/alice2", "other")] {
        for topic in [&topics.users, &topics.orders, &topics.dead_letter] {
            writer.commit(topic, &[("key".to_owned(), format!("{name} {topic}"), owner)]);
        }
    }
    let expected = [format!("alice {}", topics.users), format!("alice {}", topics.orders)];
    assert_eq!(live_stream.payloads(2).await, expected);
    // What follows in every partition shows that nothing else was on its way.
    writer.commit(&topics.users, &[("key".to_owned(), "last".to_owned(), ALICE)]);
    assert_eq!(live_stream.payloads(1).await, ["last"]);

    let mut replayed = gateway.watch(ALICE, &[], earliest()).await.expect("a stream");
    let seen = replayed.until_caught_up().await;
    assert_eq!(seen, [expected[0].as_str(), expected[1].as_str(), "last"]);
    let mut all = gateway.watch(OPERATOR, &[], earliest()).await.expect("a stream");
    assert_eq!(all.until_caught_up().await.len(), 13);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_for_operators() {
    let topics = Topics::make().await;
    Writer::new(&topics).commit_each(&topics.dead_letter, numbered("dead", 2));
    let gateway = Gateway::ready(&topics, &[]).await;
    let asked = [topics.dead_letter.as_str()];
    let refused = gateway.watch(ALICE, &asked, earliest()).await.err().expect("refused");
    assert_eq!(reason(&refused), (Code::PermissionDenied, "OPERATOR_ONLY".to_owned()));
    let mut stream = gateway.watch(OPERATOR, &asked, earliest()).await.expect("a stream");
    assert_eq!(stream.until_caught_up().await, ["dead-0", "dead-1"]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_gives_nobody_anothers_events() {
    let topics = Topics::make().await;
    let writer = Writer::new(&topics);
    let gateway = Gateway::ready(&topics, &[]).await;
    let mut operator = gateway.watch(OPERATOR, &[], live()).await.expect("a stream");
    operator.until_caught_up().await;
    for topic in [&topics.dead_letter, &topics.users] {
        writer.commit(topic, &[("key".to_owned(), "secret".to_owned(), "")]);
    }
    writer.commit_each(&topics.users, numbered("mine", 1));
    let start = crate::support::after(&operator.cursor);
    let mut stream = gateway.watch(ALICE, &[], start).await.expect("a stream");
    assert_eq!(stream.until_caught_up().await, ["mine-0"]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_there_is_no_stream() {
    let topics = Topics::make().await;
    let gateway = Gateway::ready(&topics, &[]).await;
    let request = Request::new(WatchRequest::default());
    let refused = gateway.client().await.watch(request).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let token = token(ALICE, std::time::Duration::from_secs(60));
    for altered in ["nonsense", &token[..token.len() - 4]] {
        let refused = gateway.watch_with(altered, &[], live()).await.err().expect("refused");
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    gateway.stop().await;
}
