//! Who waits for a user to become known, and is woken when that happened. Nothing polls.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// The users that are waited for, each with those who wait.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    waited_for: Mutex<HashMap<String, watch::Sender<()>>>,
}

/// One who waits.
pub(crate) struct Arrival {
    arrivals: Arc<Arrivals>,
    user: String,
    told: watch::Receiver<()>,
}

impl Arrivals {
    /// From now on whatever becomes known of `user` is noticed.
    pub(crate) fn of(self: &Arc<Self>, user: &str) -> Arrival {
        let mut waited_for = self.waited_for();
        let sender = waited_for.entry(user.to_owned()).or_default();
        Arrival { told: sender.subscribe(), arrivals: Arc::clone(self), user: user.to_owned() }
    }

    /// Wakes those who wait for any of `users`.
    pub(crate) fn tell<'a>(&self, users: impl Iterator<Item = &'a str>) {
        let waited_for = self.waited_for();
        for sender in users.filter_map(|user| waited_for.get(user)) {
            sender.send_replace(());
        }
    }

    fn waited_for(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<()>>> {
        // Each change is one insert or removal, which a panic cannot leave half done.
        self.waited_for.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    /// Returns when something became known of the user since the last time.
    pub(crate) async fn next(&mut self) {
        // The sender goes with the last who waits, and this is one.
        let _ = self.told.changed().await;
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut waited_for = self.arrivals.waited_for();
        // This one still counts: its receiver is dropped after.
        if waited_for.get(&self.user).is_some_and(|sender| sender.receiver_count() <= 1) {
            waited_for.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn only_those_are_woken_who_wait_for_that_user() {
        let arrivals = Arc::new(Arrivals::default());
        let (mut first, mut second, mut other) = (arrivals.of("a"), arrivals.of("a"), arrivals.of("b"));
        assert_eq!(first.next().now_or_never(), None);
        arrivals.tell(["a", "c"].into_iter());
        assert_eq!(first.next().now_or_never(), Some(()));
        assert_eq!(second.next().now_or_never(), Some(()));
        assert_eq!(other.next().now_or_never(), None);
        assert_eq!(first.next().now_or_never(), None, "told once");
    }

    #[test]
    fn nothing_is_kept_of_who_has_left() {
        let arrivals = Arc::new(Arrivals::default());
        let (first, second) = (arrivals.of("a"), arrivals.of("a"));
        drop(first);
        assert_eq!(arrivals.waited_for().len(), 1);
        drop(second);
        assert_eq!(arrivals.waited_for().len(), 0);
    }
}
