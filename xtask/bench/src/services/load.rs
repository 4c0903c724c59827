//! Two kinds of load: clients that call one after the other, and calls that are due at planned times whether or not those before
//! them are answered.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, spawn_blocking};
use tonic::Status;

use crate::statistics::percentile;

/// What is not counted at the beginning of a run.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);
/// The same gaps in every run.
const SEED: u64 = 7;

/// What a load did, after its warm-up.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Done {
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    pub(super) count: usize,
    /// Calls that were answered with an error that the load expects.
    pub(super) refused: usize,
}

impl Done {
    /// Of the latencies of so many seconds.
    pub(super) fn of(latencies_ms: &[f64], refused: usize, seconds: f64) -> Result<Self> {
        ensure!(!latencies_ms.is_empty(), "nothing was done within the time of the run");
        Ok(Self {
            per_second: latencies_ms.len() as f64 / seconds,
            p50_ms: percentile(latencies_ms, 50),
            p99_ms: percentile(latencies_ms, 99),
            max_ms: percentile(latencies_ms, 100),
            count: latencies_ms.len(),
            refused,
        })
    }
}

/// One call: the answer, and how long it took.
struct Answered {
    at: Instant,
    latency_ms: f64,
    is_refused: bool,
}

/// So many clients, each of which calls again as soon as it is answered. `call` is given the number of the client.
pub(super) async fn closed<F>(
    clients: u32,
    seconds: u32,
    call: impl Fn(u32) -> F + Clone + Send + Sync + 'static,
) -> Result<Done>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs(seconds.into());
    let mut running = JoinSet::new();
    for client in 0..clients {
        let call = call.clone();
        running.spawn(async move {
            let mut answered = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                let is_refused = is_refused(call(client).await)?;
                let at = Instant::now();
                answered.push(Answered { at, latency_ms: milliseconds(at - begun), is_refused });
            }
            anyhow::Ok(answered)
        });
    }
    counted(running, begin, end).await
}

/// So many calls a second, at random moments as independent callers would. Latency runs from the moment a call is due.
pub(super) async fn open<F>(
    rate: f64,
    seconds: u32,
    call: impl Fn(u32) -> F + Send + Sync + 'static,
) -> Result<Done>
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs(seconds.into());
    let handle = Handle::current();
    // A thread that sleeps: a timer of the runtime would be a millisecond coarse.
    let paced = spawn_blocking(move || {
        let (mut random, mut running) = (fastrand::Rng::with_seed(SEED), JoinSet::new());
        let mut due = Instant::now();
        for number in 0.. {
            due += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
            if due >= end {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let call = call(number);
            let answered = async move {
                let is_refused = is_refused(call.await)?;
                let at = Instant::now();
                anyhow::Ok(vec![Answered { at, latency_ms: milliseconds(at - due), is_refused }])
            };
            running.spawn_on(answered, &handle);
        }
        running
    });
    // The last ones are answered after the end, and belong to it all the same.
    counted(paced.await.context("the pace panicked")?, begin, end + WARM_UP)
        .await
        .map(|done| Done { per_second: done.count as f64 / f64::from(seconds), ..done })
}

async fn counted(mut running: JoinSet<Result<Vec<Answered>>>, begin: Instant, end: Instant) -> Result<Done> {
    let (mut latencies_ms, mut refused) = (Vec::new(), 0);
    while let Some(answered) = running.join_next().await {
        for answered in answered.context("a call panicked")?? {
            if (begin..end).contains(&answered.at) {
                latencies_ms.push(answered.latency_ms);
                refused += usize::from(answered.is_refused);
            }
        }
    }
    Done::of(&latencies_ms, refused, (end - begin).as_secs_f64())
}

/// Whether a call was refused as only a flood is; any other error ends the run.
fn is_refused(outcome: Result<(), Status>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(false),
        Err(status) => {
            let is_expected =
                matches!(status.code(), tonic::Code::Unauthenticated | tonic::Code::ResourceExhausted);
            ensure!(is_expected, "a call failed: {status:?}");
            Ok(true)
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
