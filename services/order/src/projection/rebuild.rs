//! Makes the projection anew from the first records of the topics on, in one transaction: until it commits, orders are
//! checked against what was known before, and if anything fails that stays.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use tailrace_runtime::postgres::{Client, Pool, PoolError};
use tailrace_topics::{Kafka, KafkaError, Partition, Read, Reader, look};
use tokio::runtime::Handle;

use super::{
    change::Entry,
    store::{self, Batch},
};

/// How long the next record is waited for before the attempt is given up.
const STALLED_AFTER: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The most records written at once.
const BATCH_RECORDS_MAX: usize = 1_000;

/// What was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rebuilt {
    /// Users that are known, deleted ones included.
    pub(crate) users: i64,
    /// Events that cannot be read.
    pub(crate) set_aside: i64,
}

/// Why the projection could not be made anew. What was there before is there still.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RebuildError {
    #[error("the database cannot be reached")]
    Pool(#[from] PoolError),
    #[error("the database refuses")]
    Database(#[from] tokio_postgres::Error),
    #[error("Kafka cannot be read")]
    Kafka(#[from] KafkaError),
    #[error("topics are missing: {0:?}")]
    Missing(Vec<Arc<str>>),
    #[error("no record of {0} came for {seconds} s", seconds = STALLED_AFTER.as_secs())]
    Stalled(Partition),
}

/// Makes it anew. Blocks: call it where that is allowed, with the runtime that drives the database's connections.
pub(crate) fn rebuild(
    runtime: &Handle,
    pool: &Pool,
    kafka: &Kafka,
    topics: &BTreeSet<Arc<str>>,
) -> Result<Rebuilt, RebuildError> {
    let client = kafka.client()?;
    let look = look(&client, topics.iter().cloned())?;
    if !look.missing.is_empty() {
        return Err(RebuildError::Missing(look.missing));
    }
    // Out of the pool: a connection that failed half-way takes its open transaction with it.
    let database = Client::take(runtime.block_on(pool.get())?);
    runtime.block_on(async {
        store::begin_rebuild(&database).await?;
        for (partition, start, _) in &look.partitions {
            store::set_position(&database, &look.cluster, partition, None, *start).await?;
        }
        Ok::<_, RebuildError>(())
    })?;
    let offsets: Vec<_> =
        look.partitions.iter().map(|(partition, start, _)| (partition.clone(), *start)).collect();
    let reader = Reader::open(client, &offsets, |_| ())?;
    for (index, (_, from, _)) in look.partitions.iter().enumerate() {
        read(&reader, index, *from, |batch| Ok(runtime.block_on(store::put(&database, batch))?))?;
    }
    let (users, set_aside) = runtime.block_on(store::end_rebuild(&database))?;
    Ok(Rebuilt { users, set_aside })
}

/// Reads one partition to its end as it is then.
fn read(
    reader: &Reader,
    index: usize,
    mut from: i64,
    mut put: impl FnMut(&Batch<'_>) -> Result<bool, RebuildError>,
) -> Result<(), RebuildError> {
    let partition = reader.partition(index);
    let mut entries: Vec<Entry> = Vec::new();
    let mut since = Instant::now();
    loop {
        let read = reader.poll(index, POLL_INTERVAL);
        let ended = matches!(read, Some(Read::End(_)));
        match read {
            Some(Read::Record(message)) => {
                entries.push(Entry::read(message.offset(), &message.record()));
                since = Instant::now();
            }
            Some(Read::Failed(error)) => return Err(error.into()),
            Some(Read::End(_)) => {}
            None if since.elapsed() > STALLED_AFTER => return Err(RebuildError::Stalled(partition.clone())),
            None => {}
        }
        if let Some(last) = entries.last().filter(|_| ended || entries.len() >= BATCH_RECORDS_MAX) {
            let next = last.offset + 1;
            // Nobody else writes before the end, so nothing goes back.
            put(&Batch { partition, from, next, entries: &entries })?;
            entries.clear();
            from = next;
        }
        if ended {
            return Ok(());
        }
        if let Some(error) = reader.serve() {
            return Err(error.into());
        }
    }
}
