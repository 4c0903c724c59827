//! Argon2id, away from the async threads and bounded: threads of low priority for half of the cores, and a limited
//! queue, because a hash costs 19 MiB and tens of milliseconds, and anyone may ask for one.

use std::{
    fmt,
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{self, PasswordHasher as _, PasswordVerifier as _},
};
use rustix::process::setpriority_process;
use tokio::sync::{Semaphore, oneshot};
use tracing::warn;

use crate::{
    error::{Error, Kind},
    user::Password,
};

/// Calls that may wait for their turn or be hashing; more are refused.
const WAITING_MAX: usize = 64;
/// As a `nice` value: beside a busy thread, ours gets a tenth of a core. Everything else goes first, and nobody who signs in
/// waits for ever.
const PRIORITY: i32 = 10;

/// What a hash costs. Whoever can pay more guesses faster, so only measurements take another than the default.
#[derive(Clone, Copy, Debug)]
pub struct HashCost {
    memory_kib: u32,
    passes: u32,
}

impl HashCost {
    /// As good as none: for measurements of everything else.
    pub const LEAST: Self = Self { memory_kib: Params::MIN_M_COST, passes: Params::MIN_T_COST };

    fn argon2(self) -> password_hash::Result<Argon2<'static>> {
        let params = Params::new(self.memory_kib, self.passes, Params::DEFAULT_P_COST, None);
        Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params?))
    }
}

impl Default for HashCost {
    /// OWASP's minimum: 19 MiB, two passes, one lane.
    fn default() -> Self {
        Self { memory_kib: Params::DEFAULT_M_COST, passes: Params::DEFAULT_T_COST }
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Hashes and verifies passwords.
#[derive(Clone)]
pub(crate) struct Hasher {
    /// To the threads that hash. They end with the last sender.
    jobs: mpsc::Sender<Job>,
    places: Arc<Semaphore>,
    /// The hash of a password nobody has, verified where no user is, so that his absence costs the same time.
    nobody: Arc<str>,
    cost: HashCost,
}

impl Hasher {
    pub(crate) fn new(cost: HashCost) -> Result<Self, Error> {
        let nobody = hash(cost, uuid::Uuid::new_v4().as_bytes()).map_err(Error::inside)?;
        Ok(Self {
            jobs: start_threads(threads())?,
            places: Arc::new(Semaphore::new(WAITING_MAX)),
            nobody: nobody.into(),
            cost,
        })
    }

    /// The PHC string to store.
    pub(crate) async fn hash(&self, password: Password) -> Result<String, Error> {
        let cost = self.cost;
        self.in_turn(move || hash(cost, password.as_bytes())).await?.map_err(Error::inside)
    }

    /// Whether `password` is the one that was stored; never when nothing was, after the same time.
    pub(crate) async fn verify(&self, password: Password, stored: Option<String>) -> Result<bool, Error> {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.to_string());
        let outcome = self
            .in_turn(move || Argon2::default().verify_password(password.as_bytes(), stored.as_str()))
            .await?;
        match outcome {
            Ok(()) => Ok(known),
            Err(password_hash::Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(Error::inside(error)),
        }
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Kind::Overloaded)?;
        let (answer, answered) = oneshot::channel();
        let job = move || {
            // Whoever went away while he waited is not hashed for.
            if !answer.is_closed() {
                // He may still go away meanwhile.
                let _ = answer.send(work());
            }
            drop(place);
        };
        self.jobs.send(Box::new(job)).map_err(|_| Error::inside("the threads that hash have ended"))?;
        answered.await.map_err(Error::inside)
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hasher").field("cost", &self.cost).finish_non_exhaustive()
    }
}

/// Few threads that stay, so that the memory of one hash is used again for the next.
fn start_threads(count: usize) -> Result<mpsc::Sender<Job>, Error> {
    let (jobs, queue) = mpsc::channel();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..count {
        let queue = Arc::clone(&queue);
        let named = thread::Builder::new().name("passwords".to_owned());
        named.spawn(move || hash_all(&queue)).map_err(Error::inside)?;
    }
    Ok(jobs)
}

/// Half of the cores that this process may use: the other half is for those who are signed in.
fn threads() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}

