//! The SQL of sign-ins.

use jiff::Timestamp;
use tailrace_runtime::postgres::{Connection, Repeat};
use tokio_postgres::{Error as DatabaseError, Row, types::Type};
use uuid::Uuid;

use super::{Credentials, Parameter, Store};
use crate::error::Error;

/// A sign-in that went on.
pub(crate) struct Refreshed {
    pub(crate) user_id: Uuid,
    pub(crate) operator: bool,
    pub(crate) expires_at: Timestamp,
}

impl Store {
    /// Writes a sign-in with its first token. False when the credentials hold no longer: the share lock waits for whoever is
    /// changing the user and then looks again.
    pub(crate) async fn begin_sign_in(
        &self,
        credentials: &Credentials,
        digest: [u8; 32],
        expires_at: Timestamp,
    ) -> Result<bool, Error> {
        let (id, digest) = (Uuid::now_v7(), digest.as_slice());
        let parameters: [Parameter<'_>; 5] = [
            (&id, Type::UUID),
            (&credentials.id, Type::UUID),
            (&credentials.password_hash, Type::TEXT),
            (&expires_at, Type::TIMESTAMPTZ),
            (&digest, Type::BYTEA),
        ];
        let statement = "
            WITH holder AS (
                SELECT id FROM users WHERE id = $2 AND password_hash = $3 AND delete_time IS NULL FOR SHARE),
            begun AS (INSERT INTO sign_in (id, user_id, expires_at) SELECT $1, id, $4 FROM holder RETURNING id)
            INSERT INTO refresh_token (digest, sign_in_id) SELECT $5, id FROM begun";
        Ok(self.change(Repeat::IfUndone, statement, &parameters).await? == 1)
    }

    /// Spends a token and writes the next; none, and nothing is written, unless it can still be used.
    pub(crate) async fn refresh(
        &self,
        spent: [u8; 32],
        next: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Refreshed>, Error> {
        let (spent, next) = (spent.as_slice(), next.as_slice());
        let parameters: [Parameter<'_>; 3] =
            [(&spent, Type::BYTEA), (&next, Type::BYTEA), (&now, Type::TIMESTAMPTZ)];
        // The sign-in is locked first, as who ends it does. Of two at once with one token, one waits for the other's row and
        // then finds it spent.
        let statement = "
            WITH live AS (
                SELECT sign_in.id, user_id, operator, expires_at
                FROM refresh_token JOIN sign_in ON sign_in.id = sign_in_id JOIN users ON users.id = user_id
                WHERE digest = $1 AND NOT spent AND expires_at > $3 AND delete_time IS NULL
                FOR SHARE OF sign_in),
            spending AS (
                UPDATE refresh_token SET spent = true FROM live WHERE digest = $1 AND NOT spent RETURNING live.*),
            next AS (INSERT INTO refresh_token (digest, sign_in_id) SELECT $2, id FROM spending)
            SELECT user_id, operator, expires_at FROM spending";
        // Sent twice it would be a token that was used twice, and end the sign-in.
        let row = self.changed_row(Repeat::IfUndone, statement, &parameters).await?;
        row.as_ref().map(refreshed_of).transpose().map_err(Error::inside)
    }

    /// Ends the sign-in of a token that is spent; gives whose it was.
    pub(crate) async fn end_sign_in_of_spent(&self, digest: [u8; 32]) -> Result<Option<Uuid>, Error> {
        let statement = "
            DELETE FROM sign_in USING refresh_token
            WHERE digest = $1 AND spent AND sign_in.id = sign_in_id RETURNING user_id";
        let parameters: [Parameter<'_>; 1] = [(&digest.as_slice(), Type::BYTEA)];
        let row = self.changed_row(Repeat::Harmless, statement, &parameters).await?;
        row.map(|row| row.try_get(0)).transpose().map_err(Error::inside)
    }

    /// Ends the sign-in of a token, if there is one.
    pub(crate) async fn end_sign_in(&self, digest: [u8; 32]) -> Result<(), Error> {
        let statement =
            "DELETE FROM sign_in USING refresh_token WHERE digest = $1 AND sign_in.id = sign_in_id";
        let parameters: [Parameter<'_>; 1] = [(&digest.as_slice(), Type::BYTEA)];
        self.change(Repeat::Harmless, statement, &parameters).await.map(drop)
    }

    /// Sets a password and ends all sign-ins of the user. False, and nothing is changed, when `before` is not the hash of
    /// his password any more, or he is deleted.
    pub(crate) async fn change_password(&self, user: Uuid, before: &str, after: &str) -> Result<bool, Error> {
        let parameters: [Parameter<'_>; 3] =
            [(&user, Type::UUID), (&before, Type::TEXT), (&after, Type::TEXT)];
        let (parameters, user) = (&parameters, &user);
        let work = |mut client: Connection| async move {
            let transaction = client.transaction().await?;
            let changed = transaction
                .execute_typed(
                    "UPDATE users SET password_hash = $3 \
                     WHERE id = $1 AND password_hash = $2 AND delete_time IS NULL",
                    parameters,
                )
                .await?;
            // A statement of its own: it sees the sign-ins that the update waited for.
            transaction
                .execute_typed(
                    "DELETE FROM sign_in WHERE user_id = $1 AND $2",
                    &[(user, Type::UUID), (&(changed == 1), Type::BOOL)],
                )
                .await?;
            transaction.commit().await?;
            Ok::<_, DatabaseError>(changed == 1)
        };
        let work = |client: Connection| async { work(client).await.map_err(Error::inside) };
        self.database.run(Repeat::IfUndone, work).await
    }

    /// Forgets the sign-ins that are over.
    pub(crate) async fn forget_sign_ins(&self, now: Timestamp) -> Result<(), Error> {
        let parameters: [Parameter<'_>; 1] = [(&now, Type::TIMESTAMPTZ)];
        let statement = "DELETE FROM sign_in WHERE expires_at <= $1";
        self.change(Repeat::Harmless, statement, &parameters).await.map(drop)
    }
}

fn refreshed_of(row: &Row) -> Result<Refreshed, DatabaseError> {
    Ok(Refreshed { user_id: row.try_get(0)?, operator: row.try_get(1)?, expires_at: row.try_get(2)? })
}
