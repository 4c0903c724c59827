//! The keys of the key file: the first signs, all are published, so that a key is changed while tokens of the one before it
//! are still valid.
//!
//! ```text
//! [A]  ──►  [B, A]            B is published at once, and signs when every verifier that asked before it was there may ask again
//!           [B]               A is withdrawn, after the tokens that it signed have ended
//! ```

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::EncodingKey;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use tailrace::auth::v1::SigningKey;

const ALGORITHM_NAME: &str = "EdDSA";
const KEY_ID_CHARACTERS: usize = 16;
const OWNER_ONLY: u32 = 0o600;

/// A key and what is published of it.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) signs: EncodingKey,
    pub(crate) published: SigningKey,
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

/// Reads the keys of a file; at least one, or what is wrong with it.
pub(crate) fn read(path: &Path) -> Result<Vec<Key>, String> {
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    let keys: Vec<_> = PrivatePkcs8KeyDer::pem_slice_iter(&pem)
        .map(|der| key(&der.map_err(|error| error.to_string())?))
        .collect::<Result<_, String>>()?;
    if keys.is_empty() { Err("holds no PEM block PRIVATE KEY".to_owned()) } else { Ok(keys) }
}

fn key(der: &PrivatePkcs8KeyDer<'_>) -> Result<Key, String> {
    let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der())
        .map_err(|_| "is not an Ed25519 key in PKCS#8".to_owned())?;
    let public_key = pair.public_key().as_ref().to_vec();
    let key_id = key_id(&public_key);
    Ok(Key {
        signs: EncodingKey::from_ed_der(der.secret_pkcs8_der()),
        published: SigningKey { key_id, algorithm: ALGORITHM_NAME.to_owned(), public_key },
    })
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
