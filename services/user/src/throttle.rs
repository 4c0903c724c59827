//! How often a password may be guessed, by signing in or by changing it: wrong tries are counted for each pair of account and
//! caller's address, and for each address over all accounts.
//!
//! Nothing is counted for an account alone, so that nobody can lock its owner out from elsewhere.
//!
//! ```text
//! pair     a few tries at once, then a wait that doubles with each wrong one; forgotten after a success or a quiet time
//! address  a number at once and as many a minute then, over all accounts
//! ```

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tailrace_runtime::client::ClientAddress;
use uuid::Uuid;

use crate::{
    config::SignInSettings,
    error::{Error, Kind},
    user::Email,
};

/// Entries that are remembered of each kind. Beyond them new ones are not, and the limits of the others still hold.
const REMEMBERED_MAX: usize = 65_536;
/// After how long without a wrong try a pair is forgotten.
const QUIET: Duration = Duration::from_secs(15 * 60);
/// How often a full table is searched for what can be forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The wrong tries of late.
#[derive(Debug)]
pub(crate) struct Throttle {
    settings: SignInSettings,
    hasher: RandomState,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    pairs: HashMap<u64, Pair>,
    addresses: HashMap<u64, Address>,
    swept_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    /// Tries whose outcome is not known yet.
    pending: u32,
    wrong: u32,
    free_at: Instant,
    tried_at: Instant,
}

/// A bucket of tries that fills evenly.
#[derive(Clone, Copy, Debug)]
struct Address {
    full_at: Instant,
}

/// The account whose password is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Account<'a> {
    /// Who signs in is named by what he signs in with.
    Email(&'a Email),
    /// Who changes his password is known, whatever address he gives himself meanwhile.
    User(Uuid),
}

/// What became of a try.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Right,
    Wrong,
    /// No password was compared.
    NotCompared,
}

/// One try that was let through. It counts as wrong unless something else is said before it is dropped.
#[derive(Debug)]
#[must_use = "a try that is dropped counts as wrong"]
pub(crate) struct Try<'a> {
    throttle: &'a Throttle,
    pair: u64,
    address: u64,
    begun_at: Instant,
    outcome: Outcome,
}

impl Throttle {
    pub(crate) fn new(settings: SignInSettings) -> Self {
        Self { settings, hasher: RandomState::new(), tables: Mutex::default() }
    }

    /// Lets a try through, or tells how long to wait.
    pub(crate) fn begin(
        &self,
        account: Account<'_>,
        from: ClientAddress,
        now: Instant,
    ) -> Result<Try<'_>, Error> {
        let pair = match account {
            // An account is found whatever the case, so another case is no other account.
            Account::Email(email) => self.hasher.hash_one((email.as_str().to_ascii_lowercase(), from)),
            Account::User(id) => self.hasher.hash_one((id, from)),
        };
        let address = self.hasher.hash_one(from);
        let mut tables = self.tables();
        tables.make_room(now);
        let before = tables.pairs.get(&pair).copied().filter(|pair| !pair.is_quiet(now));
        let mut tried = before.unwrap_or(Pair { pending: 0, wrong: 0, free_at: now, tried_at: now });
        let bucket = tables.addresses.get(&address).copied().unwrap_or(Address { full_at: now });
        let after = Address { full_at: bucket.full_at.max(now) + self.cost() };
        let wait_of_address = after.full_at.saturating_duration_since(now).saturating_sub(MINUTE);
        let wait = self.wait_of(tried, now).max(wait_of_address);
        if !wait.is_zero() {
            return Err(Kind::TooManyTries(wait).into());
        }
        tried.pending += 1;
        tried.tried_at = now;
        tables.remember(pair, tried, address, after);
        Ok(Try { throttle: self, pair, address, begun_at: now, outcome: Outcome::Wrong })
    }

    /// How long a pair must wait. Tries at the same time are bounded, so that many at once gain a guesser nothing.
    fn wait_of(&self, pair: Pair, now: Instant) -> Duration {
        let few = pair.wrong < self.settings.sign_in_tries;
        let at_once = if few { self.settings.sign_in_tries.saturating_mul(2) } else { 1 };
        let turn = if pair.pending < at_once { Duration::ZERO } else { FIRST_WAIT };
        pair.free_at.saturating_duration_since(now).max(turn)
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the next try waits after so many wrong ones.
    fn wait_after(&self, wrong: u32) -> Duration {
        wrong.checked_sub(self.settings.sign_in_tries).map_or(Duration::ZERO, |doublings| {
            let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
            FIRST_WAIT.saturating_mul(factor).min(self.settings.sign_in_wait_max)
        })
    }

    /// How long an address takes to have one try more.
    fn cost(&self) -> Duration {
        MINUTE / self.settings.sign_in_address_tries.max(1)
    }
}

