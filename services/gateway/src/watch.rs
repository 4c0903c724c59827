//! One stream: carries out what its subscription asks for, until the caller leaves or has to.
//!
//! ```text
//!            ┌─────────── feed changed ◄───────────┐
//!            ▼                                     │ Wait
//!  Subscription::read ─► frames ─► mailbox ─► then ┼ More
//!            ▲                                     │ Replay  ─► Kafka ─► mailbox
//!            └─────────────────────────────────────┴ LookUp  ─► Kafka
//! ```

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use metrics::{counter, gauge};
use tailrace_runtime::shutdown::Shutdown;
use tailrace_topics::Partition;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    admission::Admitted,
    error::End,
    hub::Hub,
    mailbox::{Closed, Sender},
    replay::{Replayed, Replays},
    subscription::{Range, Subscription, Then},
    wire::Frame,
};

/// How long a stream waits before it asks Kafka again for what it could not get.
const REPLAY_RETRY_DELAY: Duration = Duration::from_millis(500);

/// How long a live caller may keep its stream waiting in all before it falls out of memory. One that took what it was
/// sent is brought the rest from Kafka: it was this process that was late.
const WAITED_MAX: Duration = Duration::from_secs(1);

/// What a stream needs beside its subscription.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The feed.
    pub hub: Arc<Hub>,
    /// The way to older events.
    pub replays: Replays,
    /// How long a stream is silent at most.
    pub heartbeat: Duration,
    /// How long a caller may take no response while some wait.
    pub send_timeout: Duration,
    /// The request to finish.
    pub shutdown: Shutdown,
    /// Held as long as the stream runs: the process ends after its last.
    pub running: mpsc::Sender<()>,
}

/// A stream.
#[derive(Debug)]
pub struct Watch {
    subscription: Subscription,
    surroundings: Surroundings,
    mailbox: Sender,
    /// How long it was waited for the caller since everything in memory was sent.
    waited: Duration,
    /// When the next heartbeat is due.
    silent_until: Instant,
    _admitted: Admitted,
    _counted: Counted,
}

/// Why a stream's loop ended.
#[derive(Debug)]
enum Stop {
    Left,
    End(End),
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Self::Left
    }
}

impl Watch {
    /// A stream into `mailbox`.
    pub fn new(
        subscription: Subscription,
        surroundings: Surroundings,
        mailbox: Sender,
        admitted: Admitted,
    ) -> Self {
        let silent_until = Instant::now() + surroundings.heartbeat;
        Self {
            subscription,
            surroundings,
            mailbox,
            waited: Duration::ZERO,
            silent_until,
            _admitted: admitted,
            _counted: Counted::new(),
        }
    }

    /// Runs until the stream ends.
    pub async fn run(mut self, expires_at: SystemTime) {
        let shutdown = self.surroundings.shutdown.clone();
        let expired = sleep(expires_at.duration_since(SystemTime::now()).unwrap_or_default());
        let stop = {
            let mut flow = pin!(self.flow());
            tokio::select! {
                biased;
                // A caller learns of the drain first, so that nobody holds it up.
                () = shutdown.wait() => Stop::End(End::Draining),
                // Not one event more than the token allows.
                () = expired => Stop::End(End::TokenExpired),
                stop = &mut flow => stop,
            }
        };
        match stop {
            Stop::Left => {}
            Stop::End(End::SlowConsumer) => {
                counter!("tailrace_gateway_slow_subscribers_total").increment(1);
                self.mailbox.fail(End::SlowConsumer.into());
            }
            Stop::End(end) => self.mailbox.finish(end.into()),
        }
    }

