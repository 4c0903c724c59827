//! A bucket of calls for each key, which fills evenly (GCRA, by `governor`), in bounded memory.
//!
//! ```text
//! key ─► hash ─► shard ─► its bucket ┄ forgotten when it is full again, as a new one would be
//!                   └─► no room for another: the bucket that all such keys of the shard have together
//! ```
//!
//! So a stream of new keys takes no more memory than is named here, and gains nothing by it. No lock is shared by all calls.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, Hash, RandomState},
    num::NonZeroU32,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{StateStore, keyed::ShrinkableKeyedStateStore},
};

use crate::clock::Monotonic;

const SHARDS: usize = 64;
/// Buckets that each remembers; in all shards some 2 MB.
const SHARD_BUCKETS_MAX: usize = 1024;
/// How often full buckets are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What each of many may do in a second.
pub(super) struct Buckets {
    limiter: RateLimiter<u64, Shards, Monotonic, NoOpMiddleware<Instant>>,
    hasher: RandomState,
    made_at: Instant,
    /// When full buckets were last looked for, in nanoseconds since then.
    swept_ns: AtomicU64,
}

impl Buckets {
    /// Buckets that hold `burst` calls and get `rate` a second; none if any number may be taken.
    pub(super) fn new(rate: u32, burst: u32, clock: &Monotonic) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(rate)?).allow_burst(NonZeroU32::new(burst)?);
        let limiter = RateLimiter::new(quota, Shards::default(), clock.clone());
        Some(Self { limiter, hasher: RandomState::new(), made_at: clock.now(), swept_ns: AtomicU64::new(0) })
    }

    /// Takes a call out of a bucket, or tells how long it takes until there is one.
    pub(super) fn take(&self, key: impl Hash) -> Result<(), Duration> {
        self.sweep();
        let taken = self.limiter.check_key(&self.hasher.hash_one(key));
        taken.map_err(|until| until.wait_time_from(self.limiter.clock().now()))
    }

    fn sweep(&self) {
        let now = self.limiter.clock().now().saturating_duration_since(self.made_at);
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let before_ns = self.swept_ns.load(Ordering::Relaxed);
        if Duration::from_nanos(now_ns.saturating_sub(before_ns)) < SWEEP_EVERY {
            return;
        }
        // One of those who come at once does it.
        let won = self.swept_ns.compare_exchange(before_ns, now_ns, Ordering::Relaxed, Ordering::Relaxed);
        if won.is_ok() {
            self.limiter.retain_recent();
        }
    }
}

/// Where the library keeps its buckets, each as the time at which it is full.
struct Shards([Mutex<Shard>; SHARDS]);

#[derive(Default)]
struct Shard {
    buckets: HashMap<u64, Nanos>,
    /// Of all keys for which there is no room.
    others: Option<Nanos>,
}

impl Default for Shards {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Shards {
    /// Keys are hashes, so any of their bits spread them.
    fn lock(&self, key: u64) -> MutexGuard<'_, Shard> {
        unpoisoned(&self.0[(key % SHARDS as u64) as usize])
    }

    fn locked(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.0.iter().map(unpoisoned)
    }
}

/// A panic cannot leave half a change: each is one call.
fn unpoisoned(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StateStore for Shards {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.lock(*key);
        let Shard { buckets, others } = &mut *shard;
        let has_room = buckets.len() < SHARD_BUCKETS_MAX;
        match buckets.entry(*key) {
            Entry::Occupied(mut bucket) => {
                let (outcome, full_at) = measure(Some(*bucket.get()))?;
                bucket.insert(full_at);
                Ok(outcome)
            }
            Entry::Vacant(bucket) if has_room => {
                let (outcome, full_at) = measure(None)?;
                bucket.insert(full_at);
                Ok(outcome)
            }
            Entry::Vacant(_) => {
                let (outcome, full_at) = measure(*others)?;
                *others = Some(full_at);
                Ok(outcome)
            }
        }
    }
}

