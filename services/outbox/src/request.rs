//! Requests that are carried out at most once (AIP-155): the id is written with the effect, so a retry finds it.

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Client, Error, types::Type};
use uuid::Uuid;

/// A request with an id of its caller's choice.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) caller: String,
    pub(crate) id: Uuid,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) secret_hash: Option<String>,
}

impl Request {
    /// `caller` (`users/{user}`; empty when anyone may; ids of different callers do not meet) asked `method` under the id
    /// `id` for what the bytes of `asked` say. Leave secrets out of them: a fast digest of a password is as good as the
    /// password.
    pub fn new(caller: impl Into<String>, method: &'static str, id: Uuid, asked: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(method).chain_update([0]).chain_update(asked);
        Self { caller: caller.into(), id, fingerprint: digest.finalize().into(), secret_hash: None }
    }

    /// Remembers the secret of the request too, as a slow hash. Comparing is the caller's: a hash has a salt.
    #[must_use]
    pub fn with_secret(mut self, hash: impl Into<String>) -> Self {
        self.secret_hash = Some(hash.into());
        self
    }
}

/// What is known about a request's id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Remembered {
    /// The id was not seen.
    New,
    /// The same request was carried out.
    CarriedOut {
        /// What it made or changed.
        result_id: Uuid,
        /// The hash of its secret, if it has one.
        secret_hash: Option<String>,
        /// The answer of then, as it was encoded.
        answer: Vec<u8>,
    },
    /// The id was used for another request.
    Reused,
}

/// Looks a request up.
pub async fn remembered(client: &Client, request: &Request) -> Result<Remembered, Error> {
    let row = client
        .query_typed_opt(
            "SELECT result_id, fingerprint, answer, secret_hash FROM carried_out_request WHERE caller = $1 AND request_id = $2",
            &[(&request.caller, Type::TEXT), (&request.id, Type::UUID)],
        )
        .await?;
    let Some(row) = row else { return Ok(Remembered::New) };
    let fingerprint: &[u8] = row.try_get(1)?;
    if fingerprint == request.fingerprint {
        Ok(Remembered::CarriedOut {
            result_id: row.try_get(0)?,
            answer: row.try_get(2)?,
            secret_hash: row.try_get(3)?,
        })
    } else {
        Ok(Remembered::Reused)
    }
}
