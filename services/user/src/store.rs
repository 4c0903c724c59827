//! The SQL of this service, and nothing else.

mod sign_ins;

pub(crate) use self::sign_ins::Refreshed;

use tailrace_outbox::{Event, Remembered, Request, Retired, Right, Service, Write, WriteError};
use tailrace_runtime::{
    clock,
    page::Page,
    postgres::{Client, Connection, Database, Failure, Owner, Repeat, Upkeep},
    process::Misconfigured,
    settings::SchemaSettings,
};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    config::Config,
    error::{Error, Kind},
    user::{DisplayName, Email, User},
};

const MIGRATIONS: &[(&str, &str)] = &[
    ("V1__users", include_str!("../migrations/V1__users.sql")),
    ("V2__soft_delete", include_str!("../migrations/V2__soft_delete.sql")),
    ("V3__sign_ins", include_str!("../migrations/V3__sign_ins.sql")),
];
/// What the role of this service does with its rows.
const RIGHTS: &[Right<'_>] = &[
    ("users", "SELECT, INSERT, UPDATE"),
    ("sign_in", "SELECT, INSERT, UPDATE, DELETE"),
    ("refresh_token", "SELECT, INSERT, UPDATE, DELETE"),
];
const EMAIL_ONCE: &str = "users_email_once";
type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);
const COLUMNS: &str = "id, display_name, email, version, create_time, update_time, delete_time";

/// Users in Postgres.
#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
}

/// What someone who signs in is checked against.
pub(crate) struct Credentials {
    pub(crate) id: Uuid,
    pub(crate) password_hash: String,
    pub(crate) operator: bool,
}

/// A user to write.
pub(crate) struct NewRow<'a> {
    pub(crate) user: &'a User,
    pub(crate) password_hash: &'a str,
    /// The encoded answer to who asked.
    pub(crate) answer: &'a [u8],
}

