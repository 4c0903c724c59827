//! The gateway's view of the topics: the newest events of every partition in memory, and what lies around them.
//!
//! ```text
//!             start          first              next       end
//!  a log ──────┬───────────────┬─────────────────┬──────────┬──────►
//!   removed by │  only in      │  in memory      │ not read │
//!   retention  │  Kafka        │  (`entries`)    │ yet      │
//! ```
//!
//! Sans-IO: the consumer tells it what it read, subscriptions read from it. It knows no clock, client or task. Memory is
//! bounded in bytes over all partitions; the partition that holds most gives up its oldest event first, so that a busy
//! topic does not push out a quiet one.
//!
//! Offsets count Kafka's transaction markers and aborted records, so `next` moves past offsets without an event, and a
//! difference of offsets never counts events.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tailrace_topics::Partition;

use crate::event::Entry;

/// The most partitions one gateway reads: a cursor names each and is bounded in length.
pub const PARTITIONS_MAX: usize = 512;

/// All partitions.
#[derive(Debug)]
pub struct Feed {
    logs: BTreeMap<Partition, Log>,
    /// Which cluster the offsets belong to; see [`crate::cursor::cluster_mark`].
    cluster: u32,
    bytes: usize,
    bytes_max: usize,
}

/// One partition.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// The first offset that Kafka still holds, as last seen.
    pub start: i64,
    /// Every event from here to `next` is in memory.
    pub first: i64,
    /// The next offset the consumer reads.
    pub next: i64,
    /// The end of the log, as last seen; at least `next`.
    pub end: i64,
    /// Counts how often the topic was found to be made anew.
    pub generation: u32,
    /// Whether the consumer has reached the end since it began to read.
    pub current: bool,
}

impl Log {
    /// The events in memory.
    pub fn entries(&self) -> &VecDeque<Arc<Entry>> {
        &self.entries
    }

    fn restart(&mut self, from: i64) {
        self.entries.clear();
        self.bytes = 0;
        self.first = from;
        self.next = from;
    }
}

impl Feed {
    /// An empty feed that keeps at most `bytes_max` (and the newest event, however large).
    pub fn new(bytes_max: usize) -> Self {
        Self { logs: BTreeMap::new(), cluster: 0, bytes: 0, bytes_max }
    }

    /// The cluster that the offsets belong to.
    pub fn cluster(&self) -> u32 {
        self.cluster
    }

    /// The partition's log, if the consumer has found it.
    pub fn log(&self, partition: &Partition) -> Option<&Log> {
        self.logs.get(partition)
    }

    /// All partitions in their order.
    pub fn logs(&self) -> impl Iterator<Item = (&Partition, &Log)> {
        self.logs.iter()
    }

    /// What the events in memory cost.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the consumer has reached the end of everything it reads.
    pub fn is_current(&self) -> bool {
        !self.logs.is_empty() && self.logs.values().all(|log| log.current)
    }

    /// Handles a (new) connection to a cluster: offsets of another one mean nothing here.
    pub fn handle_cluster(&mut self, cluster: u32) {
        if self.cluster != 0 && self.cluster != cluster {
            for log in self.logs.values_mut() {
                log.generation += 1;
                log.restart(0);
            }
            self.bytes = 0;
        }
        self.cluster = cluster;
    }

    /// Handles a partition that is about to be read and whose log is `[start, end)`; answers from which offset.
    ///
    /// A partition seen for the first time is read from `look_back` offsets before its end; a known one goes on, unless
    /// retention has overtaken the consumer, or the log ends before it: then the topic was made anew.
    pub fn handle_open(&mut self, partition: &Partition, start: i64, end: i64, look_back: i64) -> i64 {
        let from = end.saturating_sub(look_back).max(start);
        let known = self.logs.contains_key(partition);
        let log = self.logs.entry(partition.clone()).or_default();
        self.bytes -= log.bytes;
        if !known {
            log.restart(from);
        } else if log.next > end {
            log.generation += 1;
            log.restart(from);
        } else if log.next < start {
            log.restart(start);
        }
        log.start = start;
        log.end = end;
        log.current = log.next >= end;
        self.bytes += log.bytes;
        log.next
    }

    /// Handles an event that was read. One that was read before is ignored.
    pub fn handle_entry(&mut self, partition: &Partition, entry: Entry) {
        let log = self.logs.get_mut(partition).expect("a partition is opened before it is read");
        if entry.offset < log.next {
            return;
        }
        log.next = entry.offset + 1;
        log.current |= log.next >= log.end;
        log.end = log.end.max(log.next);
        let bytes = entry.size_bytes();
        log.bytes += bytes;
        self.bytes += bytes;
        log.entries.push_back(Arc::new(entry));
        while self.bytes > self.bytes_max && self.evict(partition) {}
    }

    /// Handles the consumer's reaching the end of the partition at `next`: no event lies before that it has not read.
    pub fn handle_end(&mut self, partition: &Partition, next: i64) {
        let log = self.logs.get_mut(partition).expect("a partition is opened before it is read");
        log.next = log.next.max(next);
        log.end = log.end.max(log.next);
        log.current = true;
    }

    /// Handles a look at the log from outside of the consumer: it was `[start, end)`. One that the consumer has
    /// meanwhile gone past says nothing.
    pub fn handle_watermarks(&mut self, partition: &Partition, start: i64, end: i64) {
        let Some(log) = self.logs.get_mut(partition).filter(|log| log.next <= end) else { return };
        log.start = log.start.max(start);
        log.end = log.end.max(end);
        log.current |= log.next >= end;
    }

