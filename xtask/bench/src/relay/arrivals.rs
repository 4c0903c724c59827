//! A `read_committed` consumer that stamps each record when it arrives.
//!
//! It asks for one record at a time and takes it as soon as it is there: a call that waits for a batch would add its own
//! wait to what is measured. The broker answers its fetch as soon as there is one byte.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;

use super::{outbox, topic};

/// How long the consumer waits before it looks whether it is to end.
const POLL_MAX: Duration = Duration::from_millis(200);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// An event that arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) number: u64,
    pub(super) at: Instant,
}

/// What has arrived since the start; the consumer ends when this is dropped.
pub(super) struct Arrivals {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Arrival>>,
    is_over: AtomicBool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrivals {
    /// Reads the topic from its beginning.
    pub(super) fn start(bootstrap: &str, topic: &str) -> Result<Self> {
        let consumer = topic::reader(bootstrap, topic)?;
        let shared = Arc::new(Shared::default());
        let its_own = Arc::clone(&shared);
        let read = move || {
            while !its_own.is_over.load(Ordering::Relaxed) {
                let polled = consumer.poll(POLL_MAX);
                let at = Instant::now();
                match polled {
                    Some(Ok(record)) => {
                        let number = record.payload().and_then(outbox::number).context("not one of ours")?;
                        its_own.seen().push(Arrival { number, at });
                    }
                    None | Some(Err(KafkaError::PartitionEOF(_))) => {}
                    Some(Err(error)) => return Err(error).context("cannot read the topic"),
                }
            }
            Ok(())
        };
        let thread = Builder::new().name("arrivals".into()).spawn(read).context("cannot start a thread")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Waits until it holds, for what has arrived so far.
    pub(super) fn wait_until(&mut self, limit: Duration, holds: impl Fn(&[Arrival]) -> bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            if holds(&self.shared.seen()) {
                return Ok(());
            }
            if self.thread.as_ref().is_some_and(JoinHandle::is_finished)
                && let Some(thread) = self.thread.take()
            {
                thread.join().expect("the consumer does not panic")?;
            }
            if begun.elapsed() > limit {
                let arrived = self.shared.seen().len();
                bail!("{arrived} events arrived, then nothing that was waited for in {limit:?}");
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Waits for so many events since the start, and answers all.
    pub(super) fn take(&mut self, count: u64, limit: Duration) -> Result<Vec<Arrival>> {
        self.wait_until(limit, |seen| seen.len() as u64 >= count)?;
        Ok(self.shared.seen().clone())
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
