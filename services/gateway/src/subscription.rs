//! One subscriber's way through the feed: which offset is next in every partition, and what it is to be told.
//!
//! Sans-IO like the feed. [`Subscription::read`] answers with frames and with what has to happen before it can go on.
//! Everything that leaves the order of offsets (retention, a topic made anew) is announced by a gap.
//!
//! Within a partition the order is Kafka's; among partitions, of what is at hand the oldest commit comes first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tailrace::stream::v1::watch_response::{CaughtUp, Gap, Heartbeat, Message, gap::Reason};
use tailrace_topics::Partition;

use crate::{
    cursor::{self, Cursor},
    event::{Entry, from_system_time},
    feed::{Feed, Log},
    filter::Filter,
    wire::Frame,
};

/// The most events one call reads, and the most it passes over: the feed is locked meanwhile.
const BATCH_EVENTS_MAX: usize = 64;
const BATCH_SKIPPED_MAX: usize = 4096;

/// Where a subscription starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what comes next.
    Live,
    /// With the oldest event held.
    Earliest,
    /// At these offsets; other partitions are live. See [`crate::newest`].
    Newest(BTreeMap<Partition, i64>),
    /// After a response of an earlier stream.
    Cursor(Cursor),
}

/// Offsets that only Kafka holds: `[from, to)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The partition.
    pub partition: Partition,
    /// The first offset.
    pub from: i64,
    /// The first offset not wanted.
    pub to: i64,
}

/// What one read gives.
#[derive(Debug)]
pub struct Batch {
    /// To be sent, in this order.
    pub frames: Vec<Frame>,
    /// And then.
    pub then: Then,
}

/// What has to happen before the next read.
#[derive(Debug, PartialEq, Eq)]
pub enum Then {
    /// There may be more already.
    More,
    /// The feed has to change.
    Wait,
    /// These events have to be read from Kafka.
    Replay(Vec<Range>),
    /// The end of this partition has to be looked up: the cursor lies beyond what is known of it.
    LookUp(Partition),
}

/// One subscriber.
#[derive(Debug)]
pub struct Subscription {
    filter: Filter,
    topics: BTreeSet<Arc<str>>,
    /// In the order of their partitions.
    places: Vec<Place>,
    /// The cluster the places belong to.
    cluster: u32,
    caught_up: bool,
}

/// Where a subscription stands in a partition.
#[derive(Debug)]
struct Place {
    partition: Partition,
    next: i64,
    generation: u32,
    /// The end of the partition when the stream began, once that is known.
    target: Option<i64>,
    /// It stands at the beginning, wherever that is: nothing that is gone was promised.
    floating: bool,
    /// Its offset was compared with the true end of the log.
    looked_up: bool,
}

impl Subscription {
    /// A subscription to these topics, of a caller who may watch them.
    pub fn new(filter: Filter, topics: BTreeSet<Arc<str>>, start: Start, feed: &Feed) -> Self {
        let mut subscription =
            Self { filter, topics, places: Vec::new(), cluster: feed.cluster(), caught_up: false };
        if let Start::Cursor(cursor) = &start {
            subscription.cluster = cursor.cluster;
            subscription.places = cursor
                .offsets
                .iter()
                .filter(|(partition, _)| subscription.topics.contains(&partition.topic))
                .map(|(partition, next)| Place::resumed(partition, *next, feed))
                .collect();
        }
        for (partition, log) in watched(&subscription.topics, feed) {
            let place = match &start {
                Start::Cursor(_) => continue,
                Start::Earliest => Place::earliest(partition, log),
                Start::Live => Place::at(partition, log.next, log),
                Start::Newest(offsets) => {
                    Place::at(partition, *offsets.get(partition).unwrap_or(&log.next), log)
                }
            };
            subscription.places.push(place);
        }
        subscription
    }

    /// Whether `caught_up` was sent: what memory lacks from here on, it held and gave up.
    pub fn is_live(&self) -> bool {
        self.caught_up
    }

    /// Reads what the feed has for this subscriber.
    pub fn read(&mut self, feed: &Feed) -> Batch {
        let mut frames = Vec::new();
        self.adopt_new_partitions(feed);
        if self.cluster != feed.cluster() {
            self.leave_old_cluster(feed, &mut frames);
        }
        let then = self.reconcile(feed, &mut frames);
        let then = then.unwrap_or_else(|| {
            if !self.merge(feed, i64::MAX, &mut frames) {
                return Then::More;
            }
            self.reach_end(feed, &mut frames);
            Then::Wait
        });
        Batch { frames, then }
    }