fn hash_all(queue: &Mutex<mpsc::Receiver<Job>>) {
    // On Linux that is this thread alone.
    if let Err(error) = setpriority_process(None, PRIORITY) {
        warn!(%error, "passwords are hashed at the priority of everything else");
    }
    // Whoever waits for the next job holds the lock; it is free while he hashes.
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok(job) = next() {
        // Its caller is told by the answer that does not come; the next have theirs.
        let _ = panic::catch_unwind(AssertUnwindSafe(job));
    }
}

fn hash(cost: HashCost, password: &[u8]) -> password_hash::Result<String> {
    cost.argon2()?.hash_password(password).map(|hash: password_hash::phc::PasswordHash| hash.to_string())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::Barrier,
        task::{Context, Waker},
        time::Duration,
    };

    use tailrace_runtime::task;
    use tokio::time::timeout;

    use super::*;

    fn password(text: &str) -> Password {
        Password::offered(text).expect("a password")
    }

    #[tokio::test]
    async fn only_the_stored_password_verifies() {
        let hasher = Hasher::new(HashCost::default()).expect("a hasher");
        let stored = hasher.hash(password("correct horse")).await.expect("a hash");
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(hasher.verify(password("correct horse"), Some(stored.clone())).await.expect("an answer"));
        assert!(!hasher.verify(password("wrong horse"), Some(stored)).await.expect("an answer"));
        assert!(!hasher.verify(password("correct horse"), None).await.expect("an answer"));
    }

    /// Gives every thread work, and waits until they have begun; it lasts until the answer is dropped.
    async fn busy(hasher: &Hasher) -> Vec<mpsc::Sender<()>> {
        let mut held = Vec::new();
        for _ in 0..threads() {
            let (hold, released) = mpsc::channel::<()>();
            let (began, begun) = oneshot::channel::<()>();
            let hasher = hasher.clone();
            task::spawn("busy", async move {
                let work = move || {
                    drop(began);
                    let _ended = released.recv();
                };
                hasher.in_turn(work).await.expect("done");
            });
            drop(begun.await);
            held.push(hold);
        }
        held
    }

    #[tokio::test]
    async fn who_left_is_not_hashed_for_and_a_panic_ends_one_answer_only() {
        let hasher = Hasher::new(HashCost::default()).expect("a hasher");
        let held = busy(&hasher).await;
        let (worked, works) = mpsc::channel();
        {
            let mut left = Box::pin(hasher.in_turn(move || worked.send(())));
            assert!(left.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        drop(held);
        hasher.in_turn(|| panic!("on purpose")).await.expect_err("no answer");
        assert_eq!(hasher.in_turn(|| 7).await.expect("the next has his"), 7);
        assert!(works.recv().is_err(), "nobody waited for it");
        // A place is given back a moment after its answer.
        let all_places = hasher.places.acquire_many(WAITING_MAX as u32);
        let given_back =
            timeout(Duration::from_secs(10), all_places).await.expect("every place is given back");
        drop(given_back.expect("never closed"));
    }

    #[test]
    fn threads_work_at_once() {
        let jobs = start_threads(3).expect("threads");
        let (arrive, arrived) = mpsc::channel();
        let together = Arc::new(Barrier::new(3));
        for _ in 0..3 {
            let (together, arrive) = (Arc::clone(&together), arrive.clone());
            let job = move || {
                together.wait();
                arrive.send(thread::current().id()).expect("it is waited for");
            };
            jobs.send(Box::new(job)).expect("a queue");
        }
        let wait = Duration::from_secs(10);
        let ids: HashSet<_> =
            (0..3).map(|_| arrived.recv_timeout(wait).expect("all three at once")).collect();
        assert_eq!(ids.len(), 3);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let hasher = Hasher::new(HashCost::default()).expect("a hasher");
        let taken = hasher.places.clone().try_acquire_many_owned(WAITING_MAX as u32).expect("all places");
        let refused = hasher.verify(password("x"), None).await.expect_err("no place is left");
        assert!(matches!(refused.0, Kind::Overloaded));
        drop(taken);
        assert!(!hasher.verify(password("x"), None).await.expect("an answer"));
    }
}
