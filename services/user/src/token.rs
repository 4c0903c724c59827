//! The key that signs access tokens, and the tokens (EdDSA over Ed25519).
//!
//! The private key stays here; whoever verifies asks for the public one.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tailrace::auth::v1::SigningKey;
use tailrace_runtime::{
    auth::{AUDIENCE, ISSUER, OPERATOR_ROLE},
    process::Misconfigured,
};
use uuid::Uuid;

use crate::{config::TokenSettings, error::Error, user};

const ALGORITHM_NAME: &str = "EdDSA";
const KEY_ID_CHARACTERS: usize = 16;
const OWNER_ONLY: u32 = 0o600;

/// Issues access tokens.
pub struct Issuer {
    key: EncodingKey,
    published: SigningKey,
    ttl: Duration,
}

/// An access token and how long it is valid.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// The JWT.
    pub text: String,
    /// How long it is valid from its making on.
    pub ttl: Duration,
}

/// A key file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key could be made.
    #[error("no key could be made")]
    Make,
    /// The file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
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
    /// Reads the key that the settings name.
    pub fn from_settings(settings: &TokenSettings) -> Result<Self, Misconfigured> {
        let path = &settings.signing_key_file;
        let refused = |why: String| {
            let path = path.display();
            Misconfigured::new(format!(
                "TAILRACE_SIGNING_KEY_FILE: {path}: {why}; make a key with `user-service keygen --out {path}`"
            ))
        };
        let der = PrivatePkcs8KeyDer::from_pem_file(path).map_err(|error| refused(error.to_string()))?;
        let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|_| refused("is not an Ed25519 key in PKCS#8".to_owned()))?;
        let public_key = pair.public_key().as_ref().to_vec();
        Ok(Self {
            key: EncodingKey::from_ed_der(der.secret_pkcs8_der()),
            published: SigningKey {
                key_id: key_id(&public_key),
                algorithm: ALGORITHM_NAME.to_owned(),
                public_key,
            },
            ttl: settings.token_ttl,
        })
    }

    /// The public key that verifies its tokens.
    pub fn signing_key(&self) -> SigningKey {
        self.published.clone()
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
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.published.key_id.clone());
        let text = encode(&header, &claims, &self.key).map_err(Error::inside)?;
        Ok(AccessToken { text, ttl: self.ttl })
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Issuer").field("key_id", &self.published.key_id).finish_non_exhaustive()
    }
}

/// Makes a key in a new file that only its owner can read.
pub fn generate(path: &Path) -> Result<(), KeyError> {
    let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Make)?;
    let der = pair.to_pkcs8v1().map_err(|_| KeyError::Make)?;
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(path)
        .and_then(|mut file| file.write_all(pem.as_bytes()));
    written.map_err(|source| KeyError::Write { path: path.to_owned(), source })
}

/// The first characters of the digest of the key: the same key has the same id everywhere.
fn key_id(public_key: &[u8]) -> String {
    let digest = Sha256::digest(public_key);
    let mut id: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    id.truncate(KEY_ID_CHARACTERS);
    id
}
