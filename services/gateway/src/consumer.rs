//! Topics → feed: what the consumer of the process reads goes into the feed, from a bounded look-back on, for all subscribers.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use metrics::{counter, gauge};
use tailrace_topics::{Failure, Look, Message, Partition, Positions, Sink};

use crate::{cursor::cluster_mark, event::Entry, feed::PARTITIONS_MAX, hub::Hub};

/// Fills the feed.
#[derive(Debug)]
pub struct Filling {
    /// Where the events go.
    pub hub: Arc<Hub>,
    /// How many offsets before its end a partition is read from at first.
    pub look_back_offsets: i64,
}

/// More partitions than the feed is made for.
#[derive(Debug, thiserror::Error)]
#[error("{0} partitions are more than the {PARTITIONS_MAX} that one gateway reads")]
struct TooManyPartitions(usize);

impl Sink for Filling {
    type Entry = Entry;

    fn entry(&self, partition: &Partition, message: &Message<'_>) -> Entry {
        Entry::encode(partition, message.offset(), &message.record(), SystemTime::now())
    }

    fn open(&mut self, look: &Look) -> Result<Positions, Failure> {
        if look.partitions.len() > PARTITIONS_MAX {
            return Err(TooManyPartitions(look.partitions.len()).into());
        }
        Ok(self.hub.update(|feed| {
            feed.handle_cluster(cluster_mark(&look.cluster));
            let open = |(partition, start, end): &(Partition, i64, i64)| {
                (partition.clone(), feed.handle_open(partition, *start, *end, self.look_back_offsets))
            };
            look.partitions.iter().map(open).collect::<BTreeMap<_, _>>()
        }))
    }

    fn put(&mut self, partition: &Partition, entries: Vec<Entry>, _: i64) -> Result<(), Failure> {
        counter!("tailrace_gateway_events_total", "topic" => partition.topic.to_string())
            .increment(entries.len() as u64);
        let bytes = self.hub.update(|feed| {
            for entry in entries {
                feed.handle_entry(partition, entry);
            }
            feed.bytes()
        });
        gauge!("tailrace_gateway_memory_bytes").set(bytes as f64);
        Ok(())
    }

    fn reach_end(&mut self, partition: &Partition, next: Option<i64>) -> Result<(), Failure> {
        self.hub.update(|feed| feed.handle_end(partition, next.unwrap_or_default()));
        Ok(())
    }

    fn watch(&mut self, partition: &Partition, start: i64, end: i64, next: i64) -> Result<(), Failure> {
        self.hub.update(|feed| feed.handle_watermarks(partition, start, end));
        gauge!("tailrace_gateway_consumer_lag_offsets", "topic" => partition.topic.to_string(), "partition" => partition.number.to_string())
            .set((end - next).max(0) as f64);
        Ok(())
    }

    fn begin_anew(&mut self, _: &Arc<str>) {
        // A log that ends before what was read of it begins a new generation when it is opened.
    }

    fn is_current(&self) -> bool {
        self.hub.read(|feed| feed.is_current())
    }
}
