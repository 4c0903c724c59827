//! The edge where clocks are read and blocking calls leave the async threads.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::engine::Now;
use crate::sink::kafka::SinkError;

/// Both clocks, now.
pub(crate) fn now() -> Now {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { monotonic: Instant::now(), unix_us: i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX) }
}

/// Runs a blocking question to Kafka off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
) -> Result<T, SinkError> {
    tokio::task::spawn_blocking(question).await.unwrap_or_else(|_| Err(SinkError::ended()))
}
