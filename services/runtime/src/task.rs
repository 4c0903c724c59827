//! The only place that starts tasks: each has a name, and none dies unseen.

use std::{future::Future, panic::AssertUnwindSafe, process};

use futures::FutureExt as _;
use tokio::task::JoinHandle;
use tracing::{Instrument as _, error, error_span};

use crate::process::FAILED;

/// Runs `future` beside the caller. A panic in it ends the process with exit code 1: a part of it that is gone without
/// notice is worse than a restart.
#[expect(clippy::disallowed_methods, reason = "this is the helper that the lint points to")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let guarded = async move {
        match AssertUnwindSafe(future).catch_unwind().await {
            Ok(output) => output,
            Err(_) => {
                error!(task.name = name, "a task panicked, the process ends");
                process::exit(i32::from(FAILED));
            }
        }
    };
    tokio::spawn(guarded.instrument(error_span!("task", task.name = name)))
}
