//! A connection in replication mode that takes commands: identify, create a slot, start the stream.
//!
//! Catalog queries do not belong here (some managed servers refuse them in this mode): see [`super::catalog`].

use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use replication_protocol::Lsn;
use replication_protocol::frame::Frame;

use super::error::{Attempt, SourceError};
use super::options::ReplicationOptions;
use super::quote::{identifier, literal};
use super::startup::{self, Session};
use super::stream::ReplicationStream;
use super::wire::{Row, within};

/// A connection in replication mode.
pub struct ReplicationConnection {
    session: Session,
    command_timeout: Duration,
}

/// Which system this is. A promoted standby keeps the id and counts the timeline up; so may a restored copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemIdentity {
    /// Made at initdb.
    pub system_id: String,
    /// Counts promotions.
    pub timeline: u32,
    /// How far the log is flushed.
    pub xlog_pos: Lsn,
    /// The database connected to.
    pub database: Option<String>,
}

/// A slot that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Its name.
    pub name: String,
    /// Transactions that commit from here on will be streamed.
    pub consistent_point: Lsn,
}

/// What the stream is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    /// Also what `pg_logical_emit_message` wrote.
    pub messages: bool,
}

impl ReplicationConnection {
    /// Connects and signs in.
    ///
    /// # Errors
    /// If the server cannot be reached in time, or does not let us in.
    pub async fn connect(options: &ReplicationOptions) -> Result<Self, SourceError> {
        let command_timeout = options.connect_timeout;
        let session = within(command_timeout, Attempt::Connect, Box::pin(startup::open(options))).await?;
        Ok(Self { session, command_timeout })
    }

    /// The process on the server that serves this connection.
    pub const fn backend_pid(&self) -> i32 {
        self.session.backend_pid
    }

    /// The version as the server writes it, such as `15.8`.
    pub fn server_version(&self) -> &str {
        &self.session.server_version
    }

    /// Asks which system this is.
    ///
    /// # Errors
    /// If the server does not answer, or not as it should.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, SourceError> {
        let rows = self.command(Attempt::IdentifySystem, self.command_timeout, "IDENTIFY_SYSTEM").await?;
        system_identity(rows).ok_or_else(|| unexpected(Attempt::IdentifySystem))
    }

    /// Creates a logical slot for `pgoutput`. It waits for every transaction that is open now, at most `limit`;
    /// after that the server gives up as well and leaves nothing behind.
    ///
    /// # Errors
    /// If the slot exists, if the server is not set up for it, or if an open transaction outlasts the limit.
    pub async fn create_slot(&mut self, name: &str, limit: Duration) -> Result<CreatedSlot, SourceError> {
        // Each wait for a transaction is a wait for a lock, so this ends it on the server's side.
        let lock_timeout = format!("SET lock_timeout = {}", limit.as_millis());
        self.command(Attempt::CreateSlot, self.command_timeout, &lock_timeout).await?;
        let create =
            format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput NOEXPORT_SNAPSHOT", identifier(name));
        let rows = self.command(Attempt::CreateSlot, limit + self.command_timeout, &create).await?;
        // A stream on this connection must not fail by it.
        self.command(Attempt::CreateSlot, self.command_timeout, "RESET lock_timeout").await?;
        created_slot(rows).ok_or_else(|| unexpected(Attempt::CreateSlot))
    }

    /// Drops a slot that nobody streams from.
    ///
    /// # Errors
    /// If it does not exist or is in use.
    pub async fn drop_slot(&mut self, name: &str) -> Result<(), SourceError> {
        let drop = format!("DROP_REPLICATION_SLOT {}", identifier(name));
        self.command(Attempt::DropSlot, self.command_timeout, &drop).await.map(|_| ())
    }

    /// Starts the stream.
    ///
    /// `from` is only a lower bound: the server begins at the slot's confirmed position if that is later, and says so
    /// to nobody but its log. [`Lsn::ZERO`] asks for the confirmed position. Beyond it, transactions are left out.
    ///
    /// # Errors
    /// If the slot is not there, in use or no longer readable. A missing publication shows up in the stream.
    pub async fn start_replication(
        mut self,
        slot: &str,
        publication: &str,
        from: Lsn,
        options: StreamOptions,
    ) -> Result<ReplicationStream, SourceError> {
        let command = start_command(slot, publication, from, options);
        let limit = self.command_timeout;
        within(limit, Attempt::StartReplication, self.start(&command)).await?;
        Ok(ReplicationStream::new(self.session))
    }

    /// Says goodbye. Dropping the connection does as well, less politely.
    ///
    /// # Errors
    /// If the connection is gone already.
    pub async fn close(mut self) -> Result<(), SourceError> {
        let mut terminate = BytesMut::new();
        frontend::terminate(&mut terminate);
        self.session.wire.attempt = Attempt::Finish;
        within(self.command_timeout, Attempt::Finish, self.session.wire.send(&terminate)).await
    }

    /// The answer is 'W': from here on both sides copy. Most reasons not to start come before it, as an error.
    async fn start(&mut self, command: &str) -> Result<(), SourceError> {
        let wire = &mut self.session.wire;
        wire.attempt = Attempt::StartReplication;
        wire.send_query(command).await?;
        loop {
            let Frame { tag, body } = wire.frame().await?;
            match tag {
                b'W' => return Ok(()),
                b'E' => return Err(wire.server_error(body)),
                b'S' => {}
                _ => return Err(unexpected(Attempt::StartReplication)),
            }
        }
    }

    async fn command(
        &mut self,
        attempt: Attempt,
        limit: Duration,
        sql: &str,
    ) -> Result<Vec<Row>, SourceError> {
        self.session.wire.attempt = attempt;
        within(limit, attempt, self.session.wire.query(sql)).await
    }
}

/// The slot is an identifier, the publications are a list of identifiers inside a string. Version 1 makes the server
/// hold a transaction until it commits, spilling to its disk, so the relay need not hold it.
fn start_command(slot: &str, publication: &str, from: Lsn, options: StreamOptions) -> String {
    let slot = identifier(slot);
    let publications = literal(&identifier(publication));
    let messages = options.messages;
    format!(
        "START_REPLICATION SLOT {slot} LOGICAL {from} (proto_version '1', publication_names {publications}, \
         binary 'true', messages '{messages}')"
    )
}

fn system_identity(rows: Vec<Row>) -> Option<SystemIdentity> {
    let mut values = rows.into_iter().next()?.into_iter();
    Some(SystemIdentity {
        system_id: values.next()??,
        timeline: values.next()??.parse().ok()?,
        xlog_pos: values.next()??.parse().ok()?,
        database: values.next()?,
    })
}

fn created_slot(rows: Vec<Row>) -> Option<CreatedSlot> {
    let mut values = rows.into_iter().next()?.into_iter();
    Some(CreatedSlot { name: values.next()??, consistent_point: values.next()??.parse().ok()? })
}

fn unexpected(attempt: Attempt) -> SourceError {
    SourceError::protocol(attempt, "the server answered something else than was asked")
}

#[cfg(test)]
mod tests {
    use replication_protocol::Lsn;

    use super::{StreamOptions, start_command};

    #[test]
    fn the_start_command_quotes_what_is_a_name() {
        assert_eq!(
            start_command("a\"b", "it's", Lsn::new(0x16_B374_D848), StreamOptions { messages: true }),
            "START_REPLICATION SLOT \"a\"\"b\" LOGICAL 16/B374D848 (proto_version '1', \
             publication_names '\"it''s\"', binary 'true', messages 'true')"
        );
    }
}
