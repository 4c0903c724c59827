//! Where a stream of "the newest n events of each topic" starts. Pure.
//!
//! What counts are events that the caller may see, not offsets. Memory answers first; when it holds fewer than n and
//! Kafka holds older ones, [`Newest::wanted`] says which offsets have to be looked through.

use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
};

use tailrace_topics::Partition;

use crate::{
    event::Entry,
    feed::{Feed, Log},
    filter::Filter,
    subscription::Range,
};

/// How many offsets of a partition one look goes back at first, and how many at most in all: a caller who may see one
/// event in a million does not make the gateway read a topic to its beginning.
const WINDOW_OFFSETS: i64 = 1_000;
const LOOK_BACK_OFFSETS_MAX: i64 = 200_000;

/// The search for the start of the newest n events.
#[derive(Debug)]
pub struct Newest {
    count: usize,
    filter: Filter,
    partitions: BTreeMap<Partition, Candidates>,
    window_offsets: i64,
}

/// The visible events of one partition, the newest of them.
#[derive(Debug)]
struct Candidates {
    /// (offset, commit time), oldest first.
    events: Vec<(i64, i64)>,
    /// Everything from here on was looked through.
    searched_from: i64,
    /// Nothing before this is looked at.
    search_until: i64,
    /// Where the consumer stands.
    end: i64,
}

impl Newest {
    /// Looks through memory.
    pub fn in_memory(count: usize, filter: &Filter, topics: &BTreeSet<Arc<str>>, feed: &Feed) -> Self {
        let partitions = feed
            .logs()
            .filter(|(partition, _)| topics.contains(&partition.topic))
            .map(|(partition, log)| (partition.clone(), Candidates::in_memory(count, filter, log)))
            .collect();
        Self { count, filter: filter.clone(), partitions, window_offsets: WINDOW_OFFSETS }
    }

    /// The offsets to look through next; none when the search is over.
    pub fn wanted(&self) -> Vec<Range> {
        let found = self.found_by_topic();
        let short = |topic: &Arc<str>| found.get(topic).is_none_or(|found| *found < self.count);
        self.partitions
            .iter()
            .filter(|(partition, found)| short(&partition.topic) && found.searched_from > found.search_until)
            .map(|(partition, found)| Range {
                partition: partition.clone(),
                from: found.searched_from.saturating_sub(self.window_offsets).max(found.search_until),
                to: found.searched_from,
            })
            .collect()
    }

    /// Takes what was found in the ranges that were wanted, each partition's in the order of its offsets.
    pub fn take(&mut self, ranges: &[Range], entries: &[(Partition, Mark)]) {
        let mut older: BTreeMap<&Partition, Vec<(i64, i64)>> = BTreeMap::new();
        for (partition, mark) in entries {
            older.entry(partition).or_default().push((mark.offset, mark.commit_time_us));
        }
        for range in ranges {
            let Some(candidates) = self.partitions.get_mut(&range.partition) else { continue };
            let mut events = older.remove(&range.partition).unwrap_or_default();
            events.append(&mut candidates.events);
            candidates.events = events;
            candidates.searched_from = range.from;
        }
        self.window_offsets = self.window_offsets.saturating_mul(4);
    }

    /// What [`Newest::take`] needs to know of an event, if the caller may see it.
    pub fn mark(&self, entry: &Entry) -> Option<Mark> {
        let mark = Mark { offset: entry.offset, commit_time_us: entry.commit_time_us };
        self.filter.allows(entry).then_some(mark)
    }

    /// The offsets to start at.
    pub fn starts(&self) -> BTreeMap<Partition, i64> {
        let mut starts: BTreeMap<Partition, i64> =
            self.partitions.iter().map(|(partition, found)| (partition.clone(), found.end)).collect();
        for topic in self.found_by_topic().into_keys() {
            self.choose(&topic, &mut starts);
        }
        starts
    }

    /// Goes back from the end of all partitions of a topic at once, the latest commit first.
    fn choose(&self, topic: &Arc<str>, starts: &mut BTreeMap<Partition, i64>) {
        let mut tails = BinaryHeap::new();
        for (partition, found) in self.partitions.iter().filter(|(partition, _)| partition.topic == *topic) {
            tails.extend(found.events.last().map(|(_, time)| (*time, partition, found.events.len() - 1)));
        }
        for _ in 0..self.count {
            let Some((_, partition, index)) = tails.pop() else { return };
            let events = &self.partitions[partition].events;
            starts.insert(partition.clone(), events[index].0);
            if let Some(before) = index.checked_sub(1) {
                tails.push((events[before].1, partition, before));
            }
        }
    }

