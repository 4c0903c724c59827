//! Who sees what: users what is theirs, operators everything, nobody else anything.

use std::collections::BTreeSet;

use tailrace::relay::v1::source::State;
use tailrace::relay::v1::{GetSourceRequest, ListSourcesRequest, Source};
use tailrace::stream::v1::watch_request::Start;
use tonic::{Code, Status};

use crate::support::caller::{Caller, id_in, new_order};
use crate::support::record::parse_lsn;
use crate::support::subscriber::{Subscriber, earliest, live};
use crate::support::system::System;
use crate::support::truth::TOPICS;
use crate::support::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_told_only_of_what_is_theirs() {
    let system = System::shared().await;
    let mut all = Subscriber::start(&system.operator().await, TOPICS, live()).await;
    let (alice, bob) = (system.customer("Alice").await, system.customer("Bob").await);
    let mut hers = Subscriber::start(&alice, &[], earliest()).await;
    let orders = [alice.place_order().await, bob.place_order().await, alice.place_order().await];
    for order in &orders {
        all.event("every order", |event| event.key == id_in(&order.name)).await;
    }

    let expected = BTreeSet::from([id_in(&alice.user), id_in(&orders[0].name), id_in(&orders[2].name)]);
    let expected: BTreeSet<String> = expected.into_iter().map(str::to_owned).collect();
    let told = hers.until("her three events", |seen| seen.events.len() >= 3).await;
    assert_eq!(keys(&told.events), expected, "live");
    let replayed = alice.watch_to_the_end(&[], earliest()).await;
    assert_eq!((replayed.len(), keys(&replayed)), (3, expected), "from the beginning");
    // The cursor of another leads her to nothing but what is hers.
    let cursor = all.until("anything", |seen| !seen.cursor.is_empty()).await.cursor;
    assert_eq!(alice.watch_to_the_end(TOPICS, Start::Cursor(cursor)).await, []);
}

fn keys(events: &[tailrace::event::v1::Event]) -> BTreeSet<String> {
    events.iter().map(|event| String::from_utf8(event.key.to_vec()).expect("UTF-8")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_and_the_relay_are_for_operators() {
    let system = System::shared().await;
    let customer = system.customer("Carol").await;
    check_refused(customer.watch(&["dead-letter"], live()).await, Code::PermissionDenied);
    check_refused(list_sources(&customer).await, Code::PermissionDenied);
    check_refused(get_source(&customer, "sources/users").await, Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_token_there_is_nothing() {
    let system = System::shared().await;
    let customer = system.customer("Dan").await;
    let cut = &customer.token()[..customer.token().len() - 4];
    for nobody in [system.anyone(), customer.clone().with_token("nonsense"), customer.clone().with_token(cut)]
    {
        check_refused(nobody.watch(&[], live()).await, Code::Unauthenticated);
        check_refused(list_sources(&nobody).await, Code::Unauthenticated);
        check_refused(get_source(&nobody, "sources/users").await, Code::Unauthenticated);
        let order = nobody.request(new_order("Guide vane", 1));
        check_refused(nobody.create_order(order).await, Code::Unauthenticated);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_how_far_the_relay_is() {
    let system = System::shared().await;
    let operator = system.operator().await;
    let mut subscriber = Subscriber::start(&operator, TOPICS, live()).await;
    let order = operator.place_order().await;
    subscriber.event("the order", |event| event.key == id_in(&order.name)).await;

    let names: Vec<_> = list_sources(&operator).await.expect("sources").into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["sources/users", "sources/orders"]);
    for name in names {
        let look = || async {
            let source = get_source(&operator, &name).await.expect("the source");
            is_quiet(&source).then_some(source)
        };
        check_figures(&until("a source with nothing to do", look).await);
    }
    check_refused(get_source(&operator, "sources/unknown").await, Code::NotFound);
}

/// Other tests write meanwhile, so that this is true only between two of their events.
fn is_quiet(source: &Source) -> bool {
    let lag = source.lag.as_ref().expect("a lag");
    source.in_flight_events == 0
        && source.oldest_unpublished_time.is_none()
        && (lag.seconds, lag.nanos) == (0, 0)
}

#[track_caller]
fn check_figures(source: &Source) {
    assert_eq!((source.state(), source.problem.as_str()), (State::Streaming, ""), "{source:?}");
    assert!(source.published_events > 0, "{source:?}");
    let slot = source.slot.as_ref().expect("a slot");
    assert_eq!(format!("tailrace_{}", source.name.strip_prefix("sources/").expect("a name")), slot.slot_name);
    assert!(slot.active && slot.publication_covers_outbox, "{slot:?}");
    assert_eq!(slot.wal_status, "reserved");
    let [position, wal_end] = [&source.position, &source.wal_end].map(|lsn| parse_lsn(lsn));
    let [confirmed, restart] = [&slot.confirmed_flush_lsn, &slot.restart_lsn].map(|lsn| parse_lsn(lsn));
    assert!(restart <= confirmed && confirmed <= position && position <= wal_end, "{source:?}");
    assert_eq!(u64::try_from(source.lag_bytes), Ok(wal_end - position));
}

async fn list_sources(caller: &Caller) -> Result<Vec<Source>, Status> {
    let request = caller.request(ListSourcesRequest::default());
    Ok(caller.relay.clone().list_sources(request).await?.into_inner().sources)
}

async fn get_source(caller: &Caller, name: &str) -> Result<Source, Status> {
    let request = caller.request(GetSourceRequest { name: name.to_owned() });
    Ok(caller.relay.clone().get_source(request).await?.into_inner())
}

#[track_caller]
fn check_refused<T>(answer: Result<T, Status>, code: Code) {
    assert_eq!(answer.err().map(|status| status.code()), Some(code));
}
