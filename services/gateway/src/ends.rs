//! Brings the feed up to the present before a stream begins: the ends of the topics are looked up in Kafka, and the
//! consumer is waited for until it has reached them.
//!
//! So `caught_up` speaks of the topics as they were when the stream began, and a caller sees what they themselves had
//! committed before. Many streams that begin at once (a reconnect storm) share one look.

use std::{sync::Arc, time::Duration};

use tailrace_runtime::task;
use tailrace_topics::{Client, Kafka, KafkaResult, Partition, watermarks};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::debug;

use crate::{feed::Feed, hub::Hub};

/// How long a stream's beginning waits at most; without Kafka it begins with what is known.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// How many beginnings wait for a look; further ones wait for their turn to wait.
const WAITING_MAX: usize = 1024;

/// The way to ask.
#[derive(Clone, Debug)]
pub struct Ends {
    hub: Arc<Hub>,
    asked: mpsc::Sender<oneshot::Sender<()>>,
}

impl Ends {
    /// Looks for `hub` as long as somebody may ask.
    pub fn new(kafka: Kafka, hub: Arc<Hub>) -> Self {
        let (asked, waiting) = mpsc::channel(WAITING_MAX);
        task::spawn("ends", answer(kafka, Arc::clone(&hub), waiting));
        Self { hub, asked }
    }

    /// Returns when the feed holds everything that was committed before the call, or after a bounded time.
    pub async fn settle(&self) {
        // A look that fails in time is told by the consumer, which looks too.
        let _ = timeout(WAIT_MAX, self.look_and_reach()).await;
    }

    async fn look_and_reach(&self) {
        let (answer, answered) = oneshot::channel();
        if self.asked.send(answer).await.is_err() || answered.await.is_err() {
            return;
        }
        let ends = self.hub.read(ends);
        let mut changes = self.hub.subscribe();
        while !self.hub.read(|feed| reached(feed, &ends)) && changes.changed().await.is_ok() {}
    }
}

async fn answer(kafka: Kafka, hub: Arc<Hub>, mut waiting: mpsc::Receiver<oneshot::Sender<()>>) {
    let mut client: Option<Arc<Client>> = None;
    while let Some(first) = waiting.recv().await {
        let mut askers = vec![first];
        while let Ok(asker) = waiting.try_recv() {
            askers.push(asker);
        }
        let partitions: Vec<Partition> =
            hub.read(|feed| feed.logs().map(|(partition, _)| partition.clone()).collect());
        let (kafka, before) = (kafka.clone(), client.take());
        let look = tokio::task::spawn_blocking(move || {
            let client = before.map_or_else(|| kafka.client(), Ok)?;
            let bounds = look(&client, partitions)?;
            KafkaResult::Ok((client, bounds))
        });
        match look.await {
            Ok(Ok((used, bounds))) => {
                client = Some(used);
                hub.update(|feed| {
                    for (partition, start, end) in bounds {
                        feed.handle_watermarks(&partition, start, end);
                    }
                });
                // An asker may have stopped waiting.
                askers.into_iter().for_each(|asker| asker.send(()).unwrap_or_default());
            }
            Ok(Err(error)) => debug!(error = %error, "the ends of the topics could not be looked up"),
            Err(error) => debug!(error = %error, "the look at the ends of the topics broke down"),
        }
    }
}

fn look(client: &Client, partitions: Vec<Partition>) -> KafkaResult<Vec<(Partition, i64, i64)>> {
    let look = |partition: Partition| {
        let (start, end) = watermarks(client, &partition.topic, partition.number)?;
        Ok((partition, start, end))
    };
    partitions.into_iter().map(look).collect()
}

fn ends(feed: &Feed) -> Vec<(Partition, i64)> {
    feed.logs().map(|(partition, log)| (partition.clone(), log.end)).collect()
}

/// A log that ends before what it was said to hold was made anew meanwhile.
fn reached(feed: &Feed, ends: &[(Partition, i64)]) -> bool {
    ends.iter()
        .all(|(partition, end)| feed.log(partition).is_none_or(|log| log.next >= *end || log.end < *end))
}