impl Try<'_> {
    pub(crate) fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let mut tables = self.throttle.tables();
        if let Some(pair) = tables.pairs.get_mut(&self.pair) {
            pair.pending = pair.pending.saturating_sub(1);
            match self.outcome {
                Outcome::Right => pair.wrong = 0,
                Outcome::Wrong => {
                    pair.wrong = pair.wrong.saturating_add(1);
                    pair.free_at = pair.free_at.max(self.begun_at + self.throttle.wait_after(pair.wrong));
                }
                Outcome::NotCompared => {}
            }
            if pair.pending == 0 && pair.wrong == 0 {
                tables.pairs.remove(&self.pair);
            }
        }
        if matches!(self.outcome, Outcome::Right | Outcome::NotCompared)
            && let Some(bucket) = tables.addresses.get_mut(&self.address)
        {
            bucket.full_at = bucket.full_at.checked_sub(self.throttle.cost()).unwrap_or(bucket.full_at);
        }
    }
}

impl Pair {
    fn is_quiet(&self, now: Instant) -> bool {
        self.pending == 0 && now.saturating_duration_since(self.tried_at) >= QUIET && self.free_at <= now
    }
}

impl Tables {
    fn make_room(&mut self, now: Instant) {
        let full = self.pairs.len() >= REMEMBERED_MAX || self.addresses.len() >= REMEMBERED_MAX;
        let recently = self.swept_at.is_some_and(|at| now.saturating_duration_since(at) < SWEEP_EVERY);
        if full && !recently {
            self.swept_at = Some(now);
            self.pairs.retain(|_, pair| !pair.is_quiet(now));
            self.addresses.retain(|_, bucket| bucket.full_at > now);
        }
    }

