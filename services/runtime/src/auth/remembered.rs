//! Tokens that were verified a moment ago: a signature costs as much as the rest of a small call, and callers use one token for
//! thousands.
//!
//! Digests are kept and no token. What is remembered ends with the token, and soon anyway, so that a key that is withdrawn is.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};

use super::Principal;

/// How long a withdrawn key still lets callers in who were in before.
const REMEMBERED_MAX: Duration = Duration::from_secs(10);
/// More than that are forgotten all at once; whoever calls is verified again.
const TOKENS_MAX: usize = 4096;

type TokenDigest = [u8; 32];

#[derive(Default)]
pub(super) struct Remembered {
    tokens: Mutex<HashMap<TokenDigest, (Principal, SystemTime)>>,
}

impl Remembered {
    pub(super) fn digest(token: &str) -> TokenDigest {
        Sha256::digest(token).into()
    }

    /// Whom the token named, if that is still to be believed.
    pub(super) fn find(&self, token: &TokenDigest, now: SystemTime) -> Option<Principal> {
        let tokens = self.lock();
        let (principal, verified_at) = tokens.get(token)?;
        // A clock that was set back makes nothing older.
        let is_fresh = now.duration_since(*verified_at).is_ok_and(|age| age < REMEMBERED_MAX);
        (is_fresh && now < principal.expires_at).then(|| principal.clone())
    }

    pub(super) fn keep(&self, token: TokenDigest, principal: &Principal, now: SystemTime) {
        let mut tokens = self.lock();
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.insert(token, (principal.clone(), now));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenDigest, (Principal, SystemTime)>> {
        // A panic cannot leave half a change: each is one call.
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Remembered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Remembered").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn principal(expires_after: Duration) -> Principal {
        Principal { user: "users/a".to_owned(), operator: false, expires_at: START + expires_after }
    }

    fn check(expires_after: Duration, asked_after: Duration, is_found: bool) {
        let remembered = Remembered::default();
        let token = Remembered::digest("token");
        remembered.keep(token, &principal(expires_after), START);
        assert_eq!(remembered.find(&token, START + asked_after).is_some(), is_found, "{asked_after:?}");
        assert_eq!(remembered.find(&Remembered::digest("tokem"), START + asked_after), None);
    }

    #[test]
    fn what_is_remembered_ends_soon_and_with_its_token() {
        let (hour, second) = (Duration::from_secs(3600), Duration::from_secs(1));
        check(hour, Duration::ZERO, true);
        check(hour, REMEMBERED_MAX - second, true);
        check(hour, REMEMBERED_MAX, false);
        check(second, Duration::ZERO, true);
        check(second, second, false);
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let remembered = Remembered::default();
        for number in 0..=TOKENS_MAX {
            let token = Remembered::digest(&number.to_string());
            remembered.keep(token, &principal(REMEMBERED_MAX), START);
        }
        assert!(remembered.lock().len() <= TOKENS_MAX);
    }
}
