//! Statements on the database: bounded in time, cancelled when nobody waits for them any more, and sent once more where that is
//! safe.
//!
//! ```text
//! run ─► a connection of the pool ─► work ─► done: the connection goes back
//!              (bounded wait)     (bounded)  ├─ too late, or the caller is gone: cancelled at the server, the connection closed
//!                                            └─ undone by the server, or lost and harmless to repeat: once more
//! ```

use std::{
    error::Error,
    io,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use metrics::counter;
use tokio::time::{sleep, timeout};
use tokio_postgres::{
    NoTls, Row,
    error::SqlState,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{debug, info};

use super::{Client, Failure, Pool, PoolError, chain, pool_with, tls};
use crate::{process::Misconfigured, settings::DatabaseSettings, task};

/// How much longer than a statement may run its answer is waited for: a server that is well says by then that it gave up.
const ANSWER_GRACE: Duration = Duration::from_secs(1);
/// How long the server may take to cancel a statement before its connection is closed all the same.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// The first pause before a repeat, on average: whoever stood in the way is done by then.
const REPEAT_DELAY: Duration = Duration::from_millis(10);

/// When work may be done once more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// A read, or a write that is carried out at most once however often it is sent.
    Harmless,
    /// Only when the server says that nothing was done.
    IfUndone,
}

impl Repeat {
    /// A write with an id by which a repeat is known is harmless, one without is not.
    pub fn of_write<T>(request: Option<&T>) -> Self {
        if request.is_some() { Self::Harmless } else { Self::IfUndone }
    }

    /// Why work that failed so is done once more, if it is.
    fn why(self, error: &(dyn Error + 'static)) -> Option<&'static str> {
        let failure = Cause::of(error)?;
        match self {
            _ if failure == Cause::Undone => Some("undone"),
            Self::Harmless => Some("lost"),
            Self::IfUndone => None,
        }
    }
}

/// What became of work that failed and may go well the next time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    /// The server undid it, for the sake of somebody else's.
    Undone,
    /// The connection was lost; nobody knows.
    Lost,
}

impl Cause {
    fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            // No connection could be had at all, after a wait: the next will not come sooner.
            if error.is::<PoolError>() {
                return None;
            }
            if let Some(error) = error.downcast_ref::<tokio_postgres::Error>() {
                return Self::of_answer(error);
            }
            cause = error.source();
        }
        None
    }

    fn of_answer(error: &tokio_postgres::Error) -> Option<Self> {
        let Some(state) = error.code() else {
            let is_io = error.source().is_some_and(|source| source.is::<io::Error>());
            return (error.is_closed() || is_io).then_some(Self::Lost);
        };
        if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(state) {
            return Some(Self::Undone);
        }
        let is_ending = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN].contains(state);
        (is_ending || state.code().starts_with("08")).then_some(Self::Lost)
    }
}

/// The way of a service to its database; clones share the connections.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
    tls: Option<MakeRustlsConnect>,
    answer_timeout: Duration,
}

impl Database {
    /// Connects when first used. `application` is what the database shows for its connections.
    pub fn from_settings(settings: &DatabaseSettings, application: &str) -> Result<Self, Misconfigured> {
        let config = super::config(settings, super::SERVICE, application)?;
        let tls = tls(settings, &config)?;
        let answer_timeout = match settings.database_statement_timeout {
            // The server's word for: as long as it takes.
            Duration::ZERO => Duration::MAX,
            limit => limit.saturating_add(ANSWER_GRACE),
        };
        Ok(Self { pool: pool_with(settings, config, tls.clone())?, tls, answer_timeout })
    }

    /// The connections, for upkeep.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Does `work` on a connection, once more if that may help and `repeat` allows it. When this future is dropped, because
    /// the caller's deadline passed or he went away, the statement is cancelled.
    pub async fn run<T, E, F>(&self, repeat: Repeat, work: impl Fn(Connection) -> F) -> Result<T, E>
    where
        E: Error + From<Failure> + 'static,
        F: Future<Output = Result<T, E>>,
    {
        let error = match self.once(&work).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Some(why) = repeat.why(&error) else { return Err(error) };
        counter!("postgres_repeats_total", "why" => why).increment(1);
        info!(postgres.error = chain(&error), postgres.repeat = why, "done once more");
        let mut delays = ExponentialBuilder::default().with_min_delay(REPEAT_DELAY).with_jitter().build();
        sleep(delays.next().unwrap_or(REPEAT_DELAY)).await;
        self.once(&work).await
    }

    async fn once<T, E, F>(&self, work: &impl Fn(Connection) -> F) -> Result<T, E>
    where
        E: Error + From<Failure> + 'static,
        F: Future<Output = Result<T, E>>,
    {
        let client = self.pool.get().await.map_err(|error| E::from(error.into()))?;
        let place = Place::default();
        let mut busy = Busy { place: Some(place.clone()), tls: self.tls.as_ref() };
        let answer = timeout(self.answer_timeout, work(Connection { client: Some(client), place })).await;
        let Ok(answer) = answer else { return Err(E::from(io::Error::from(io::ErrorKind::TimedOut).into())) };
        if let Some(place) = busy.place.take()
            && answer.as_ref().is_err_and(|error| Cause::of(error) == Some(Cause::Lost))
        {
            close(&place);
        }
        // Otherwise it goes back into the pool with its place.
        answer
    }
}

/// Where a connection is put when work on it ends, whichever way it ends.
type Place = Arc<Mutex<Option<Client>>>;

/// A connection that work is done on.
pub struct Connection {
    client: Option<Client>,
    place: Place,
}

impl Connection {
    /// The row that a statement gives, if there is one. It is prepared once for each connection, and planned for any parameters: for
    /// statements whose way to their rows does not depend on them.
    pub async fn prepared_row(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Option<Row>, tokio_postgres::Error> {
        let (values, types): (Vec<_>, Vec<_>) = parameters.iter().cloned().unzip();
        let prepared = self.prepare_typed_cached(statement, &types).await?;
        self.query_opt(&prepared, &values).await
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client.as_ref().expect("it is here until it is dropped")
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect("it is here until it is dropped")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = self.client.take();
    }
}

/// Work that is being done: when it is dropped before its end, a statement may still be running.
struct Busy<'a> {
    place: Option<Place>,
    tls: Option<&'a MakeRustlsConnect>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let Some(place) = &self.place else { return };
        if let Some(client) = place.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task::spawn("cancel", cancel(client, self.tls.cloned()));
        }
    }
}

/// Keeps a connection that is ending out of the pool: it may say so a moment later than the statement on it failed, and the
/// next caller would get it.
fn close(place: &Place) {
    if let Some(client) = place.lock().unwrap_or_else(PoisonError::into_inner).take() {
        drop(Client::take(client));
    }
}

/// Cancels what runs on a connection, and closes it: back in the pool, the next caller would wait behind the statement, or be
/// hit by a cancellation that comes late.
async fn cancel(client: Client, tls: Option<MakeRustlsConnect>) {
    let token = client.cancel_token();
    let client = Client::take(client);
    let cancelled = async {
        match tls {
            Some(tls) => token.cancel_query(tls).await,
            None => token.cancel_query(NoTls).await,
        }
    };
    match timeout(CANCEL_TIMEOUT, cancelled).await {
        Ok(Ok(())) => debug!("a statement that nobody waits for is cancelled"),
        Ok(Err(error)) => info!(postgres.error = chain(&error), "a statement could not be cancelled"),
        Err(_) => info!("the database did not take a cancellation"),
    }
    drop(client);
}