    fn remember(&mut self, pair: u64, tried: Pair, address: u64, bucket: Address) {
        if self.pairs.len() < REMEMBERED_MAX || self.pairs.contains_key(&pair) {
            self.pairs.insert(pair, tried);
        }
        if self.addresses.len() < REMEMBERED_MAX || self.addresses.contains_key(&address) {
            self.addresses.insert(address, bucket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn throttle() -> Throttle {
        Throttle::new(SignInSettings {
            sign_in_tries: 5,
            sign_in_wait_max: MINUTE,
            sign_in_address_tries: 100,
        })
    }

    fn email(name: &str) -> Email {
        Email::new(format!("{name}@example.org")).expect("an address")
    }

    fn address(last: u8) -> ClientAddress {
        ClientAddress::new(IpAddr::from([192, 0, 2, last]))
    }

    impl Throttle {
        fn try_email(&self, name: &str, last: u8, now: Instant) -> Result<Try<'_>, Error> {
            self.begin(Account::Email(&email(name)), address(last), now)
        }
    }

    fn second(from: Instant, seconds: u32) -> Instant {
        from + Duration::from_secs(1) * seconds
    }

    #[test]
    fn a_pair_has_ten_tries_in_the_first_minute_and_one_a_minute_then() {
        let (throttle, start) = (throttle(), Instant::now());
        let passed = |minute: u32| {
            let tries = (0..600).map(|tenth| start + MINUTE * minute + Duration::from_millis(100) * tenth);
            tries.filter(|now| throttle.try_email("ada", 1, *now).is_ok()).count()
        };
        assert_eq!((0..5).map(passed).collect::<Vec<_>>(), [10, 1, 1, 1, 1]);
        assert!(throttle.try_email("ADA", 1, second(start, 300)).is_err(), "the same account");
        assert!(throttle.try_email("ada", 2, second(start, 1)).is_ok(), "the owner, elsewhere");
        assert!(throttle.try_email("eve", 1, second(start, 301)).is_ok(), "another account");
    }

    #[test]
    fn an_address_has_its_tries_over_all_accounts() {
        let (throttle, now) = (throttle(), Instant::now());
        let passed = (0..1000).filter(|n| throttle.try_email(&format!("u{n}"), 1, now).is_ok());
        assert_eq!(passed.count(), 100);
        assert!(throttle.try_email("u0", 2, now).is_ok());
        assert!(throttle.try_email("new", 1, second(now, 1)).is_ok(), "it fills again");
    }

    #[test]
    fn right_passwords_cost_nothing() {
        let (throttle, now) = (throttle(), Instant::now());
        for _ in 0..1000 {
            let counted = throttle.try_email("ada", 1, now).expect("let through");
            counted.end(Outcome::Right);
            let counted = throttle.try_email("ada", 1, now).expect("let through");
            counted.end(Outcome::NotCompared);
        }
        assert!(throttle.try_email("ada", 1, now).is_ok());
    }

    #[test]
    fn many_at_once_gain_nothing() {
        let (throttle, now) = (throttle(), Instant::now());
        let begin = || throttle.try_email("ada", 1, now);
        let pending: Vec<_> = (0..100).filter_map(|_| begin().ok()).collect();
        assert_eq!(pending.len(), 10);
        for right in pending {
            right.end(Outcome::Right);
        }
        let pending: Vec<_> = (0..100).filter_map(|_| begin().ok()).collect();
        assert_eq!(pending.len(), 10, "right ones at once leave nothing behind");
        drop(pending);
        assert!(throttle.try_email("ada", 1, second(now, 31)).is_err(), "ten were wrong");
        let next: Vec<_> =
            (0..9).filter_map(|_| throttle.try_email("ada", 1, second(now, 32)).ok()).collect();
        assert_eq!(next.len(), 1, "and now one at a time");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (throttle, now) = (throttle(), Instant::now());
        for n in 0..70_000_u32 {
            let from = ClientAddress::new(IpAddr::from(n.to_be_bytes()));
            assert!(throttle.begin(Account::Email(&email("ada")), from, now).is_ok());
        }
        let sizes = |tables: &Tables| (tables.pairs.len(), tables.addresses.len());
        assert_eq!(sizes(&throttle.tables.lock().expect("the tables")), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert!(throttle.try_email("ada", 1, now + QUIET).is_ok());
        assert_eq!(sizes(&throttle.tables.lock().expect("the tables")), (1, 1));
    }

    #[test]
    fn changing_a_password_is_trying_it() {
        let (throttle, now) = (throttle(), Instant::now());
        let [ada, bob] = [1, 2].map(|number| Account::User(Uuid::from_u128(number)));
        let passed = (0..100).filter(|_| throttle.begin(ada, address(1), now).is_ok()).count();
        assert_eq!(passed, 5);
        assert!(throttle.begin(ada, address(2), now).is_ok(), "the owner, elsewhere");
        assert!(throttle.begin(bob, address(1), now).is_ok(), "another account");
        assert!(throttle.begin(ada, address(1), second(now, 1)).is_ok());
        let signed_in = (0..1000).filter(|n| throttle.try_email(&format!("u{n}"), 1, now).is_ok());
        assert_eq!(signed_in.count(), 100 - 7, "an address has its tries over both");
    }
}
