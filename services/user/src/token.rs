//! Access tokens (EdDSA over Ed25519), and the keys that sign them.
//!
//! The private keys stay here; whoever verifies asks for the public ones.

use std::{
    fmt,
    path::PathBuf,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use jsonwebtoken::encode;
use serde::Serialize;
use tailrace::auth::v1::SigningKey;
use tailrace_runtime::{
    auth::{self, AUDIENCE, ISSUER, KEYS_ASKED_INTERVAL_MIN, OPERATOR_ROLE, TOKEN_LIFE_MAX, Verifier},
    follow::Follower,
    process::Misconfigured,
};
use tokio::time::Instant;
use tracing::info;
use uuid::Uuid;

use crate::{
    config::TokenSettings,
    error::Error,
    signing_keys::{self, Key},
    user,
};

/// Issues access tokens.
pub struct Issuer {
    file: PathBuf,
    keys: RwLock<Keys>,
    ttl: Duration,
}

struct Keys {
    /// Those of the file.
    published: Vec<Key>,
    /// One of them.
    signing: Key,
}

/// An access token and how long it is valid.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// The JWT.
    pub text: String,
    /// How long it is valid from its making on.
    pub ttl: Duration,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    roles: &'a [&'a str],
    iat: i64,
    exp: i64,
}

impl Issuer {
    /// Reads the keys of the file that the settings name.
    pub fn from_settings(settings: &TokenSettings) -> Result<Self, Misconfigured> {
        let ttl = settings.token_ttl;
        if ttl > TOKEN_LIFE_MAX {
            let (ttl, most) = (humantime::format_duration(ttl), humantime::format_duration(TOKEN_LIFE_MAX));
            return Err(Misconfigured::new(format!("TAILRACE_TOKEN_TTL: {ttl}: at most {most}")));
        }
        let file = settings.signing_key_file.clone();
        let published = signing_keys::read(&file).map_err(|why| {
            let path = file.display();
            Misconfigured::new(format!(
                "TAILRACE_SIGNING_KEY_FILE: {path}: {why}; make a key with `user-service keygen --out {path}`"
            ))
        })?;
        let signing = published.first().cloned().ok_or_else(|| Misconfigured::new("no key"))?;
        Ok(Self { file, keys: RwLock::new(Keys { published, signing }), ttl })
    }

    /// The public keys that verify its tokens.
    pub fn signing_keys(&self) -> Vec<SigningKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.published.iter().map(|key| key.published.clone()).collect()
    }

    /// Follows the file: what is in it is published, and verified by `verifier`, within a second; a new first key signs
    /// once all verifiers can know it. A file that cannot be read changes nothing.
    pub(crate) async fn follow_file(&self, verifier: &Verifier, mut follower: Follower) {
        let mut published_at = Instant::now();
        let read = || signing_keys::read(&self.file).map_err(|why| format!("{}: {why}", self.file.display()));
        loop {
            if let Some(keys) = follower.next(read).await
                && self.publish(keys)
            {
                published_at = Instant::now();
                verifier.replace(self.signing_keys());
            }
            if published_at.elapsed() > KEYS_ASKED_INTERVAL_MIN {
                self.sign_with_first();
            }
        }
    }

    /// Takes the keys over; false when nothing changed.
    fn publish(&self, keys: Vec<Key>) -> bool {
        let ids = |keys: &[Key]| keys.iter().map(|key| key.published.key_id.clone()).collect::<Vec<_>>();
        let (now, before) =
            (ids(&keys), ids(&self.keys.read().unwrap_or_else(PoisonError::into_inner).published));
        if now == before {
            return false;
        }
        info!(published = ?now, "the key file has changed");
        let mut current = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        // A key that was taken away must not sign one token more, even if the one that follows is not known everywhere.
        let withdrawn = !now.contains(&current.signing.published.key_id);
        if let Some(first) = keys.first().filter(|_| withdrawn) {
            current.signing = first.clone();
        }
        current.published = keys;
        true
    }

    fn sign_with_first(&self) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = keys.published.first().cloned()
            && first.published.key_id != keys.signing.published.key_id
        {
            info!(key_id = first.published.key_id, "tokens are signed with another key");
            keys.signing = first;
        }
    }

    /// A token for the user `id`, valid from `now` on.
    pub(crate) fn issue(&self, id: Uuid, operator: bool, now: Timestamp) -> Result<AccessToken, Error> {
        let issued_at = now.as_second();
        let seconds = i64::try_from(self.ttl.as_secs()).map_err(Error::inside)?;
        let claims = Claims {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: tailrace_runtime::resource::name(user::COLLECTION, id),
            roles: if operator { &[OPERATOR_ROLE] } else { &[] },
            iat: issued_at,
            exp: issued_at.saturating_add(seconds),
        };
        let key = self.keys.read().unwrap_or_else(PoisonError::into_inner).signing.clone();
        let text = encode(&auth::header(key.published.key_id), &claims, &key.signs).map_err(Error::inside)?;
        Ok(AccessToken { text, ttl: self.ttl })
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Issuer").field("file", &self.file).finish_non_exhaustive()
    }
}
