//! The public keys that verify tokens: a fixed set, or the published one, asked again when a token names a key that is
//! not known.

use std::{collections::HashMap, fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use tailrace::auth::v1::{ListSigningKeysRequest, SigningKey, auth_service_client::AuthServiceClient};
use tokio::{sync::Mutex, time::Instant};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tracing::warn;

use crate::{error::Problem, process::Misconfigured};

/// A forger who invents key ids costs one question per interval.
const REFRESH_INTERVAL_MIN: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const PUBLIC_KEY_BYTES: usize = 32;

pub(super) struct Keys {
    publisher: Option<AuthServiceClient<Channel>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, DecodingKey>,
    asked_at: Option<Instant>,
}

impl Keys {
    pub(super) fn fixed(keys: impl IntoIterator<Item = SigningKey>) -> Self {
        Self { publisher: None, known: Mutex::new(Known { keys: usable(keys), asked_at: None }) }
    }

    pub(super) fn check(url: &str) -> Result<(), Misconfigured> {
        endpoint(url).map(drop)
    }

    pub(super) fn published_at(url: &str) -> Result<Self, Misconfigured> {
        let channel = endpoint(url)?.connect_timeout(REQUEST_TIMEOUT).timeout(REQUEST_TIMEOUT).connect_lazy();
        Ok(Self { publisher: Some(AuthServiceClient::new(channel)), known: Mutex::default() })
    }

    /// The key with this id; `UNAVAILABLE` when it is not known and the publisher cannot be asked.
    pub(super) async fn find(&self, id: &str) -> Result<Option<DecodingKey>, Status> {
        // Held while asking: of many callers with a new key, one asks and the others wait for the answer.
        let mut known = self.known.lock().await;
        if let Some(key) = known.keys.get(id) {
            return Ok(Some(key.clone()));
        }
        let Some(publisher) = &self.publisher else { return Ok(None) };
        if known.asked_at.is_some_and(|at| at.elapsed() < REFRESH_INTERVAL_MIN) {
            return Ok(None);
        }
        let answer = publisher.clone().list_signing_keys(ListSigningKeysRequest {}).await;
        match answer {
            Ok(answer) => {
                known.keys = usable(answer.into_inner().signing_keys);
                known.asked_at = Some(Instant::now());
                Ok(known.keys.get(id).cloned())
            }
            Err(status) => {
                warn!(rpc.grpc.status = ?status.code(), "the keys that verify tokens cannot be asked");
                Err(Problem::unavailable("signing keys").into_status())
            }
        }
    }
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

fn usable(keys: impl IntoIterator<Item = SigningKey>) -> HashMap<String, DecodingKey> {
    keys.into_iter()
        .filter(|key| key.algorithm == "EdDSA" && key.public_key.len() == PUBLIC_KEY_BYTES)
        .filter_map(|key| {
            let encoded = URL_SAFE_NO_PAD.encode(&key.public_key);
            Some((key.key_id, DecodingKey::from_ed_components(&encoded).ok()?))
        })
        .collect()
}
