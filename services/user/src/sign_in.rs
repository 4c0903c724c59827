//! What is done with sign-ins: begin one with a password, go on with refresh tokens, end one, end all of a user.
//!
//! ```text
//! Login ─► sign-in ─► token 1 ─refresh─► token 2 ─refresh─► token 3
//!                        └──────────refresh again: the sign-in ends, and token 3 with it
//! ```

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tailrace_runtime::{
    client::ClientAddress,
    clock::{self, Monotonic},
};
use tracing::warn;
use uuid::Uuid;

use crate::{
    error::{Error, Kind},
    password::Hasher,
    refresh::RefreshToken,
    store::{Refreshed, Store},
    throttle::{Account, Outcome, Throttle},
    token::{AccessToken, Issuer},
    user::{Email, Password},
};

/// Who is signed in, and the tokens.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) id: Uuid,
    pub(crate) operator: bool,
    pub(crate) access: AccessToken,
    pub(crate) refresh: RefreshToken,
    /// How long refreshing goes on.
    pub(crate) refresh_ttl: Duration,
}

/// The sign-ins, and everything that can be done with them.
pub(crate) struct SignIns {
    store: Store,
    hasher: Hasher,
    issuer: Arc<Issuer>,
    ttl: Duration,
    throttle: Throttle,
    clock: Monotonic,
}

impl SignIns {
    /// Sign-ins that end after `ttl`, however often they are refreshed. Waits of the throttle are measured by `clock`.
    pub(crate) fn new(
        store: Store,
        hasher: Hasher,
        issuer: Arc<Issuer>,
        ttl: Duration,
        throttle: Throttle,
        clock: Monotonic,
    ) -> Self {
        Self { store, hasher, issuer, ttl, throttle, clock }
    }

    pub(crate) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Signs a user in, unless too many wrong passwords came from the address `from` of late.
    pub(crate) async fn begin(
        &self,
        email: &Email,
        password: Password,
        from: ClientAddress,
    ) -> Result<SignedIn, Error> {
        let counted = self.throttle.begin(Account::Email(email), from, self.clock.now())?;
        let signed_in = self.begin_unthrottled(email, password).await;
        counted.end(match &signed_in {
            Ok(_) => Outcome::Right,
            Err(error) if matches!(error.0, Kind::WrongCredentials) => Outcome::Wrong,
            Err(_) => Outcome::NotCompared,
        });
        signed_in
    }

    /// An unknown address, a deleted user and a wrong password are the same error after the same work.
    async fn begin_unthrottled(&self, email: &Email, password: Password) -> Result<SignedIn, Error> {
        let credentials = self.store.credentials(email).await?;
        let stored = credentials.as_ref().map(|credentials| credentials.password_hash.clone());
        let verified = self.hasher.verify(password, stored).await?;
        let Some(credentials) = credentials.filter(|_| verified) else {
            return Err(Kind::WrongCredentials.into());
        };
        let (now, refresh) = (clock::now(), RefreshToken::random()?);
        let expires_at = now.checked_add(self.ttl).map_err(Error::inside)?;
        // None: the password was changed, or the user deleted, while this one was being verified.
        if !self.store.begin_sign_in(&credentials, refresh.digest(), expires_at).await? {
            return Err(Kind::WrongCredentials.into());
        }
        let access = self.issuer.issue(credentials.id, credentials.operator, now)?;
        let (id, operator) = (credentials.id, credentials.operator);
        Ok(SignedIn { id, operator, access, refresh, refresh_ttl: self.ttl })
    }

    /// Spends a refresh token for the next one. One that was spent before ends its sign-in.
    pub(crate) async fn go_on(&self, spent: &RefreshToken) -> Result<SignedIn, Error> {
        let (now, refresh) = (clock::now(), RefreshToken::random()?);
        let Some(refreshed) = self.store.refresh(spent.digest(), refresh.digest(), now).await? else {
            if let Some(user) = self.store.end_sign_in_of_spent(spent.digest()).await? {
                warn!(user.id = %user, "a refresh token was used twice, its sign-in is ended");
            }
            return Err(Kind::RefreshTokenInvalid.into());
        };
        let Refreshed { user_id, operator, expires_at } = refreshed;
        let access = self.issuer.issue(user_id, operator, now)?;
        Ok(SignedIn { id: user_id, operator, access, refresh, refresh_ttl: left(now, expires_at) })
    }

    /// Ends the sign-in of a refresh token, if there is one.
    pub(crate) async fn end(&self, token: &RefreshToken) -> Result<(), Error> {
        self.store.end_sign_in(token.digest()).await
    }

    /// Changes the password of a user, and ends all his sign-ins, unless too many wrong ones came from the address `from` of
    /// late: whoever has a stolen token can guess here as in signing in.
    pub(crate) async fn change_password(
        &self,
        user: Uuid,
        current: Password,
        new: Password,
        from: ClientAddress,
    ) -> Result<(), Error> {
        let counted = self.throttle.begin(Account::User(user), from, self.clock.now())?;
        let changed = self.change_unthrottled(user, current, new).await;
        counted.end(match &changed {
            Ok(()) => Outcome::Right,
            Err(error) if matches!(error.0, Kind::WrongPassword) => Outcome::Wrong,
            Err(_) => Outcome::NotCompared,
        });
        changed
    }

    async fn change_unthrottled(&self, user: Uuid, current: Password, new: Password) -> Result<(), Error> {
        let stored = self.store.password_hash(user).await?;
        let verified = self.hasher.verify(current, stored.clone()).await?;
        let Some(before) = stored.filter(|_| verified) else { return Err(Kind::WrongPassword.into()) };
        let after = self.hasher.hash(new).await?;
        // Not changed: somebody else did so meanwhile, and what was verified is the password no longer.
        if !self.store.change_password(user, &before, &after).await? {
            return Err(Kind::WrongPassword.into());
        }
        Ok(())
    }
}

fn left(now: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or_default()
}
