//! Repeats calls that cannot do harm twice, while a service is away.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::backoff::Backoff;
use crate::failure::{Failure, failure_of};

/// The reason of a call that was refused because too many came, before anything was done for it.
const TOO_MANY_CALLS: &str = "RATE_LIMIT_EXCEEDED";

/// How a call that cannot do harm twice is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOptions {
    /// How often a call is sent at most, the first time included.
    pub attempts_max: u32,
    /// The bounds of the waits, to which comes what the server's `RetryInfo` asks for.
    pub backoff: Backoff,
}

impl Default for RetryOptions {
    fn default() -> Self {
        let backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(5) };
        Self { attempts_max: 5, backoff }
    }
}

/// Calls until it succeeds, fails otherwise than with `UNAVAILABLE` (AIP-194) or because too many calls came, or has failed often
/// enough. No wait begins that would pass the deadline.
pub(crate) async fn retrying<T, F: Future<Output = Result<T, Status>>>(
    options: RetryOptions,
    deadline: Option<Instant>,
    mut call: impl FnMut() -> F,
) -> Result<T, Status> {
    let mut attempt = 0;
    loop {
        let status = match call().await {
            Ok(answer) => return Ok(answer),
            Err(status) => status,
        };
        attempt += 1;
        let failure = failure_of(&status);
        if !is_repeated(&failure) || attempt >= options.attempts_max {
            return Err(status);
        }
        let wait = failure.retry_after + options.backoff.draw(attempt - 1);
        if deadline.is_some_and(|deadline| Instant::now() + wait >= deadline) {
            return Err(status);
        }
        sleep(wait).await;
    }
}

fn is_repeated(failure: &Failure) -> bool {
    failure.code == Code::Unavailable || failure.reason == TOO_MANY_CALLS
}