impl ShrinkableKeyedStateStore<u64> for Shards {
    fn retain_recent(&self, drop_below: Nanos) {
        for mut shard in self.locked() {
            shard.buckets.retain(|_, full_at| *full_at > drop_below);
        }
    }

    fn len(&self) -> usize {
        self.locked().map(|shard| shard.buckets.len()).sum()
    }

    fn is_empty(&self) -> bool {
        self.locked().all(|shard| shard.buckets.is_empty())
    }
}

impl Clock for Monotonic {
    type Instant = Instant;

    fn now(&self) -> Instant {
        Self::now(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BUCKETS_MAX: usize = SHARDS * SHARD_BUCKETS_MAX;

    fn buckets(rate: u32, burst: u32) -> (Buckets, Monotonic) {
        let clock = Monotonic::stopped();
        (Buckets::new(rate, burst, &clock).expect("a limit"), clock)
    }

    fn passed(buckets: &Buckets, key: &str) -> usize {
        (0..1000).take_while(|_| buckets.take(key).is_ok()).count()
    }

    #[test]
    fn a_bucket_is_emptied_at_once_and_fills_evenly() {
        let (buckets, clock) = buckets(10, 5);
        assert_eq!(passed(&buckets, "ada"), 5);
        assert_eq!(buckets.take("ada"), Err(SECOND / 10));
        clock.skip(SECOND / 10 - Duration::from_nanos(1));
        assert_eq!(buckets.take("ada"), Err(Duration::from_nanos(1)));
        clock.skip(Duration::from_nanos(1));
        assert_eq!(passed(&buckets, "ada"), 1);
        assert_eq!(passed(&buckets, "bob"), 5, "another has his own");
        clock.skip(SECOND * 3600);
        assert_eq!(passed(&buckets, "ada"), 5, "it holds no more than that");
    }

    #[test]
    fn who_is_refused_waits_no_longer_for_having_asked() {
        let (buckets, clock) = buckets(1, 1);
        assert_eq!(passed(&buckets, "ada"), 1);
        for _ in 0..1000 {
            assert_eq!(buckets.take("ada"), Err(SECOND));
        }
        clock.skip(SECOND);
        assert_eq!(passed(&buckets, "ada"), 1);
    }

    #[test]
    fn zero_is_any_number() {
        assert!(Buckets::new(0, 5, &Monotonic::stopped()).is_none());
    }

    #[test]
    fn the_largest_numbers_are_numbers_like_others() {
        for (rate, burst) in [(u32::MAX, u32::MAX), (1, u32::MAX), (u32::MAX, 1)] {
            let (buckets, clock) = buckets(rate, burst);
            assert_eq!(buckets.take("ada"), Ok(()));
            clock.skip(SECOND * 3600 * 24 * 365);
            assert_eq!(buckets.take("ada"), Ok(()));
        }
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let (buckets, clock) = buckets(10, 5);
        for key in 0..10_000_u32 {
            assert!(buckets.take(key).is_ok());
        }
        assert_eq!(buckets.limiter.len(), 10_000);
        clock.skip(SECOND);
        assert!(buckets.take("ada").is_ok());
        assert_eq!(buckets.limiter.len(), 1);
        assert_eq!(passed(&buckets, "ada"), 4, "who is remembered goes on where he was");
    }

    #[test]
    fn a_stream_of_new_keys_takes_no_more_memory_and_gains_nothing() {
        let (buckets, clock) = buckets(1, 5);
        assert_eq!(passed(&buckets, "ada"), 5);
        let passed_of_new = (0..1_000_000_u32).filter(|key| buckets.take(key).is_ok()).count();
        assert_eq!(buckets.limiter.len(), BUCKETS_MAX);
        // Each has a call of its own as long as there is room; the rest have together what one has, in each shard.
        assert_eq!(passed_of_new, BUCKETS_MAX - 1 + 5 * SHARDS);
        assert!(buckets.take("ada").is_err(), "who was remembered before still is");
        clock.skip(SECOND * 2);
        assert!(buckets.take("eve").is_ok(), "and there is room again");
        assert_eq!(buckets.limiter.len(), 2, "of ada, who has still to wait for a full one, and eve");
    }
}
