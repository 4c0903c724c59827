//! What this service knows of users: a table of its own, made of the user service's events.
//!
//! ```text
//!  users.created ─┐                       ┌─ one statement ──────────────────┐
//!  users.updated ─┼─► consumer ─► change ─►│ known_user · inbox · set aside   │─► who waits for the user
//!  users.deleted ─┘                       └──────────────────────────────────┘
//! ```
//!
//! Three topics have no order among each other: the version of the user has, so an event counts only if its version is
//! higher than the last. Where to read on stands in `inbox`, in the same transaction as the rows; Kafka is told nothing. So
//! whatever is read twice, by a restart or by several replicas, changes nothing: every replica reads everything, and the
//! first to come writes.
//!
//! [`buyers`] asks it before an order is placed; [`rebuild`] makes it anew.

pub(crate) mod arrivals;
pub(crate) mod buyers;
mod change;
pub(crate) mod rebuild;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use metrics::{counter, gauge};
use tailrace_runtime::{
    clock,
    postgres::{Connection, Database, Repeat},
};
use tailrace_topics::{Failure, Look, Message, Partition, Positions, Sink};
use tokio::runtime::Handle;
use tokio_postgres::Client;
use tracing::warn;

use self::{
    arrivals::Arrivals,
    change::{Entry, Read},
    store::Batch,
};
use crate::error::Error;

/// Takes what the consumer reads into the table.
pub(crate) struct Projection {
    database: Database,
    arrivals: Arc<Arrivals>,
    runtime: Handle,
    /// What the table is known to hold at least.
    stored: Positions,
    /// Topics that may have been made anew since they were opened.
    anew: BTreeSet<Arc<str>>,
    /// The partitions whose end was reached.
    ended: BTreeSet<Partition>,
}

/// Another process has taken the table back, to make it anew.
#[derive(Debug, thiserror::Error)]
#[error("the projection went back before {0}/{1}")]
struct TakenBack(Partition, i64);

/// Offsets without it would be anybody's.
#[derive(Debug, thiserror::Error)]
#[error("Kafka does not tell which cluster it is")]
struct NoCluster;

impl Projection {
    /// Of that database; has to be made within a runtime, and used outside.
    pub(crate) fn new(database: Database, arrivals: Arc<Arrivals>) -> Self {
        let runtime = Handle::current();
        Self {
            database,
            arrivals,
            runtime,
            stored: Positions::new(),
            anew: BTreeSet::new(),
            ended: BTreeSet::new(),
        }
    }

    fn tell_current(&self) {
        gauge!("tailrace_order_projection_current").set(if self.is_current() { 1.0 } else { 0.0 });
    }
}

impl Sink for Projection {
    type Entry = Entry;

    fn entry(&self, _: &Partition, message: &Message<'_>) -> Entry {
        Entry::read(message.offset(), &message.record())
    }

    fn open(&mut self, look: &Look) -> Result<Positions, Failure> {
        if look.cluster.is_empty() {
            return Err(NoCluster.into());
        }
        let anew = &self.anew;
        let work = |client: Connection| async move { open(&client, look, anew).await.map_err(Error::inside) };
        self.stored = self.runtime.block_on(self.database.run(Repeat::Harmless, work))?;
        // One that is gone is remembered until it is there.
        self.anew.retain(|topic| !self.stored.keys().any(|partition| partition.topic == *topic));
        self.ended.clear();
        self.tell_current();
        Ok(self.stored.clone())
    }

    fn put(&mut self, partition: &Partition, entries: Vec<Entry>, next: i64) -> Result<(), Failure> {
        let from = self.stored.get(partition).copied().unwrap_or_default();
        let batch = &Batch { partition, from, next, entries: &entries };
        let work =
            |client: Connection| async move { store::put(&client, batch).await.map_err(Error::inside) };
        // A repeat finds the offset moved, and nothing to do.
        if !self.runtime.block_on(self.database.run(Repeat::Harmless, work))? {
            return Err(TakenBack(partition.clone(), from).into());
        }
        self.stored.insert(partition.clone(), next);
        tell(partition, &entries);
        self.arrivals.tell(entries.iter().filter_map(Entry::user));
        Ok(())
    }

