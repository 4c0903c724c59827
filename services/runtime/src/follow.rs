//! Files that are read again while the process runs: a change holds within a second, and what cannot be used changes nothing.
//!
//! They are read rather than watched, so a file that is renamed into place and a link that is changed (as Kubernetes mounts secrets)
//! are seen like any other change.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::warn;

use crate::health::Condition;

/// How often the files are read.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Reads the same files again and again.
#[derive(Debug)]
pub struct Follower {
    what: &'static str,
    condition: Condition,
    ticks: Interval,
    said: Option<String>,
}

impl Follower {
    /// Of the files that hold `what`; `condition` fails while they cannot be used. It should be a remark: the process goes on
    /// with what it has.
    pub fn new(what: &'static str, condition: Condition) -> Self {
        let mut ticks = interval(READ_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { what, condition, ticks, said: None }
    }

    /// Waits a while and reads; None when they cannot be used, which is said once for each reason.
    pub async fn next<T>(&mut self, read: impl FnOnce() -> Result<T, String>) -> Option<T> {
        self.ticks.tick().await;
        match read() {
            Ok(found) => {
                self.said = None;
                self.condition.ok();
                Some(found)
            }
            Err(why) => {
                if self.said.as_ref() != Some(&why) {
                    warn!(what = self.what, why, "stays as it is: the file cannot be used");
                    self.condition.fail(&why);
                    self.said = Some(why);
                }
                None
            }
        }
    }
}