    /// Reads what memory has of commits up to a moment, while other partitions are replayed up to it.
    pub fn read_older(&mut self, feed: &Feed, commit_time_us: i64) -> Vec<Frame> {
        let mut frames = Vec::new();
        while !self.merge(feed, commit_time_us, &mut frames) && frames.is_empty() {}
        frames
    }

    /// Takes an event that a replay brought; a frame if the caller may see it.
    pub fn take_replayed(&mut self, partition: &Partition, entry: &Entry) -> Option<Frame> {
        let place = self.place_mut(partition)?;
        place.next = place.next.max(entry.offset + 1);
        place.floating = false;
        self.filter.allows(entry).then(|| self.event_frame(entry))
    }

    /// A replay has brought everything of this range.
    pub fn finish_replay(&mut self, range: &Range) {
        if let Some(place) = self.place_mut(&range.partition) {
            place.next = place.next.max(range.to);
            place.floating = false;
        }
    }

    /// The end of the partition was looked up and the feed told.
    pub fn finish_look_up(&mut self, partition: &Partition) {
        if let Some(place) = self.place_mut(partition) {
            place.looked_up = true;
        }
    }

    /// A sign of life, and a cursor past what was filtered out.
    pub fn heartbeat(&self, now: std::time::SystemTime) -> Frame {
        self.frame(Message::Heartbeat(Heartbeat { server_time: Some(from_system_time(now)) }))
    }

    /// Partitions that the start did not name are new since: nothing of them may be lost.
    fn adopt_new_partitions(&mut self, feed: &Feed) {
        for (partition, log) in watched(&self.topics, feed) {
            if let Err(at) = self.places.binary_search_by(|place| place.partition.cmp(partition)) {
                self.places.insert(at, Place::earliest(partition, log));
            }
        }
    }

    /// The offsets are of a cluster that is no more: all topics were made anew.
    fn leave_old_cluster(&mut self, feed: &Feed, frames: &mut Vec<Frame>) {
        self.cluster = feed.cluster();
        for index in 0..self.places.len() {
            if let Some(log) = feed.log(&self.places[index].partition)
                && !self.places[index].floating
            {
                frames.push(self.restart(index, log));
            }
        }
    }

    /// Brings every place into the bounds of its log; the answer says what keeps it from being read.
    fn reconcile(&mut self, feed: &Feed, frames: &mut Vec<Frame>) -> Option<Then> {
        let mut ranges = Vec::new();
        for index in 0..self.places.len() {
            let Some(log) = feed.log(&self.places[index].partition) else { continue };
            if self.places[index].generation != log.generation {
                frames.push(self.restart(index, log));
            }
            if self.places[index].next > log.end.max(log.next) {
                if !self.places[index].looked_up {
                    return Some(Then::LookUp(self.places[index].partition.clone()));
                }
                frames.push(self.restart(index, log));
            }
            let begin = log.start.min(log.first);
            if self.places[index].next < begin {
                frames.extend(self.skip_to(index, begin));
            }
            let place = &self.places[index];
            if place.next < log.first {
                ranges.push(Range { partition: place.partition.clone(), from: place.next, to: log.first });
            }
        }
        (!ranges.is_empty()).then_some(Then::Replay(ranges))
    }

    /// Starts a partition anew that was made anew.
    fn restart(&mut self, index: usize, log: &Log) -> Frame {
        let place = &mut self.places[index];
        let first_offset = place.next;
        place.next = log.start;
        place.generation = log.generation;
        place.target = Some(log.end);
        place.floating = true;
        self.gap(index, first_offset, Reason::TopicRecreated)
    }

    /// Passes over what retention removed.
    fn skip_to(&mut self, index: usize, next: i64) -> Option<Frame> {
        let place = &mut self.places[index];
        let first_offset = std::mem::replace(&mut place.next, next);
        (!place.floating).then(|| self.gap(index, first_offset, Reason::Retention))
    }

    /// Merges what is in memory, of commits up to `until`; true when no more of it is there.
    fn merge(&mut self, feed: &Feed, until: i64, frames: &mut Vec<Frame>) -> bool {
        let mut heads = self.heads(feed);
        let mut budget = BATCH_SKIPPED_MAX;
        for _ in 0..BATCH_EVENTS_MAX {
            for head in &mut heads {
                head.skip_invisible(&self.filter, &mut self.places[head.place], &mut budget);
            }
            if budget == 0 {
                return false;
            }
            let due = heads.iter_mut().filter(|head| head.time().is_some_and(|time| time <= until));
            let Some(head) = due.min_by_key(|head| head.time()) else { return true };
            let Some(entry) = head.entry() else { return true };
            head.at += 1;
            self.places[head.place].pass(entry.offset);
            frames.push(self.event_frame(entry));
        }
        false
    }