    /// Gives up the oldest event of the partition that holds most; never the newest of `newest`.
    fn evict(&mut self, newest: &Partition) -> bool {
        let fullest = self
            .logs
            .iter_mut()
            .filter(|(partition, log)| log.entries.len() > usize::from(*partition == newest))
            .max_by_key(|(_, log)| log.bytes);
        let Some((_, log)) = fullest else { return false };
        let Some(entry) = log.entries.pop_front() else { return false };
        log.first = entry.offset + 1;
        log.bytes -= entry.size_bytes();
        self.bytes -= entry.size_bytes();
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(offset: i64, payload_bytes: usize) -> Entry {
        Entry { offset, commit_time_us: offset, owner: None, encoded: Bytes::from(vec![0; payload_bytes]) }
    }

    fn users() -> Partition {
        Partition::new("users.created", 0)
    }

    fn bounds(feed: &Feed, partition: &Partition) -> (i64, i64, usize) {
        let log = feed.log(partition).expect("a known partition");
        (log.first, log.next, log.entries.len())
    }

    #[test]
    fn a_partition_is_read_from_its_look_back_on() {
        for (start, end, look_back, from) in
            [(0, 100, 10, 90), (95, 100, 10, 95), (0, 0, 10, 0), (7, 7, 0, 7)]
        {
            let mut feed = Feed::new(1000);
            assert_eq!(feed.handle_open(&users(), start, end, look_back), from);
        }
    }

    #[test]
    fn a_known_partition_goes_on_where_it_was() {
        let mut feed = Feed::new(100_000);
        feed.handle_open(&users(), 0, 10, 10);
        feed.handle_entry(&users(), entry(9, 1));
        assert_eq!(feed.handle_open(&users(), 0, 50, 10), 10);
        assert_eq!(bounds(&feed, &users()), (0, 10, 1));
    }

    #[test]
    fn a_log_that_ends_before_what_was_read_was_made_anew() {
        let mut feed = Feed::new(100_000);
        feed.handle_open(&users(), 0, 10, 10);
        feed.handle_entry(&users(), entry(9, 1));
        feed.handle_watermarks(&users(), 0, 3);
        assert_eq!(bounds(&feed, &users()), (0, 10, 1), "a look may be older than what was read");
        assert_eq!(feed.handle_open(&users(), 0, 3, 10), 0);
        assert_eq!(bounds(&feed, &users()), (0, 0, 0));
        assert_eq!(feed.log(&users()).map(|log| log.generation), Some(1));
        assert_eq!(feed.bytes(), 0);
    }

    #[test]
    fn another_cluster_makes_every_log_anew() {
        let mut feed = Feed::new(100_000);
        feed.handle_cluster(1);
        feed.handle_open(&users(), 0, 10, 10);
        feed.handle_entry(&users(), entry(9, 1));
        feed.handle_cluster(1);
        assert_eq!(bounds(&feed, &users()), (0, 10, 1));
        feed.handle_cluster(2);
        assert_eq!(bounds(&feed, &users()), (0, 0, 0));
    }

    #[test]
    fn retention_that_overtakes_the_consumer_leaves_nothing_in_memory() {
        let mut feed = Feed::new(100_000);
        feed.handle_open(&users(), 0, 10, 10);
        feed.handle_entry(&users(), entry(9, 1));
        assert_eq!(feed.handle_open(&users(), 30, 50, 10), 30);
        assert_eq!(bounds(&feed, &users()), (30, 30, 0));
    }

    #[test]
    fn the_end_moves_the_position_past_markers() {
        let mut feed = Feed::new(100_000);
        feed.handle_open(&users(), 0, 5, 10);
        feed.handle_entry(&users(), entry(2, 1));
        assert!(!feed.is_current());
        feed.handle_end(&users(), 5);
        assert_eq!(bounds(&feed, &users()), (0, 5, 1));
        assert!(feed.is_current());
    }

    #[test]
    fn an_empty_partition_is_current_at_once() {
        let mut feed = Feed::new(100_000);
        feed.handle_open(&users(), 0, 0, 10);
        assert!(feed.is_current());
    }

    #[test]
    fn an_event_read_twice_is_kept_once() {
        let mut feed = Feed::new(100_000);
        feed.handle_open(&users(), 0, 5, 10);
        feed.handle_entry(&users(), entry(2, 1));
        feed.handle_entry(&users(), entry(2, 1));
        assert_eq!(bounds(&feed, &users()), (0, 3, 1));
    }

    #[test]
    fn memory_is_bounded_and_the_busy_partition_pays() {
        let (quiet, busy) = (users(), Partition::new("orders.created", 0));
        let mut feed = Feed::new(10_000);
        for partition in [&quiet, &busy] {
            feed.handle_open(partition, 0, 0, 10);
        }
        feed.handle_entry(&quiet, entry(0, 1));
        for offset in 0..100 {
            feed.handle_entry(&busy, entry(offset, 1_000));
            assert!(feed.bytes() <= 10_000, "{}", feed.bytes());
        }
        assert_eq!(bounds(&feed, &quiet), (0, 1, 1));
        let (first, next, held) = bounds(&feed, &busy);
        assert_eq!((next, i64::try_from(held).expect("few")), (100, next - first));
    }

    #[test]
    fn the_newest_event_is_kept_however_large() {
        let mut feed = Feed::new(1_000);
        feed.handle_open(&users(), 0, 0, 10);
        feed.handle_entry(&users(), entry(0, 1));
        feed.handle_entry(&users(), entry(1, 5_000));
        assert_eq!(bounds(&feed, &users()), (1, 2, 1));
    }
}
