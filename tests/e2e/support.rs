//! What the tests stand on: the system, its callers, a subscriber that resumes, writers, and the comparison of what was
//! written with what arrived.

pub(crate) mod caller;
pub(crate) mod document;
pub(crate) mod link;
pub(crate) mod record;
pub(crate) mod subscriber;
pub(crate) mod system;
pub(crate) mod traffic;
pub(crate) mod truth;

use std::future::Future;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

/// Nothing a test waits for takes longer than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition that nobody announces is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `look` gives a value.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let mut ticks = ticks();
    let found = async {
        loop {
            ticks.tick().await;
            if let Some(value) = look().await {
                return value;
            }
        }
    };
    timeout(DEADLINE, found).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// The pace of those who look or try again.
pub(crate) fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