impl Store {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Writes a user and the event of his creation; all or nothing. Overtaken: somebody has the address.
    pub(crate) async fn create(
        &self,
        new: NewRow<'_>,
        request: Option<&Request>,
        event: &Event,
    ) -> Result<Written, Error> {
        let NewRow { user, password_hash, answer } = new;
        let (name, email) = (user.display_name.as_str(), user.email.as_str());
        let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
            (&user.id, Type::UUID),
            (&name, Type::TEXT),
            (&email, Type::TEXT),
            (&password_hash, Type::TEXT),
            (&user.version, Type::INT8),
            (&user.create_time, Type::TIMESTAMPTZ),
        ];
        // An error would put the address into the log of Postgres.
        let write = Write::of(
            "INSERT INTO users (id, display_name, email, password_hash, version, create_time, update_time) \
             VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (lower(email)) DO NOTHING",
            parameters,
        );
        self.write(write.once(request, &user.id, answer), request, event).await
    }

    /// Writes a user's next version and the event that tells it, if the version before it is still the last; all or nothing.
    pub(crate) async fn update(
        &self,
        user: &User,
        keep_sign_ins: bool,
        request: Option<&Request>,
        answer: &[u8],
        event: &Event,
    ) -> Result<Written, Error> {
        let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
            (&user.id, Type::UUID),
            (&user.display_name.as_str(), Type::TEXT),
            (&user.email.as_str(), Type::TEXT),
            (&user.version, Type::INT8),
            (&user.update_time, Type::TIMESTAMPTZ),
            (&user.delete_time, Type::TIMESTAMPTZ),
        ];
        let write = Write::of(
            "UPDATE users SET display_name = $2, email = $3, version = $4, update_time = $5, delete_time = $6 \
             WHERE id = $1 AND version = $4 - 1 AND NOT EXISTS (\
                 SELECT FROM users other WHERE lower(other.email) = lower($3) AND other.id <> $1)",
            parameters,
        );
        // Also of one who is undeleted: a sign-in that began beside the deletion must not come back with him.
        let end_sign_ins = "DELETE FROM sign_in WHERE user_id = $1 AND EXISTS (SELECT FROM entity)";
        let write = if keep_sign_ins { write } else { write.and(end_sign_ins) };
        let outcome = self.write(write.once(request, &user.id, answer), request, event).await?;
        if outcome == Written::Overtaken && self.is_anothers(&user.email, user.id).await? {
            return Err(Kind::EmailTaken.into());
        }
        Ok(outcome)
    }

    async fn is_anothers(&self, email: &Email, id: Uuid) -> Result<bool, Error> {
        let statement = "SELECT FROM users WHERE lower(email) = lower($1) AND id <> $2";
        let parameters: [Parameter<'_>; 2] = [(&email.as_str(), Type::TEXT), (&id, Type::UUID)];
        Ok(self.row(statement, &parameters).await?.is_some())
    }

    async fn write(
        &self,
        write: Write<'_>,
        request: Option<&Request>,
        event: &Event,
    ) -> Result<Written, Error> {
        let write = &write;
        let work = |client: Connection| async move { written(write.execute(&client, event).await) };
        self.database.run(Repeat::of_write(request), work).await
    }

    pub(crate) async fn remembered(&self, request: &Request) -> Result<Remembered, Error> {
        let work = |client: Connection| async move {
            tailrace_outbox::remembered(&client, request).await.map_err(Error::inside)
        };
        self.database.run(Repeat::Harmless, work).await
    }

    pub(crate) async fn get(&self, id: Uuid) -> Result<Option<User>, Error> {
        let statement = format!("SELECT {COLUMNS} FROM users WHERE id = $1");
        self.row(&statement, &[(&id, Type::UUID)]).await?.as_ref().map(user_of).transpose()
    }

    /// One row more than the page holds, if there is one.
    pub(crate) async fn list(&self, page: &Page, show_deleted: bool) -> Result<Vec<User>, Error> {
        let statement = format!(
            "SELECT {COLUMNS} FROM users WHERE ($1 IS NULL OR id < $1) AND ($3 OR delete_time IS NULL) \
             ORDER BY id DESC LIMIT $2"
        );
        let (before, limit) = (page.before(), page.limit());
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&before, Type::UUID), (&limit, Type::INT8), (&show_deleted, Type::BOOL)];
        let (statement, parameters) = (&statement, &parameters);
        let work = |client: Connection| async move {
            let rows = client.query_typed(statement, parameters).await;
            rows.map_err(Error::inside)?.iter().map(user_of).collect()
        };
        self.database.run(Repeat::Harmless, work).await
    }

    /// Nobody's when the address is unknown or its user is deleted.
    pub(crate) async fn credentials(&self, email: &Email) -> Result<Option<Credentials>, Error> {
        let statement = "SELECT id, password_hash, operator FROM users \
             WHERE lower(email) = lower($1) AND delete_time IS NULL";
        let row = self.row(statement, &[(&email.as_str(), Type::TEXT)]).await?;
        let Some(row) = row else { return Ok(None) };
        let read = || -> Result<_, tokio_postgres::Error> {
            Ok(Credentials { id: row.try_get(0)?, password_hash: row.try_get(1)?, operator: row.try_get(2)? })
        };
        read().map(Some).map_err(Error::inside)
    }

    pub(crate) async fn password_hash(&self, id: Uuid) -> Result<Option<String>, Error> {
        let row = self.row("SELECT password_hash FROM users WHERE id = $1", &[(&id, Type::UUID)]).await?;
        row.map(|row| row.try_get(0)).transpose().map_err(Error::inside)
    }

    /// False when no user has this address.
    pub(crate) async fn make_operator(&self, email: &Email) -> Result<bool, Error> {
        let statement = "UPDATE users SET operator = true WHERE lower(email) = lower($1)";
        let changed = self.change(Repeat::Harmless, statement, &[(&email.as_str(), Type::TEXT)]).await?;
        Ok(changed > 0)
    }

    /// Reads a row, if there is one.
    async fn row(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Option<Row>, Error> {
        self.changed_row(Repeat::Harmless, statement, parameters).await
    }

    /// Changes something that no event tells, and gives what the statement returns.
    async fn changed_row(
        &self,
        repeat: Repeat,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<Row>, Error> {
        let work = |client: Connection| async move {
            client.prepared_row(statement, parameters).await.map_err(Error::inside)
        };
        self.database.run(repeat, work).await
    }

    /// Changes something that no event tells, and gives how many rows.
    async fn change(
        &self,
        repeat: Repeat,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<u64, Error> {
        let work = |client: Connection| async move {
            client.execute_typed(statement, parameters).await.map_err(Error::inside)
        };
        self.database.run(repeat, work).await
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Written {
    /// It is done.
    Done,
    /// Nothing was written; the request's id, or what it made, may be there already.
    RequestSeen,
    /// Nothing was written; another change came first.
    Overtaken,
}

/// The schema of this service, kept up to date by the role that owns it.
pub(crate) struct Schema {
    settings: SchemaSettings,
    owner: Owner,
    store: Store,
}

impl Schema {
    pub(crate) fn new(config: &Config, store: Store) -> Result<Self, Misconfigured> {
        let settings = config.schema.clone();
        let owner = Owner::from_settings(&config.database, &settings, env!("CARGO_PKG_NAME"))?;
        Ok(Self { settings, owner, store })
    }

    /// Brings the schema up to date. The connection leaves the pool: it may keep the lock when this fails.
    pub(crate) async fn migrate(&self, client: Client) -> Result<(), Failure> {
        let mut client = Client::take(self.owner.client(client).await?);
        let service = Service { role: self.owner.service_role(), rights: RIGHTS };
        Ok(tailrace_outbox::migrate(&mut client, MIGRATIONS, Some(&service)).await?)
    }
}

impl Upkeep for Schema {
    async fn prepare(&self, client: Client) -> Result<(), Failure> {
        if self.settings.migrate {
            return self.migrate(client).await;
        }
        let mut client = Client::take(client);
        if tailrace_outbox::migrated(&mut client, MIGRATIONS).await? {
            return Ok(());
        }
        // Someone else will; until then the database is as good as absent.
        Err(std::io::Error::other("the schema is not up to date: run `user-service migrate`").into())
    }

    async fn tend(&self, client: Client) -> Result<(), Failure> {
        let client = self.owner.client(client).await?;
        let now = clock::now();
        tailrace_outbox::upkeep(&client, now).await?;
        // Space is not worth a refused call: what fails here is tried again in an hour.
        match tailrace_outbox::retire(&client, now, self.settings.outbox_retention).await {
            Ok(retired) if retired == Retired::default() => {}
            Ok(retired) => info!(outbox.taken_off = ?retired.taken_off, outbox.dropped = ?retired.dropped,
                outbox.kept = ?retired.kept, "old days of the outbox"),
            Err(error) => warn!(error = %error, "old days of the outbox could not be taken off or dropped"),
        }
        drop(client);
        Ok(self.store.forget_sign_ins(now).await?)
    }
}

fn written(outcome: Result<(), WriteError>) -> Result<Written, Error> {
    match outcome {
        Ok(()) => Ok(Written::Done),
        Err(WriteError::RequestSeen) => Ok(Written::RequestSeen),
        Err(WriteError::NoRow) => Ok(Written::Overtaken),
        Err(error) if error.broken_constraint() == Some(EMAIL_ONCE) => Err(Kind::EmailTaken.into()),
        Err(error @ (WriteError::ManyRows(_) | WriteError::Database(_))) => Err(Error::inside(error)),
    }
}

fn user_of(row: &Row) -> Result<User, Error> {
    let read = || -> Result<_, tokio_postgres::Error> {
        Ok((
            row.try_get(0)?,
            row.try_get::<_, String>(1)?,
            row.try_get::<_, String>(2)?,
            row.try_get(3)?,
            row.try_get(4)?,
            row.try_get(5)?,
            row.try_get(6)?,
        ))
    };
    let (id, display_name, email, version, create_time, update_time, delete_time) =
        read().map_err(Error::inside)?;
    let display_name = DisplayName::new(display_name).map_err(Error::inside)?;
    let email = Email::new(email).map_err(Error::inside)?;
    Ok(User { id, display_name, email, version, create_time, update_time, delete_time })
}
