//! Requests that are carried out at most once (AIP-155): the id is written with the effect, so a retry finds it.

use tokio_postgres::{Client, Error, types::Type};
use uuid::Uuid;

/// A request with an id of its caller's choice.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asked, `users/{user}`; empty when anyone may. Ids of different callers do not meet.
    pub caller: String,
    /// The id.
    pub id: Uuid,
    /// A digest of what was asked, without secrets: digests of passwords are as good as passwords.
    pub fingerprint: [u8; 32],
}

/// What is known about a request's id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Remembered {
    /// The id was not seen.
    New,
    /// The same request was carried out and made this.
    CarriedOut(Uuid),
    /// The id was used for another request.
    Reused,
}

/// Looks a request up.
pub async fn remembered(client: &Client, request: &Request) -> Result<Remembered, Error> {
    let row = client
        .query_typed_opt(
            "SELECT result_id, fingerprint FROM carried_out_request WHERE caller = $1 AND request_id = $2",
            &[(&request.caller, Type::TEXT), (&request.id, Type::UUID)],
        )
        .await?;
    let Some(row) = row else { return Ok(Remembered::New) };
    let fingerprint: &[u8] = row.try_get(1)?;
    if fingerprint == request.fingerprint {
        Ok(Remembered::CarriedOut(row.try_get(0)?))
    } else {
        Ok(Remembered::Reused)
    }
}
