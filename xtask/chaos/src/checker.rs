//! The comparison of the outbox with the topics. Pure: it is given every committed row and every record that a
//! `read_committed` reader finds, and says what does not fit.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many breaches of a kind are described; all are counted.
const DESCRIBED_MAX: u64 = 3;

/// A committed row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) event_type: String,
    pub(crate) payload: String,
    pub(crate) owner: Option<String>,
}

/// A record of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// The headers that say which row it was; `None` if one is missing or cannot be read.
    pub(crate) header: Option<Header>,
}

/// What the headers of a record say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) event_type: String,
    pub(crate) owner: Option<String>,
    /// Where the row stands in the log: its transaction's commit, and its place in there.
    pub(crate) position: (u64, u64),
}

/// Where a row must have gone.
pub(crate) trait Places {
    /// The topic of an event type.
    fn topic(&self, event_type: &str) -> String;
    /// The partition of a key.
    fn partition(&self, key: &str) -> i32;
}

/// How often each guarantee was broken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Rows that no record was made of.
    pub(crate) lost: u64,
    /// Records of a row that another record was made of before.
    pub(crate) duplicated: u64,
    /// Records that stand behind a later one of their key, or of their partition.
    pub(crate) reordered: u64,
    /// Records of no committed row.
    pub(crate) phantom: u64,
    /// Records that differ from their row, or stand in the wrong place.
    pub(crate) corrupt: u64,
}

impl Counts {
    /// Whether everything that is promised was kept.
    pub(crate) fn keep(&self, delivery: Delivery) -> bool {
        let duplicated = match delivery {
            Delivery::ExactlyOnce => 0,
            Delivery::AtLeastOnce => self.duplicated,
        };
        *self == Self { duplicated, ..Self::default() }
    }
}

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Delivery {
    /// Every event once.
    ExactlyOnce,
    /// Every event, now and then again.
    AtLeastOnce,
}

impl fmt::Display for Delivery {
    /// As the relay's configuration spells it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExactlyOnce => "exactly-once",
            Self::AtLeastOnce => "at-least-once",
        })
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) counts: Counts,
    /// The first breaches, in the order of the partitions; the lost ones after the others.
    pub(crate) breaches: Vec<String>,
}

/// One more of a kind; the first are described.
fn add(count: &mut u64, breaches: &mut Vec<String>, breach: impl FnOnce() -> String) {
    *count += 1;
    if *count <= DESCRIBED_MAX {
        breaches.push(breach());
    }
}

/// Compares. The records of each partition must be in the order of their offsets.
pub(crate) fn compare(
    rows: &[Row],
    records: &[Record],
    rolled_back: &BTreeSet<Uuid>,
    places: &impl Places,
) -> Findings {
    let rows_by_id: HashMap<Uuid, &Row> = rows.iter().map(|row| (row.id, row)).collect();
    let (mut counts, mut breaches) = (Counts::default(), Vec::new());
    let mut first: HashMap<Uuid, &Record> = HashMap::new();
    let mut order = Order::default();
    for record in records {
        let known = record.header.as_ref().and_then(|header| Some((header, *rows_by_id.get(&header.id)?)));
        let Some((header, row)) = known else {
            add(&mut counts.phantom, &mut breaches, || phantom(record, rolled_back));
            continue;
        };
        if let Some(before) = first.get(&row.id) {
            add(&mut counts.duplicated, &mut breaches, || {
                format!("duplicated: {} and again {}", place(before), place(record))
            });
            continue;
        }
        first.insert(row.id, record);
        if let Some(difference) = difference(row, record, header, places) {
            add(&mut counts.corrupt, &mut breaches, || {
                format!("corrupt: {difference}: {} was made of {row:?}", place(record))
            });
        }
        if let Some(later) = order.is_late(row, record, header) {
            add(&mut counts.reordered, &mut breaches, || {
                format!("reordered: {} stands behind {}", place(record), place(later))
            });
        }
    }
    for row in rows.iter().filter(|row| !first.contains_key(&row.id)) {
        add(&mut counts.lost, &mut breaches, || lost(row, rows, &first));
    }
    Findings { counts, breaches }
}

/// How a record differs from its row, if it does.
fn difference(row: &Row, record: &Record, header: &Header, places: &impl Places) -> Option<&'static str> {
    if record.payload != row.payload.as_bytes() {
        return Some("another payload");
    }
    if record.key != row.key.as_bytes() {
        return Some("another key");
    }
    if (header.version, &header.event_type, &header.owner) != (row.version, &row.event_type, &row.owner) {
        return Some("another version, type or owner");
    }
    if record.topic != places.topic(&row.event_type) {
        return Some("another topic");
    }
    (record.partition != places.partition(&row.key)).then_some("another partition")
}

