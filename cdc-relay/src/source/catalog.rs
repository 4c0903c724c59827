//! What Postgres' catalog says about a source: slot, publication, table. An ordinary connection, beside the stream.

use jiff::Timestamp;
use replication_protocol::Lsn;
use tailrace_runtime::task;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::tls::NoTls;
use tokio_postgres::types::{PgLsn, ToSql};
use tokio_postgres::{Client, Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use super::error::{Attempt, SourceError};
use super::options::{ReplicationOptions, TlsMode};
use super::quote::identifier;
use super::socket::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, TCP_USER_TIMEOUT};
use super::tls;
use super::wire::within;

/// An ordinary connection to the source's database.
pub struct Catalog {
    client: Client,
    ended: CancellationToken,
    options: ReplicationOptions,
}

/// A slot as `pg_replication_slots` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRow {
    /// Its output plugin; none for a physical slot.
    pub plugin: Option<String>,
    /// Its database; none for a physical slot.
    pub database: Option<String>,
    /// Whether a process streams from it.
    pub active: bool,
    /// That process.
    pub active_pid: Option<i32>,
    /// The log is kept from here on.
    pub restart_lsn: Option<Lsn>,
    /// What was acknowledged.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes that may be written until the slot is lost; none if there is no limit.
    pub safe_wal_size_bytes: Option<i64>,
}

/// How a publication covers a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicationCoverage {
    /// It publishes inserts.
    pub inserts: bool,
    /// It publishes changes of a partition as those of the partitioned table.
    pub via_root: bool,
    /// The table is in it.
    pub table: bool,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// The object id of its type.
    pub type_oid: u32,
    /// Whether it can hold no NULL.
    pub not_null: bool,
}

/// Rows of an outbox from before an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlierRows {
    /// How many.
    pub count: i64,
    /// When the first of them was written.
    pub oldest: Option<Timestamp>,
}

impl Catalog {
    /// Connects and signs in.
    ///
    /// # Errors
    /// If the server cannot be reached in time, or does not let us in.
    pub async fn connect(options: &ReplicationOptions) -> Result<Self, SourceError> {
        // Boxed, because connecting takes a large state that the caller should not carry.
        within(options.connect_timeout, Attempt::Connect, Box::pin(Self::open(options))).await
    }