    fn reach_end(&mut self, partition: &Partition, _: Option<i64>) -> Result<(), Failure> {
        self.ended.insert(partition.clone());
        self.tell_current();
        Ok(())
    }

    fn watch(&mut self, partition: &Partition, _: i64, end: i64, next: i64) -> Result<(), Failure> {
        gauge!("tailrace_order_projection_lag_offsets", "topic" => partition.topic.to_string(), "partition" => partition.number.to_string())
            .set((end - next).max(0) as f64);
        gauge!("tailrace_order_projection_looked_timestamp_seconds").set(clock::now().as_second() as f64);
        Ok(())
    }

    fn begin_anew(&mut self, topic: &Arc<str>) {
        self.anew.insert(Arc::clone(topic));
    }

    fn is_current(&self) -> bool {
        !self.stored.is_empty() && self.ended.len() == self.stored.len()
    }
}

/// Finds where to read each partition on, and sets it so.
async fn open(
    client: &Client,
    look: &Look,
    anew: &BTreeSet<Arc<str>>,
) -> Result<Positions, tokio_postgres::Error> {
    let stored = store::positions(client, &look.cluster).await?;
    let positions = starts(look, &stored, anew);
    for (partition, next) in &positions {
        let before = stored.get(partition).copied();
        if before != Some(*next) {
            store::set_position(client, &look.cluster, partition, before, *next).await?;
        }
    }
    Ok(positions)
}

/// Where to read each partition on: where the table stands, or at the first record when that place is not there (any more).
fn starts(look: &Look, stored: &Positions, anew: &BTreeSet<Arc<str>>) -> Positions {
    let start_of = |(partition, start, end): &(Partition, i64, i64)| {
        let start = match stored.get(partition) {
            Some(next) if next < start => {
                warn!(kafka.partition = %partition, kafka.offset = next, kafka.first_offset = start,
                    "the topic has lost events that were not read: their users stay unknown");
                *start
            }
            // The topic was made anew. What is read again changes nothing.
            Some(next) if next > end || anew.contains(&partition.topic) => *start,
            Some(next) => *next,
            None => *start,
        };
        (partition.clone(), start)
    };
    look.partitions.iter().map(start_of).collect::<BTreeMap<_, _>>()
}

/// Counts the events, and says which of them could not be read.
fn tell(partition: &Partition, entries: &[Entry]) {
    counter!("tailrace_order_projection_events_total", "topic" => partition.topic.to_string())
        .increment(entries.len() as u64);
    for entry in entries {
        if let Read::Not { reason, event_id, .. } = &entry.read {
            counter!("tailrace_order_projection_set_aside_total", "topic" => partition.topic.to_string())
                .increment(1);
            warn!(kafka.partition = %partition, kafka.offset = entry.offset, event.id = event_id, error = %reason,
                "an event cannot be read and is set aside");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stored: Option<i64>, anew: bool, expected: i64) {
        let partition = Partition::new("users.created", 0);
        let look = Look { partitions: vec![(partition.clone(), 10, 20)], ..Look::default() };
        let stored = stored.map(|offset| (partition.clone(), offset)).into_iter().collect();
        let anew = anew.then(|| Arc::clone(&partition.topic)).into_iter().collect();
        assert_eq!(starts(&look, &stored, &anew), Positions::from([(partition, expected)]));
    }

    #[test]
    fn reading_goes_on_where_it_stood_if_that_place_is_there() {
        check(None, false, 10);
        check(Some(10), false, 10);
        check(Some(15), false, 15);
        check(Some(20), false, 20);
        check(Some(9), false, 10);
        check(Some(21), false, 10);
        check(Some(15), true, 10);
    }
}