/// The latest record so far of each key and of each partition, with what grows from one to the next.
#[derive(Default)]
struct Order<'a> {
    of_key: HashMap<String, Latest<'a, i64>>,
    of_partition: HashMap<(&'a str, i32), Latest<'a, (u64, u64)>>,
}

type Latest<'a, T> = (T, &'a Record);

impl<'a> Order<'a> {
    /// The record before this one that should have come after it. A gap is no disorder: what is missing is lost.
    fn is_late(&mut self, row: &Row, record: &'a Record, header: &Header) -> Option<&'a Record> {
        let of_key = self.of_key.entry(row.key.clone()).or_insert((row.version, record));
        let place = (record.topic.as_str(), record.partition);
        let of_partition = self.of_partition.entry(place).or_insert((header.position, record));
        if row.version < of_key.0 {
            return Some(of_key.1);
        }
        if header.position < of_partition.0 {
            return Some(of_partition.1);
        }
        *of_key = (row.version, record);
        *of_partition = (header.position, record);
        None
    }
}

fn place(record: &Record) -> String {
    let Record { topic, partition, offset, .. } = record;
    let what = match &record.header {
        Some(Header { id, version, position: (lsn, ordinal), .. }) => {
            let key = String::from_utf8_lossy(&record.key);
            format!(
                "event {id} ({key}, version {version}, log {:X}/{:X}/{ordinal})",
                lsn >> 32,
                lsn & 0xffff_ffff
            )
        }
        None => "a record without readable headers".to_owned(),
    };
    format!("{what} at {topic}/{partition}, offset {offset}")
}

fn phantom(record: &Record, rolled_back: &BTreeSet<Uuid>) -> String {
    let is_rolled_back = record.header.as_ref().is_some_and(|header| rolled_back.contains(&header.id));
    let why =
        if is_rolled_back { "its transaction was rolled back" } else { "no row of the outbox has this id" };
    format!("phantom: {}: {why}", place(record))
}

/// A lost row, with its neighbours of the same key, which tell where it should be.
fn lost(row: &Row, rows: &[Row], found: &HashMap<Uuid, &Record>) -> String {
    let of_key: BTreeMap<i64, &Row> =
        rows.iter().filter(|other| other.key == row.key).map(|other| (other.version, other)).collect();
    let tell = |neighbour: Option<(&i64, &&Row)>| {
        let record = neighbour.and_then(|(_, row)| found.get(&row.id));
        record.map_or_else(|| "nothing".to_owned(), |record| place(record))
    };
    let published = |(_, row): &(&i64, &&Row)| found.contains_key(&row.id);
    let before = of_key.range(..row.version).rev().find(published);
    let after = of_key.range(row.version + 1..).find(published);
    let Row { id, key, version, event_type, .. } = row;
    format!(
        "lost: event {id} ({key}, version {version}, {event_type}); of its key there is before it {}; after it {}",
        tell(before),
        tell(after)
    )
}

/// The partition that every Kafka client gives a key, unless told otherwise: its murmur2 hash, as Java counts.
pub(crate) fn murmur2_partition(key: &[u8], partitions: i32) -> i32 {
    let positive = i32::from_ne_bytes((murmur2(key) & 0x7fff_ffff).to_ne_bytes());
    positive % partitions
}

fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).expect("a key is no longer than a frame");
    let mut hash = SEED ^ length;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().expect("chunks of four")).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    for (index, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    //! Each kind of breach is planted once: a comparison that finds nothing must be able to find it.

    use super::*;

    struct OnePartition;

    impl Places for OnePartition {
        fn topic(&self, event_type: &str) -> String {
            event_type.trim_end_matches(".v1").to_owned()
        }

        fn partition(&self, _key: &str) -> i32 {
            0
        }
    }

    fn row(number: u128, key: &str, version: i64) -> Row {
        Row {
            id: Uuid::from_u128(number),
            key: key.to_owned(),
            version,
            event_type: "thing.made.v1".to_owned(),
            payload: format!("{{\"version\":  {version}}}"),
            owner: Some("users/1".to_owned()),
        }
    }

    fn record(row: &Row, offset: u32) -> Record {
        Record {
            topic: "thing.made".to_owned(),
            partition: 0,
            offset: offset.into(),
            key: row.key.clone().into_bytes(),
            payload: row.payload.clone().into_bytes(),
            header: Some(Header {
                id: row.id,
                version: row.version,
                event_type: row.event_type.clone(),
                owner: row.owner.clone(),
                position: (offset.into(), 0),
            }),
        }
    }

    /// Publishes a(1), a(2), b(1) in this order, changes the last record, and looks for these findings.
    #[track_caller]
    fn check(order: &[usize], change: impl Fn(&mut Record), expected: Counts, first: &str) {
        let rows = [row(1, "a", 1), row(2, "a", 2), row(3, "b", 1)];
        let mut records: Vec<Record> =
            order.iter().zip(1..).map(|(index, offset)| record(&rows[*index], offset)).collect();
        records.iter_mut().rev().take(1).for_each(change);
        let rolled_back = BTreeSet::from([Uuid::from_u128(9)]);
        let findings = compare(&rows, &records, &rolled_back, &OnePartition);
        assert_eq!(findings.counts, expected, "{:?}", findings.breaches);
        let told = findings.breaches.first().map_or("", String::as_str);
        assert!(told.contains(first), "{told:?} does not say {first:?}");
    }

    fn header(change: impl Fn(&mut Header)) -> impl Fn(&mut Record) {
        move |record| change(record.header.as_mut().expect("a header"))
    }

    #[test]
    fn every_row_once_and_in_its_place_is_no_breach() {
        check(&[0, 1, 2], |_| {}, Counts::default(), "");
        check(&[2, 0, 1], |_| {}, Counts::default(), "");
    }

    #[test]
    fn what_is_duplicated_breaks_only_exactly_once() {
        let duplicated = Counts { duplicated: 1, ..Counts::default() };
        assert!(!duplicated.keep(Delivery::ExactlyOnce) && duplicated.keep(Delivery::AtLeastOnce));
        for counts in [
            Counts { lost: 1, ..duplicated.clone() },
            Counts { reordered: 1, ..duplicated.clone() },
            Counts { phantom: 1, ..duplicated.clone() },
            Counts { corrupt: 1, ..duplicated },
        ] {
            assert!(!counts.keep(Delivery::ExactlyOnce) && !counts.keep(Delivery::AtLeastOnce));
        }
        assert!(Counts::default().keep(Delivery::ExactlyOnce));
    }

    #[test]
    fn a_lost_event_is_found_with_its_neighbours() {
        check(
            &[0, 2],
            |_| {},
            Counts { lost: 1, ..Counts::default() },
            "lost: event 00000000-0000-0000-0000-000000000002",
        );
        check(&[1, 2], |_| {}, Counts { lost: 1, ..Counts::default() }, "before it nothing; after it event");
        check(&[], |_| {}, Counts { lost: 3, ..Counts::default() }, "lost");
    }

    #[test]
    fn a_duplicated_event_is_found() {
        check(&[0, 1, 2, 1], |_| {}, Counts { duplicated: 1, ..Counts::default() }, "offset 2 and again");
    }

    #[test]
    fn reordered_events_of_a_key_are_found_and_a_gap_is_none() {
        check(
            &[1, 0, 2],
            |_| {},
            Counts { reordered: 1, ..Counts::default() },
            "offset 2 stands behind event",
        );
        check(&[1, 2], |_| {}, Counts { lost: 1, ..Counts::default() }, "lost");
    }

    #[test]
    fn a_partition_that_goes_back_in_the_log_is_found() {
        let back = header(|header| header.position = (0, 0));
        check(&[0, 1, 2], back, Counts { reordered: 1, ..Counts::default() }, "reordered");
    }

    #[test]
    fn a_phantom_is_found_and_told_apart() {
        let both = Counts { phantom: 1, lost: 1, ..Counts::default() };
        check(&[0, 1, 2], header(|header| header.id = Uuid::from_u128(9)), both.clone(), "was rolled back");
        check(
            &[0, 1, 2],
            header(|header| header.id = Uuid::from_u128(8)),
            both.clone(),
            "no row of the outbox",
        );
        check(&[0, 1, 2], |record| record.header = None, both, "without readable headers");
    }

    #[test]
    fn a_corrupt_event_is_found_whatever_it_is_that_differs() {
        let corrupt = || Counts { corrupt: 1, ..Counts::default() };
        check(&[0, 1, 2], |record| record.payload.push(b' '), corrupt(), "another payload");
        check(&[0, 1, 2], |record| record.key.push(b' '), corrupt(), "another key");
        check(&[0, 1, 2], |record| record.topic.push('x'), corrupt(), "another topic");
        check(&[0, 1, 2], |record| record.partition = 3, corrupt(), "another partition");
        check(&[0, 1, 2], header(|header| header.version = 7), corrupt(), "another version");
        check(&[0, 1, 2], header(|header| header.owner = None), corrupt(), "owner");
        check(&[0, 1, 2], header(|header| header.event_type.clear()), corrupt(), "type");
    }

    /// From Kafka's own tests of its hash.
    #[test]
    fn keys_hash_as_in_java() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("abc", 479_470_107),
        ] {
            assert_eq!(i32::from_ne_bytes(murmur2(key.as_bytes()).to_ne_bytes()), hash, "{key}");
        }
    }
}
