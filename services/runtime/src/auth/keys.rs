//! The public keys that verify tokens: a fixed set, or the published one, asked again when a token names a key that is
//! not known, and now and then while tokens come. A key that is no longer published is forgotten with the next question.

use std::{
    collections::HashMap,
    fmt,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use tailrace::auth::v1::{ListSigningKeysRequest, SigningKey, auth_service_client::AuthServiceClient};
use tokio::{sync::Mutex, time::Instant};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tracing::warn;

use crate::{error::Problem, process::Misconfigured, settings::AuthSettings, tls::Trust};

/// A forger who invents key ids costs one question per interval. A key that signs later than that after it was published is
/// known everywhere.
pub const ASKED_INTERVAL_MIN: Duration = Duration::from_secs(5);
/// After that long, a key that is known is asked for once more: it may have been withdrawn.
const STALE_AFTER: Duration = Duration::from_secs(10);
/// A publisher that does not answer is asked again after this time.
const RETRY_INTERVAL_MIN: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const PUBLIC_KEY_BYTES: usize = 32;

pub(super) struct Keys {
    publisher: Option<AuthServiceClient<Channel>>,
    known: RwLock<HashMap<String, DecodingKey>>,
    /// Held while asking: of many callers with a new key, one asks and the others wait for the answer. Callers with a known
    /// key never come here.
    asked: Mutex<Option<Asked>>,
}

struct Asked {
    at: Instant,
    answered: bool,
}

impl Keys {
    pub(super) fn fixed(keys: impl IntoIterator<Item = SigningKey>) -> Self {
        Self { publisher: None, known: RwLock::new(usable(keys)), asked: Mutex::default() }
    }

    pub(super) fn check(settings: &AuthSettings) -> Result<(), Misconfigured> {
        endpoint(&settings.auth_keys_url)?;
        trust(settings).map(drop)
    }

    pub(super) fn published_at(settings: &AuthSettings) -> Result<Self, Misconfigured> {
        let endpoint = endpoint(&settings.auth_keys_url)?;
        let endpoint = endpoint.connect_timeout(REQUEST_TIMEOUT).timeout(REQUEST_TIMEOUT);
        let channel = match trust(settings)? {
            Some(trust) => trust.connect_lazy(&endpoint),
            None => endpoint.connect_lazy(),
        };
        let publisher = Some(AuthServiceClient::new(channel));
        Ok(Self { publisher, known: RwLock::default(), asked: Mutex::default() })
    }

    /// The key with this id; `UNAVAILABLE` when it is not known and the publisher cannot be asked.
    pub(super) async fn find(&self, id: &str) -> Result<Option<DecodingKey>, Status> {
        if let Some(key) = self.known(id) {
            return Ok(if self.asked_anew().await { self.known(id) } else { Some(key) });
        }
        let Some(publisher) = &self.publisher else { return Ok(None) };
        let mut asked = self.asked.lock().await;
        match &*asked {
            Some(Asked { at, answered: true }) if at.elapsed() < ASKED_INTERVAL_MIN => {}
            Some(Asked { at, answered: false }) if at.elapsed() < RETRY_INTERVAL_MIN => {
                return Err(unavailable());
            }
            Some(_) | None => self.ask(publisher, &mut asked).await?,
        }
        Ok(self.known(id))
    }

    async fn ask(
        &self,
        publisher: &AuthServiceClient<Channel>,
        asked: &mut Option<Asked>,
    ) -> Result<(), Status> {
        let answer = publisher.clone().list_signing_keys(ListSigningKeysRequest {}).await;
        *asked = Some(Asked { at: Instant::now(), answered: answer.is_ok() });
        let answer = answer.map_err(|status| {
            warn!(rpc.grpc.status = ?status.code(), "the keys that verify tokens cannot be asked");
            unavailable()
        })?;
        self.replace(answer.into_inner().signing_keys);
        Ok(())
    }

    /// Asks once more when the last answer is old: one caller waits for it, the others go on with what is known. A publisher
    /// that is away leaves the keys as they are; its refusal is in the log.
    async fn asked_anew(&self) -> bool {
        let (Some(publisher), Ok(mut asked)) = (&self.publisher, self.asked.try_lock()) else { return false };
        let is_stale = asked.as_ref().is_some_and(|asked| asked.at.elapsed() >= STALE_AFTER);
        is_stale && self.ask(publisher, &mut asked).await.is_ok()
    }

    pub(super) fn replace(&self, keys: impl IntoIterator<Item = SigningKey>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = usable(keys);
    }

    fn known(&self, id: &str) -> Option<DecodingKey> {
        // A panic cannot leave half a change: the only one is an assignment.
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

fn unavailable() -> Status {
    Problem::unavailable("signing keys").into_status()
}

impl fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keys").finish_non_exhaustive()
    }
}

fn endpoint(url: &str) -> Result<Endpoint, Misconfigured> {
    Endpoint::from_shared(url.to_owned())
        .ok()
        .filter(|endpoint| endpoint.uri().scheme().is_some() && endpoint.uri().authority().is_some())
        .ok_or_else(|| {
            Misconfigured::new(format!("TAILRACE_AUTH_KEYS_URL: `{url}` is not like http://127.0.0.1:5001"))
        })
}

/// Whom to trust there; None: the URL asks for no TLS.
fn trust(settings: &AuthSettings) -> Result<Option<Trust>, Misconfigured> {
    if !settings.auth_keys_url.starts_with("https:") {
        return Ok(None);
    }
    Trust::from_files(
        ("TAILRACE_AUTH_KEYS_CA_FILE", &settings.auth_keys_ca_file),
        ("TAILRACE_AUTH_KEYS_CERT_FILE", &settings.auth_keys_cert_file),
        ("TAILRACE_AUTH_KEYS_KEY_FILE", &settings.auth_keys_key_file),
    )
    .map(Some)
}

fn usable(keys: impl IntoIterator<Item = SigningKey>) -> HashMap<String, DecodingKey> {
    keys.into_iter()
        .filter(|key| key.algorithm == "EdDSA" && key.public_key.len() == PUBLIC_KEY_BYTES)
        .filter_map(|key| {
            let encoded = URL_SAFE_NO_PAD.encode(&key.public_key);
            Some((key.key_id, DecodingKey::from_ed_components(&encoded).ok()?))
        })
        .collect()
}
