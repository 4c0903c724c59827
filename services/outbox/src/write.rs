//! The two ways to write an event; see the crate's documentation.

use std::fmt::Write as _;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{
    Error, Transaction,
    error::SqlState,
    types::{ToSql, Type},
};
use uuid::Uuid;

use crate::{event::Event, request::Request};

const EVENT_COLUMNS: &str =
    "id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, headers, owner";
const REQUEST_ONCE: &str = "carried_out_request_once";

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Appends an event inside the caller's transaction.
pub async fn append(transaction: &Transaction<'_>, event: &Event) -> Result<(), Error> {
    let statement = format!("INSERT INTO outbox ({EVENT_COLUMNS}) VALUES ({})", event_values(1));
    transaction.execute_typed(&statement, &event_parameters(event)).await.map(drop)
}

/// A write of an entity that becomes a statement only together with its event.
pub struct Write<'a> {
    entity: &'a str,
    also: Vec<&'a str>,
    parameters: Vec<Parameter<'a>>,
    request: Option<(&'a Request, &'a Uuid, &'a [u8])>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A request with this id was carried out before; see [`crate::remembered`].
    #[error("the request id was used before")]
    RequestSeen,
    /// The entity's statement wrote no row: an update whose condition did not hold.
    #[error("the entity's statement wrote no row")]
    NoRow,
    /// The entity's statement wrote more than one row; a mistake in it.
    #[error("an entity's statement must write exactly one row, this one wrote {0}")]
    ManyRows(i64),
    /// The database refused, or is gone.
    #[error("the entity and its event could not be written")]
    Database(#[from] Error),
}

impl WriteError {
    /// The unique constraint that the entity breaks, if that is why.
    pub fn broken_constraint(&self) -> Option<&str> {
        let Self::Database(error) = self else { return None };
        let error = error.as_db_error().filter(|error| *error.code() == SqlState::UNIQUE_VIOLATION)?;
        error.constraint()
    }
}

impl<'a> Write<'a> {
    /// `entity` inserts or updates exactly one row; it has no RETURNING. Its parameters are `$1` onwards.
    pub fn of(entity: &'a str, parameters: impl IntoIterator<Item = Parameter<'a>>) -> Self {
        Self { entity, also: Vec::new(), parameters: parameters.into_iter().collect(), request: None }
    }

    /// A further insert, over the same parameters. It should select `FROM entity`, so that it happens only with it.
    #[must_use]
    pub fn and(mut self, statement: &'a str) -> Self {
        self.also.push(statement);
        self
    }

    /// Remembers `request` and its encoded `answer` with the write; a request that was carried out before makes it fail
    /// with [`WriteError::RequestSeen`] and write nothing.
    #[must_use]
    pub fn once(mut self, request: Option<&'a Request>, result_id: &'a Uuid, answer: &'a [u8]) -> Self {
        self.request = request.map(|request| (request, result_id, answer));
        self
    }

    /// Writes the entity, what belongs to it and `event`: all or nothing, in one round trip. The statement is prepared once for
    /// each connection: to parse and plan it costs the server more than to carry it out.
    pub async fn execute(&self, client: &ClientWrapper, event: &Event) -> Result<(), WriteError> {
        let statement = self.statement();
        let mut parameters = self.parameters.clone();
        parameters.extend(event_parameters(event));
        let once =
            self.request.map(|(request, id, answer)| (request, request.fingerprint.as_slice(), id, answer));
        if let Some((request, fingerprint, result_id, answer)) = &once {
            parameters.extend([
                (&request.caller as &(dyn ToSql + Sync), Type::TEXT),
                (&request.id, Type::UUID),
                (fingerprint, Type::BYTEA),
                (*result_id, Type::UUID),
                (answer, Type::BYTEA),
                (&request.secret_hash, Type::TEXT),
            ]);
        }
        let (values, types): (Vec<_>, Vec<_>) = parameters.into_iter().unzip();
        let prepared = client.prepare_typed_cached(&statement, &types).await?;
        let row = client.query_one(&prepared, &values).await.map_err(error_of)?;
        match row.try_get(0)? {
            1 => Ok(()),
            0 => Err(WriteError::NoRow),
            rows => Err(WriteError::ManyRows(rows)),
        }
    }

    fn statement(&self) -> String {
        let first_free = self.parameters.len() + 1;
        let mut statement = format!("WITH entity AS ({} RETURNING 1)", self.entity);
        for (index, also) in self.also.iter().enumerate() {
            let _ = write!(statement, ", also_{index} AS ({also})");
        }
        let values = event_values(first_free);
        let _ = write!(
            statement,
            ", event AS (INSERT INTO outbox ({EVENT_COLUMNS}) SELECT {values} FROM entity)"
        );
        if self.request.is_some() {
            let [a, b, c, d, e, f] = [8, 9, 10, 11, 12, 13].map(|index| first_free + index);
            let _ = write!(
                statement,
                ", request AS (INSERT INTO carried_out_request (caller, request_id, fingerprint, result_id, answer, \
                 secret_hash) SELECT ${a}, ${b}, ${c}, ${d}, ${e}, ${f} FROM entity)"
            );
        }
        statement.push_str(" SELECT count(*) FROM entity");
        statement
    }
}

fn error_of(error: Error) -> WriteError {
    let write_error = WriteError::Database(error);
    if write_error.broken_constraint() == Some(REQUEST_ONCE) { WriteError::RequestSeen } else { write_error }
}

/// A parameter of type text and a cast to json keep every byte of the payload.
fn event_values(first: usize) -> String {
    let [id, kind, key, version, event, payload, headers, owner] = std::array::from_fn(|index| first + index);
    format!("${id}, ${kind}, ${key}, ${version}, ${event}, ${payload}::json, ${headers}::json, ${owner}")
}

fn event_parameters(event: &Event) -> [Parameter<'_>; 8] {
    [
        (&event.id, Type::UUID),
        (&event.aggregate_type, Type::TEXT),
        (&event.aggregate_id, Type::TEXT),
        (&event.aggregate_version, Type::INT8),
        (&event.event_type, Type::TEXT),
        (&event.payload, Type::TEXT),
        (&event.headers, Type::TEXT),
        (&event.owner, Type::TEXT),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_and_event_are_one_statement() {
        let id = Uuid::nil();
        let write =
            Write::of("INSERT INTO users (id) VALUES ($1)", [(&id as &(dyn ToSql + Sync), Type::UUID)]);
        assert_eq!(
            write.statement(),
            "WITH entity AS (INSERT INTO users (id) VALUES ($1) RETURNING 1), \
             event AS (INSERT INTO outbox (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, \
             headers, owner) SELECT $2, $3, $4, $5, $6, $7::json, $8::json, $9 FROM entity) SELECT count(*) FROM entity"
        );
    }
}