    /// The parts of the logs before the places that stand in memory.
    fn heads<'a>(&self, feed: &'a Feed) -> Vec<Head<'a>> {
        (0..)
            .zip(&self.places)
            .filter_map(|(index, place)| {
                let log = feed.log(&place.partition).filter(|log| place.next >= log.first)?;
                Some(Head::new(index, place.next, log))
            })
            .collect()
    }

    /// Everything in memory is read: moves past markers, and says so once when that is the end of the topics.
    fn reach_end(&mut self, feed: &Feed, frames: &mut Vec<Frame>) {
        let heads = self.heads(feed);
        for head in &heads {
            let place = &mut self.places[head.place];
            place.next = place.next.max(head.log.next);
            // A partition that a cursor named before the feed knew it.
            place.target.get_or_insert(head.log.end);
        }
        let reached = heads.iter().all(|head| {
            let place = &self.places[head.place];
            place.target.is_some_and(|target| place.next >= target)
        });
        if reached && !self.caught_up {
            self.caught_up = true;
            frames.push(self.frame(Message::CaughtUp(CaughtUp {})));
        }
    }

    fn gap(&self, index: usize, first_offset: i64, reason: Reason) -> Frame {
        let place = &self.places[index];
        self.frame(Message::Gap(Gap {
            topic: place.partition.topic.to_string(),
            partition: place.partition.number,
            first_offset,
            next_offset: place.next,
            reason: reason.into(),
        }))
    }

    fn frame(&self, message: Message) -> Frame {
        Frame::new(self.cursor(), message)
    }

    fn event_frame(&self, entry: &Entry) -> Frame {
        Frame { cursor: self.cursor(), message: entry.encoded.clone() }
    }

    fn cursor(&self) -> String {
        cursor::encode(self.cluster, self.places.iter().map(|place| (&place.partition, place.next)))
    }

    fn place_mut(&mut self, partition: &Partition) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| place.partition == *partition)
    }
}

impl Place {
    fn at(partition: &Partition, next: i64, log: &Log) -> Self {
        Self {
            partition: partition.clone(),
            next,
            generation: log.generation,
            target: Some(log.end),
            floating: false,
            looked_up: false,
        }
    }

    fn earliest(partition: &Partition, log: &Log) -> Self {
        Self { floating: true, ..Self::at(partition, log.start, log) }
    }

    /// A partition that the feed does not know yet keeps its offset until it does.
    fn resumed(partition: &Partition, next: i64, feed: &Feed) -> Self {
        match feed.log(partition) {
            Some(log) => Self::at(partition, next, log),
            None => Self { target: None, ..Self::at(partition, next, &Log::default()) },
        }
    }

    fn pass(&mut self, offset: i64) {
        self.next = offset + 1;
        self.floating = false;
    }
}

/// The part of a log that a subscription has before it.
struct Head<'a> {
    place: usize,
    log: &'a Log,
    at: usize,
}

impl<'a> Head<'a> {
    fn new(place: usize, next: i64, log: &'a Log) -> Self {
        Self { place, log, at: log.entries().partition_point(|entry| entry.offset < next) }
    }

    fn entry(&self) -> Option<&'a Arc<Entry>> {
        self.log.entries().get(self.at)
    }

    fn time(&self) -> Option<i64> {
        self.entry().map(|entry| entry.commit_time_us)
    }

    fn skip_invisible(&mut self, filter: &Filter, place: &mut Place, budget: &mut usize) {
        while *budget > 0
            && let Some(entry) = self.entry().filter(|entry| !filter.allows(entry))
        {
            place.pass(entry.offset);
            self.at += 1;
            *budget -= 1;
        }
    }
}

fn watched<'a>(
    topics: &'a BTreeSet<Arc<str>>,
    feed: &'a Feed,
) -> impl Iterator<Item = (&'a Partition, &'a Log)> + use<'a> {
    feed.logs().filter(|(partition, _)| topics.contains(&partition.topic))
}

#[cfg(test)]
#[path = "subscription/tests.rs"]
mod tests;