    /// Waits until the connection has ended, for whatever reason.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// The version as a number, such as 150008.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn server_version(&self) -> Result<i32, SourceError> {
        Ok(self.one("select current_setting('server_version_num')::int", &[]).await?.get(0))
    }

    /// The setting `wal_level`, which must be `logical`.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn wal_level(&self) -> Result<String, SourceError> {
        Ok(self.one("select current_setting('wal_level')", &[]).await?.get(0))
    }

    /// How far the log is written.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn current_wal_lsn(&self) -> Result<Lsn, SourceError> {
        Ok(lsn(self.one("select pg_current_wal_lsn()", &[]).await?.get(0)))
    }

    /// The slot of this name, if there is one.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn slot(&self, name: &str) -> Result<Option<SlotRow>, SourceError> {
        let sql = "select plugin, database, active, active_pid, restart_lsn, confirmed_flush_lsn, wal_status, \
                   safe_wal_size from pg_replication_slots where slot_name = $1";
        Ok(self.all(sql, &[&name]).await?.first().map(slot_row))
    }

    /// How the publication covers the table; `None` if there is no such publication.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn publication_coverage(
        &self,
        publication: &str,
        schema: &str,
        table: &str,
    ) -> Result<Option<PublicationCoverage>, SourceError> {
        let sql = "select pubinsert, pubviaroot, exists (select from pg_publication_tables t \
                   where t.pubname = p.pubname and t.schemaname = $2 and t.tablename = $3) \
                   from pg_publication p where p.pubname = $1";
        let rows = self.all(sql, &[&publication, &schema, &table]).await?;
        Ok(rows.first().map(|row| PublicationCoverage {
            inserts: row.get(0),
            via_root: row.get(1),
            table: row.get(2),
        }))
    }

    /// The columns of the table, in order; none if there is no such table.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn table_columns(&self, schema: &str, table: &str) -> Result<Vec<TableColumn>, SourceError> {
        let sql = "select a.attname, a.atttypid, a.attnotnull from pg_attribute a \
                   join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace \
                   where n.nspname = $1 and c.relname = $2 and a.attnum > 0 and not a.attisdropped \
                   order by a.attnum";
        let rows = self.all(sql, &[&schema, &table]).await?;
        Ok(rows
            .iter()
            .map(|row| TableColumn { name: row.get(0), type_oid: row.get(1), not_null: row.get(2) })
            .collect())
    }

    /// Counts the rows whose `column`, a `timestamptz`, is before `instant`. Reads the table; for start-up only.
    ///
    /// # Errors
    /// If the query fails, as it does without SELECT on the table.
    pub async fn rows_before(
        &self,
        schema: &str,
        table: &str,
        column: &str,
        instant: Timestamp,
    ) -> Result<EarlierRows, SourceError> {
        let (schema, table, column) = (identifier(schema), identifier(table), identifier(column));
        let sql = format!("select count(*), min({column}) from {schema}.{table} where {column} < $1");
        let row = self.one(&sql, &[&instant]).await?;
        Ok(EarlierRows { count: row.get(0), oldest: row.get(1) })
    }

    /// The bytes of `column` in the row whose `id` has this text; `None` without such a row, or if it is null there.
    ///
    /// # Errors
    /// If the query fails, as it does without SELECT on the table.
    pub async fn row_bytes(
        &self,
        schema: &str,
        table: &str,
        id: &TableColumn,
        id_text: &str,
        column: &TableColumn,
    ) -> Result<Option<Vec<u8>>, SourceError> {
        const BYTEA_OID: u32 = 17;
        let sql = "select format_type($1, null)";
        let id_type: String = self.one(sql, &[&id.type_oid]).await?.get(0);
        let (schema, table) = (identifier(schema), identifier(table));
        let (id, name) = (identifier(&id.name), identifier(&column.name));
        let value = match column.type_oid {
            BYTEA_OID => name,
            _ => format!("convert_to({name}::text, 'UTF8')"),
        };
        // The type is named by Postgres itself, as it is to be written.
        let sql = format!("select {value} from {schema}.{table} where {id} = $1::text::{id_type}");
        let rows = self.all(&sql, &[&id_text]).await?;
        Ok(rows.first().and_then(|row| row.get(0)))
    }

    /// Ends the process `pid` on the server if it is a stream of ours: same role, same application name. Returns
    /// whether it was and was told to end.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn terminate_own_stream(&self, pid: i32) -> Result<bool, SourceError> {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 \
                   and usename = current_user and application_name = $2 and backend_type = 'walsender'";
        let rows = self.all(sql, &[&pid, &self.options.application_name]).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    async fn open(options: &ReplicationOptions) -> Result<Self, SourceError> {
        let failed = |error| SourceError::client(Attempt::Connect, error);
        let config = config(options);
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        // The two connections are of different types; all that is wanted of either is that it runs to its end.
        let client = if let Some(tls) = tls::client_config(&options.tls).map_err(SourceError::untrusted)? {
            let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await.map_err(failed)?;
            task::spawn("source catalog", async move { (connection.await, guard).0 });
            client
        } else {
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            task::spawn("source catalog", async move { (connection.await, guard).0 });
            client
        };
        Ok(Self { client, ended, options: options.clone() })
    }

    pub(super) async fn one(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Row, SourceError> {
        let query = async { self.client.query_one(sql, values).await.map_err(query_failed) };
        within(self.options.connect_timeout, Attempt::Catalog, query).await
    }

    pub(super) async fn all(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SourceError> {
        let query = async { self.client.query(sql, values).await.map_err(query_failed) };
        within(self.options.connect_timeout, Attempt::Catalog, query).await
    }
}

fn config(options: &ReplicationOptions) -> Config {
    let mut config = Config::new();
    config
        .host(&options.host)
        .port(options.port)
        .user(&options.user)
        .dbname(&options.database)
        .application_name(&options.application_name)
        .keepalives_idle(KEEPALIVE_IDLE)
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_RETRIES)
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .channel_binding(match options.channel_binding_required {
            true => ChannelBinding::Require,
            false => ChannelBinding::Prefer,
        })
        .ssl_mode(match options.tls {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Require | TlsMode::VerifyFull(_) => SslMode::Require,
        });
    if let Some(password) = &options.password {
        config.password(password.expose());
    }
    config
}

fn slot_row(row: &Row) -> SlotRow {
    SlotRow {
        plugin: row.get(0),
        database: row.get(1),
        active: row.get(2),
        active_pid: row.get(3),
        restart_lsn: row.get::<_, Option<PgLsn>>(4).map(lsn),
        confirmed_flush_lsn: row.get::<_, Option<PgLsn>>(5).map(lsn),
        wal_status: row.get(6),
        safe_wal_size_bytes: row.get(7),
    }
}

fn lsn(lsn: PgLsn) -> Lsn {
    Lsn::new(lsn.into())
}

fn query_failed(error: tokio_postgres::Error) -> SourceError {
    SourceError::client(Attempt::Catalog, error)
}