    async fn flow(&mut self) -> Stop {
        loop {
            if let Err(stop) = self.step().await {
                return stop;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Stop> {
        let mut changes = self.surroundings.hub.subscribe();
        let batch = self.surroundings.hub.read(|feed| self.subscription.read(feed));
        for frame in batch.frames {
            self.send(frame).await?;
        }
        match batch.then {
            Then::More => tokio::task::yield_now().await,
            Then::Replay(_) if self.is_overrun() => return Err(Stop::End(End::SlowConsumer)),
            Then::Replay(ranges) => self.replay(&ranges).await?,
            Then::LookUp(partition) => self.look_up(partition).await?,
            Then::Wait => {
                self.waited = Duration::ZERO;
                let due = tokio::select! {
                    // A change before the heartbeat: an event is the better sign of life.
                    biased;
                    () = self.mailbox.closed() => return Err(Stop::Left),
                    _ = changes.changed() => false,
                    () = sleep_until(self.silent_until) => true,
                };
                if due {
                    self.beat().await?;
                }
            }
        }
        Ok(())
    }

    /// Whether memory gave up what a live caller had not taken yet, and the caller is to blame.
    fn is_overrun(&self) -> bool {
        self.subscription.is_live() && self.waited > WAITED_MAX
    }

    async fn replay(&mut self, ranges: &[Range]) -> Result<(), Stop> {
        let replays = self.surroundings.replays.clone();
        let mut starting = pin!(replays.start(ranges.to_vec()));
        let mut receiver: Option<mpsc::Receiver<Replayed>> = None;
        loop {
            let replayed = tokio::select! {
                biased;
                () = self.mailbox.closed() => return Err(Stop::Left),
                started = &mut starting, if receiver.is_none() => {
                    receiver = Some(started);
                    continue;
                }
                replayed = next(&mut receiver) => replayed,
                () = sleep_until(self.silent_until) => {
                    self.beat().await?;
                    continue;
                }
            };
            match replayed {
                Some(Replayed::Event(index, entry)) => {
                    self.send_older(entry.commit_time_us).await?;
                    if let Some(frame) = self.subscription.take_replayed(&ranges[index].partition, &entry) {
                        self.send(frame).await?;
                    }
                }
                Some(Replayed::Passed(index)) => self.subscription.finish_replay(&ranges[index]),
                Some(Replayed::Done) => return Ok(()),
                Some(Replayed::Failed) | None => return self.look_again(ranges).await,
            }
        }
    }

    /// Partitions that need no replay, or no longer, keep step with the replay.
    async fn send_older(&mut self, commit_time_us: i64) -> Result<(), Stop> {
        loop {
            let hub = &self.surroundings.hub;
            let frames = hub.read(|feed| self.subscription.read_older(feed, commit_time_us));
            if frames.is_empty() {
                return Ok(());
            }
            for frame in frames {
                self.send(frame).await?;
            }
        }
    }

    /// After a replay that failed: retention may have taken what it was to read.
    async fn look_again(&mut self, ranges: &[Range]) -> Result<(), Stop> {
        for range in ranges {
            self.refresh(&range.partition).await;
        }
        sleep(REPLAY_RETRY_DELAY).await;
        if self.silent_until <= Instant::now() { self.beat().await } else { Ok(()) }
    }

    async fn look_up(&mut self, partition: Partition) -> Result<(), Stop> {
        if self.refresh(&partition).await {
            self.subscription.finish_look_up(&partition);
        } else {
            sleep(REPLAY_RETRY_DELAY).await;
            self.beat().await?;
        }
        Ok(())
    }

    async fn refresh(&self, partition: &Partition) -> bool {
        let Some((start, end)) = self.surroundings.replays.look_up(partition.clone()).await else {
            return false;
        };
        self.surroundings.hub.update(|feed| feed.handle_watermarks(partition, start, end));
        true
    }

    async fn beat(&mut self) -> Result<(), Stop> {
        let frame = self.subscription.heartbeat(SystemTime::now());
        self.send(frame).await
    }

    async fn send(&mut self, frame: Frame) -> Result<(), Stop> {
        let began = Instant::now();
        match timeout(self.surroundings.send_timeout, self.mailbox.send(frame)).await {
            Ok(sent) => sent?,
            Err(_) => return Err(Stop::End(End::SlowConsumer)),
        }
        let now = Instant::now();
        self.waited += now - began;
        self.silent_until = now + self.surroundings.heartbeat;
        Ok(())
    }
}

async fn next(receiver: &mut Option<mpsc::Receiver<Replayed>>) -> Option<Replayed> {
    match receiver {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// Counts the stream in the metrics.
#[derive(Debug)]
struct Counted;

impl Counted {
    fn new() -> Self {
        gauge!("tailrace_gateway_subscribers").increment(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        gauge!("tailrace_gateway_subscribers").decrement(1);
    }
}
