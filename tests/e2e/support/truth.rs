//! What was committed, what lies in the topics, and the comparison of the two.

use std::collections::{BTreeMap, BTreeSet};

use tailrace::stream::v1::watch_request::Start;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::{JoinSet, block_in_place};

use super::DEADLINE;
use super::caller::Caller;
use super::record::Record;
use super::subscriber::{Seen, Subscriber};
use super::system::{Service, System};
use super::traffic::{Journal, PRODUCT, VISITOR};

/// The topics of both services.
pub(crate) const TOPICS: &[&str] = &["users.created", "orders.created"];

/// A committed row of an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) event_type: String,
    pub(crate) payload: String,
    pub(crate) owner: Option<String>,
}

impl System {
    /// Everything the outbox of a service holds.
    pub(crate) async fn outbox(&self, service: Service) -> Vec<Row> {
        let mut connections = JoinSet::new();
        let client = self.database(service, &mut connections).await;
        let sql =
            "select id::text, aggregate_id, aggregate_version, event_type, payload::text, owner from outbox";
        let rows = client.query(sql, &[]).await.expect("the outbox can be read");
        let row = |row: &tokio_postgres::Row| Row {
            id: row.get(0),
            key: row.get(1),
            version: row.get(2),
            event_type: row.get(3),
            payload: row.get(4),
            owner: row.get(5),
        };
        rows.iter().map(row).collect()
    }

    /// Everything a `read_committed` consumer sees in a topic, partition by partition.
    pub(crate) fn topic(&self, topic: &str) -> Vec<Record> {
        let mut records = block_in_place(|| read_topic(&self.stack.kafka().bootstrap(), topic));
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }
}

/// Compares the accounts of what happened: what was answered, what was committed, what lies in the topics, and what
/// one subscriber was told who watched both topics from their beginning.
pub(crate) async fn assert_exactly_once(
    system: &System,
    journal: &Journal,
    caller: &Caller,
    subscriber: Subscriber,
) -> Seen {
    let users = system.outbox(Service::Users).await;
    let orders = system.outbox(Service::Orders).await;
    assert_eq!(
        keys_with(&users, VISITOR),
        journal.users,
        "users in the outbox, and those that were answered"
    );
    assert_eq!(
        keys_with(&orders, PRODUCT),
        journal.orders,
        "orders in the outbox, and those that were answered"
    );

    let seen = subscriber.after(users.len() + orders.len()).await;
    for (service, rows) in [(Service::Users, users), (Service::Orders, orders)] {
        let published = system.topic(service.topic());
        assert_none(&format!("{service:?}: topic against outbox"), &breaches(&rows, &published));
        let of_topic = seen.events.iter().filter(|event| event.topic == service.topic());
        let mut told: Vec<Record> = of_topic.map(Record::from).collect();
        // A stable sort: within a partition the order of arrival stays.
        told.sort_by_key(|record| record.partition);
        assert!(told == published, "{service:?}: the subscriber was told {} events", told.len());
    }
    let more = caller.watch_to_the_end(TOPICS, Start::Cursor(seen.cursor.clone())).await;
    assert_eq!(more, [], "nothing follows what was seen");
    seen
}

fn keys_with(rows: &[Row], words: &str) -> BTreeSet<String> {
    rows.iter().filter(|row| row.payload.contains(words)).map(|row| row.key.clone()).collect()
}

fn read_topic(bootstrap: &str, topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "tests")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).expect("metadata");
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    let mut assignment = TopicPartitionList::new();
    for partition in partitions {
        assignment.add_partition_offset(topic, partition.id(), Offset::Beginning).expect("an offset");
    }
    consumer.assign(&assignment).expect("an assignment");
    let (mut records, mut ended) = (Vec::new(), 0);
    while ended < assignment.count() {
        match consumer.poll(DEADLINE).expect("the topic can be read in time") {
            Ok(message) => records.push(Record::from(&message)),
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    records
}

/// Every way in which the records of a topic (in the order of each partition) differ from the rows they were made
/// of; nothing when each row was published exactly once, unchanged and in its place.
pub(crate) fn breaches(rows: &[Row], records: &[Record]) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut published: BTreeMap<&str, &Record> = BTreeMap::new();
    for record in records {
        if let Some(first) = published.insert(record.id(), record) {
            breaches.push(format!(
                "repeated: {} at offsets {} and {}",
                record.id(),
                first.offset,
                record.offset
            ));
        }
    }
    for row in rows {
        match published.get(row.id.as_str()) {
            None => breaches.push(format!("lost: {row:?}")),
            Some(record) if !is_unchanged(row, record) => {
                breaches.push(format!("corrupt: {row:?} became {record:?}"));
            }
            Some(_) => {}
        }
    }
    let committed: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    let never_committed = published.iter().filter(|(id, _)| !committed.contains(*id));
    breaches.extend(never_committed.map(|(_, record)| format!("never committed: {record:?}")));
    breaches.extend(reordered(records));
    breaches
}