    fn found_by_topic(&self) -> BTreeMap<Arc<str>, usize> {
        let mut found = BTreeMap::new();
        for (partition, candidates) in &self.partitions {
            *found.entry(Arc::clone(&partition.topic)).or_default() += candidates.events.len();
        }
        found
    }
}

/// An event seen in passing.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    offset: i64,
    commit_time_us: i64,
}

impl Candidates {
    fn in_memory(count: usize, filter: &Filter, log: &Log) -> Self {
        let visible = log.entries().iter().rev().filter(|entry| filter.allows(entry)).take(count);
        let mut events: Vec<_> = visible.map(|entry| (entry.offset, entry.commit_time_us)).collect();
        events.reverse();
        Self {
            events,
            searched_from: log.first,
            search_until: log.start.max(log.next.saturating_sub(LOOK_BACK_OFFSETS_MAX)),
            end: log.next,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use tailrace_runtime::auth::Principal;

    use super::*;

    fn operator() -> Filter {
        Filter::of(&Principal {
            user: "users/op".to_owned(),
            operator: true,
            expires_at: SystemTime::UNIX_EPOCH,
        })
    }

    fn user() -> Filter {
        Filter::of(&Principal {
            user: "users/a".to_owned(),
            operator: false,
            expires_at: SystemTime::UNIX_EPOCH,
        })
    }

    fn entry(offset: i64, time: i64, owner: &str) -> Entry {
        Entry { offset, commit_time_us: time, owner: Some(Box::from(owner)), encoded: Bytes::new() }
    }

    fn t(number: i32) -> Partition {
        Partition::new("t", number)
    }

    /// Two partitions whose events lie on every second offset, as if each were a transaction.
    fn feed() -> Feed {
        let mut feed = Feed::new(1 << 20);
        for number in 0..2 {
            feed.handle_open(&t(number), 0, 0, 0);
            for event in 0..5_i64 {
                let owner = if event == 0 { "users/a" } else { "users/b" };
                feed.handle_entry(&t(number), entry(event * 2, event * 10 + i64::from(number), owner));
            }
            feed.handle_end(&t(number), 10);
        }
        feed
    }

    fn starts(count: usize, filter: &Filter) -> Vec<i64> {
        let newest = Newest::in_memory(count, filter, &BTreeSet::from([Arc::from("t")]), &feed());
        newest.starts().into_values().collect()
    }

    #[test]
    fn events_are_counted_across_partitions_by_their_commit_time() {
        assert_eq!(starts(1, &operator()), [10, 8]);
        assert_eq!(starts(2, &operator()), [8, 8]);
        assert_eq!(starts(3, &operator()), [8, 6]);
        assert_eq!(starts(100, &operator()), [0, 0]);
    }

    #[test]
    fn only_visible_events_count() {
        assert_eq!(starts(2, &user()), [0, 0]);
        assert_eq!(starts(1, &user()), [10, 0]);
    }

    #[test]
    fn what_memory_lacks_is_wanted_from_kafka() {
        let mut feed = Feed::new(1 << 20);
        feed.handle_open(&t(0), 0, 5_000, 0);
        let mut newest = Newest::in_memory(2, &operator(), &BTreeSet::from([Arc::from("t")]), &feed);
        let wanted = newest.wanted();
        assert_eq!(wanted, [Range { partition: t(0), from: 4_000, to: 5_000 }]);
        let seen = newest.mark(&entry(4_100, 1, "users/b")).expect("an operator sees all");
        newest.take(&wanted, &[(t(0), seen)]);
        let wanted = newest.wanted();
        assert_eq!(wanted, [Range { partition: t(0), from: 0, to: 4_000 }]);
        newest.take(&wanted, &[]);
        assert_eq!(newest.wanted(), []);
        assert_eq!(newest.starts(), BTreeMap::from([(t(0), 4_100)]));
    }

    #[test]
    fn enough_in_memory_asks_nothing_of_kafka() {
        let newest = Newest::in_memory(3, &operator(), &BTreeSet::from([Arc::from("t")]), &feed());
        assert_eq!(newest.wanted(), []);
    }
}
