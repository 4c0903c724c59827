//! Who calls: verifies access tokens (EdDSA JWT) and says whom they name.
//!
//! It issues none: that is the user service's. What a principal may do stands in [`crate::access`].
//!
//! RFC 8725: one algorithm and one type, chosen here and not by the token; a header that holds what ours do and nothing else; key
//! by `kid` from our own set only; issuer, audience, subject, issue and expiry required. Every refusal reads the same to the caller.

mod keys;
mod remembered;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, Header, Validation, decode};
use serde::Deserialize;
use tailrace::auth::v1::SigningKey;
use tonic::{Code, Status, metadata::MetadataMap};
use tracing::debug;

pub use self::keys::ASKED_INTERVAL_MIN as KEYS_ASKED_INTERVAL_MIN;
use self::{keys::Keys, remembered::Remembered};
use crate::{error::Problem, process::Misconfigured, settings::AuthSettings};

/// The issuer and the audience of every access token.
pub const ISSUER: &str = "tailrace";
/// See [`ISSUER`].
pub const AUDIENCE: &str = "tailrace";
/// The role that makes an operator.
pub const OPERATOR_ROLE: &str = "operator";
/// No access token is valid for longer, whoever issued it.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// RFC 9068: what makes it no token of another kind.
const TOKEN_TYPE: &str = "at+jwt";
const TOKEN_ALGORITHM: &str = "EdDSA";

const CLOCK_SKEW_MAX: Duration = Duration::from_secs(5);
const TOKEN_BYTES_MAX: usize = 4096;

/// The header of an access token that the key with this id signs.
pub fn header(key_id: String) -> Header {
    Header { typ: Some(TOKEN_TYPE.to_owned()), kid: Some(key_id), ..Header::new(Algorithm::EdDSA) }
}

/// The caller of an authenticated call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Principal {
    /// The resource name of the user, `users/{user}`.
    pub user: String,
    /// Whether he may see and do what operators may.
    pub operator: bool,
    /// When the token ends; streams end with it.
    pub expires_at: SystemTime,
}

impl Principal {
    /// Refuses everyone but operators.
    pub fn require_operator(&self) -> Result<(), Status> {
        if self.operator {
            return Ok(());
        }
        Err(Problem::new(Code::PermissionDenied, "OPERATOR_REQUIRED", "Only operators may do this.")
            .into_status())
    }
}

/// Verifies tokens; clones share the keys.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Arc<Keys>,
    remembered: Arc<Remembered>,
}

impl Verifier {
    /// Verifies with the keys that AuthService.ListSigningKeys gives. Connects when the first token comes.
    pub fn connect(settings: &AuthSettings) -> Result<Self, Misconfigured> {
        Ok(Self { keys: Arc::new(Keys::published_at(settings)?), remembered: Arc::default() })
    }

    /// Checks what [`Verifier::connect`] would refuse; needs no runtime and touches no network.
    pub fn check(settings: &AuthSettings) -> Result<(), Misconfigured> {
        Keys::check(settings)
    }

    /// Verifies with these keys and no others.
    pub fn fixed(keys: impl IntoIterator<Item = SigningKey>) -> Self {
        Self { keys: Arc::new(Keys::fixed(keys)), remembered: Arc::default() }
    }

    /// Verifies with these keys from now on, unless they are asked for.
    pub fn replace(&self, keys: impl IntoIterator<Item = SigningKey>) {
        self.keys.replace(keys);
    }

    /// The caller that the `authorization: Bearer …` entry names; `UNAUTHENTICATED` when there is none or it does not hold.
    pub async fn authenticate(&self, metadata: &MetadataMap) -> Result<Principal, Status> {
        let Some(token) = bearer(metadata.as_ref()) else {
            return Err(unauthenticated(
                "TOKEN_MISSING",
                "Sign in and send `authorization: Bearer {access_token}`.",
            ));
        };
        self.verify(token).await
    }

    /// The caller whom the same entry names, if its token was verified a moment ago.
    pub(crate) fn remembered(&self, headers: &HeaderMap) -> Option<Principal> {
        let token = bearer(headers).filter(|token| token.len() <= TOKEN_BYTES_MAX)?;
        self.remembered.find(&Remembered::digest(token), SystemTime::now())
    }

    /// The caller that `token` names.
    pub async fn verify(&self, token: &str) -> Result<Principal, Status> {
        let (digest, now) = (Remembered::digest(token), SystemTime::now());
        if let Some(principal) = self.remembered.find(&digest, now) {
            return Ok(principal);
        }
        let Some(key_id) = key_id(token) else { return Err(refused("header")) };
        let Some(key) = self.keys.find(&key_id).await? else { return Err(refused("key")) };
        let token = decode::<Claims>(token, &key, &validation()).map_err(|error| {
            debug!(auth.error = %error, "token refused");
            refused("claims")
        })?;
        let principal = principal(token.claims, now).ok_or_else(|| refused("claims"))?;
        self.remembered.keep(digest, &principal, now);
        Ok(principal)
    }
}

/// What the header of a token of ours holds. One with more is refused, not read without it: `crit` and `b64` change what the token
/// means, `jwk`, `jku` and `x5u` bring a key of their own, and what stands there twice means two things.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenHeader {
    typ: String,
    alg: String,
    kid: String,
}

/// Times are seconds since 1970.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    iat: u64,
    exp: u64,
    #[serde(default)]
    nbf: u64,
    #[serde(default)]
    roles: Vec<String>,
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn key_id(token: &str) -> Option<String> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let (header, _) = token.split_once('.')?;
    let header: TokenHeader = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    (header.typ == TOKEN_TYPE && header.alg == TOKEN_ALGORITHM).then_some(header.kid)
}

fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.leeway = CLOCK_SKEW_MAX.as_secs();
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation
}

fn principal(claims: Claims, now: SystemTime) -> Option<Principal> {
    claims.sub.strip_prefix("users/").filter(|id| !id.is_empty())?;
    let time = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let (begins_at, expires_at) = (time(claims.iat.max(claims.nbf))?, time(claims.exp)?);
    let is_valid = begins_at <= now + CLOCK_SKEW_MAX && expires_at <= time(claims.iat)? + TOKEN_LIFE_MAX;
    if !is_valid {
        return None;
    }
    Some(Principal {
        operator: claims.roles.iter().any(|role| role == OPERATOR_ROLE),
        user: claims.sub,
        expires_at,
    })
}

/// `part` goes to the log alone: it would tell a forger how far he came.
fn refused(part: &'static str) -> Status {
    debug!(auth.refused = part, "token refused");
    unauthenticated("TOKEN_INVALID", "The access token is not valid; sign in again.")
}

fn unauthenticated(reason: &'static str, message: &str) -> Status {
    Problem::new(Code::Unauthenticated, reason, message).into_status()
}

#[cfg(test)]
mod tests;