fn is_unchanged(row: &Row, record: &Record) -> bool {
    row.key == record.key
        && row.payload == record.payload
        && row.version == record.version()
        && row.event_type == record.header("ce_type")
        && row.owner.as_deref() == record.headers.get("tailrace_owner").map(String::as_str)
}

/// Versions of a key must follow each other from 1 on, and positions must grow within a partition.
fn reordered(records: &[Record]) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut versions: BTreeMap<&str, i64> = BTreeMap::new();
    let mut positions: BTreeMap<(&str, i32), (u64, u64)> = BTreeMap::new();
    for record in records {
        let before = versions.insert(&record.key, record.version()).unwrap_or(0);
        if record.version() != before + 1 {
            breaches.push(format!("reordered: {} has {} after {before}", record.key, record.version()));
        }
        let place = (record.topic.as_str(), record.partition);
        if positions.insert(place, record.position()).is_some_and(|before| before >= record.position()) {
            breaches.push(format!("reordered in {}/{}: offset {}", place.0, place.1, record.offset));
        }
    }
    breaches
}

/// What differs, a line each: an assertion's message that can be read.
#[track_caller]
pub(crate) fn assert_none(what: &str, breaches: &[String]) {
    let shown: Vec<_> = breaches.iter().take(20).map(String::as_str).collect();
    assert!(breaches.is_empty(), "{what}: {} breaches\n{}", breaches.len(), shown.join("\n"));
}

mod tests {
    //! A comparison that finds nothing must be able to find something.

    use super::*;

    fn row(key: &str, version: i64) -> Row {
        Row {
            id: format!("{key}-{version}"),
            key: key.to_owned(),
            version,
            event_type: "orders.created.v1".to_owned(),
            payload: format!("{{\"version\": {version}}}"),
            owner: None,
        }
    }

    fn record(row: &Row, offset: i64) -> Record {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Record {
            topic: "orders.created".to_owned(),
            partition: 0,
            offset,
            key: row.key.clone(),
            payload: row.payload.clone(),
            headers: BTreeMap::from([
                header("ce_id", &row.id),
                header("ce_type", &row.event_type),
                header("tailrace_aggregate_version", &row.version.to_string()),
                header("tailrace_position", &format!("0/{offset:X}/0")),
            ]),
        }
    }

    #[track_caller]
    fn check(order: &[usize], change: impl Fn(&mut Record), expected: &[&str]) {
        let rows = [row("a", 1), row("a", 2), row("b", 1)];
        let mut records: Vec<Record> =
            order.iter().zip(1..).map(|(index, offset)| record(&rows[*index], offset)).collect();
        records.iter_mut().take(1).for_each(change);
        let found = breaches(&rows, &records);
        let words: Vec<_> = found.iter().map(|breach| breach.split(':').next().unwrap_or_default()).collect();
        assert_eq!(words, expected, "{found:?}");
    }

    #[test]
    fn each_row_once_and_in_its_place_is_no_breach() {
        check(&[0, 1, 2], |_| {}, &[]);
        check(&[2, 0, 1], |_| {}, &[]);
    }

    #[test]
    fn every_breach_is_found_and_named() {
        check(&[0, 1], |_| {}, &["lost"]);
        check(&[0, 1, 2, 2], |_| {}, &["repeated", "reordered"]);
        check(&[1, 0, 2], |_| {}, &["reordered", "reordered"]);
        check(&[0, 1, 2], |record| record.payload.push(' '), &["corrupt"]);
        check(
            &[0, 1, 2],
            |record| {
                record.headers.insert("tailrace_position".to_owned(), "1/0/0".to_owned());
            },
            &["reordered in orders.created/0"],
        );
        check(
            &[0, 1, 2],
            |record| {
                record.headers.insert("ce_id".to_owned(), "rolled-back".to_owned());
            },
            &["lost", "never committed"],
        );
    }
}
