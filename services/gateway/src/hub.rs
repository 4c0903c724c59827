//! The feed, shared: one consumer writes, subscriptions read and are woken. Nothing polls.

use std::sync::{PoisonError, RwLock};

use tokio::sync::watch;

use crate::feed::Feed;

/// The shared feed.
#[derive(Debug)]
pub struct Hub {
    feed: RwLock<Feed>,
    changed: watch::Sender<()>,
}

impl Hub {
    /// Shares `feed`.
    pub fn new(feed: Feed) -> Self {
        Self { feed: RwLock::new(feed), changed: watch::Sender::new(()) }
    }

    /// Looks at the feed.
    pub fn read<T>(&self, look: impl FnOnce(&Feed) -> T) -> T {
        // A panic in the consumer ends the process; what a reader sees until then is whole events.
        look(&self.feed.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the feed and wakes whoever waits for a change.
    pub fn update<T>(&self, change: impl FnOnce(&mut Feed) -> T) -> T {
        let answer = change(&mut self.feed.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
        answer
    }

    /// Sees every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
