//! The messages of the `pgoutput` plugin, protocol version 1.
//!
//! A transaction is `Begin`, then changes, then `Commit`; it arrives whole, after it committed. A `Relation`
//! precedes the first change of each table in a session, and comes again when the table changes: what is
//! known of relations belongs to one connection and ends with it.
//!
//! ```text
//!  Begin  [Origin]  ( [Type…] [Relation]  Insert | Update | Delete | Truncate | Message )…  Commit
//!  Message (not transactional)  may stand anywhere outside of these
//! ```

use bytes::Bytes;

use crate::reader::Reader;
use crate::{Lsn, ParseError, PgTimestamp};

mod relation;
mod tuple;

pub use relation::{Relation, RelationColumn, ReplicaIdentity};
pub use tuple::{Column, Columns, Tuple};

/// One message of the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A transaction starts.
    Begin(Begin),
    /// The transaction is complete.
    Commit(Commit),
    /// Where the transaction came from, if it was replicated to the server we read.
    Origin(Origin),
    /// What a table looks like from here on.
    Relation(Relation),
    /// A type that is not built in, named before the relation that uses it.
    Type(Type),
    /// A row was inserted.
    Insert(Insert),
    /// A row was updated.
    Update(Update),
    /// A row was deleted.
    Delete(Delete),
    /// Tables were emptied.
    Truncate(Truncate),
    /// What `pg_logical_emit_message` wrote.
    Message(LogicalMessage),
    /// A kind this crate does not know; newer servers or later protocol versions may send one.
    Unknown(u8),
}

/// A transaction starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Where the commit record of this transaction starts. Unique and rising from one transaction to the next.
    pub final_lsn: Lsn,
    /// When it committed, by the server's clock.
    pub commit_time: PgTimestamp,
    /// Its transaction id.
    pub xid: u32,
}

/// The transaction is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Unused by the protocol so far.
    pub flags: u8,
    /// The same place as [`Begin::final_lsn`].
    pub commit_lsn: Lsn,
    /// One past the last byte of the commit record: exactly what acknowledges this transaction.
    pub end_lsn: Lsn,
    /// When it committed, by the server's clock.
    pub commit_time: PgTimestamp,
}

/// Where a replicated transaction came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Where it committed there.
    pub commit_lsn: Lsn,
    /// The name of the origin.
    pub name: String,
}

/// A type that is not built in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// Its object id.
    pub oid: u32,
    /// Its schema.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A row was inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// The table, as [`Relation::oid`].
    pub relation_oid: u32,
    /// The row.
    pub new: Tuple,
}

/// A row was updated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The table, as [`Relation::oid`].
    pub relation_oid: u32,
    /// The old row or its key, if the table's replica identity asks for it.
    pub old: Option<Tuple>,
    /// The new row; what is stored out of line and did not change is not in it.
    pub new: Tuple,
}

/// A row was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The table, as [`Relation::oid`].
    pub relation_oid: u32,
    /// The old row or its key.
    pub old: Tuple,
}

/// Tables were emptied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncate {
    /// Bit 0: CASCADE, bit 1: RESTART IDENTITY.
    pub options: u8,
    /// The tables.
    pub relation_oids: Vec<u32>,
}

/// What `pg_logical_emit_message` wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalMessage {
    /// Whether it belongs to the open transaction. If not, it stands outside of any and was not rolled back.
    pub transactional: bool,
    /// Where the message *ends* in the log: not to be compared with the place of a row.
    pub lsn: Lsn,
    /// Names the kind of content, as the writer chose.
    pub prefix: Bytes,
    /// What was written.
    pub content: Bytes,
}

impl Message {
    /// Reads one message, the data of an [`crate::copy_data::XLogData`].
    ///
    /// # Errors
    /// If the bytes are not exactly one message of the kind their tag names.
    pub fn parse(data: Bytes) -> Result<Self, ParseError> {
        let mut reader = Reader::new("pgoutput message", data);
        let message = match reader.u8("a tag")? {
            b'B' => Self::Begin(begin(&mut reader)?),
            b'C' => Self::Commit(commit(&mut reader)?),
            b'I' => Self::Insert(insert(&mut reader)?),
            b'R' => Self::Relation(Relation::read(&mut reader)?),
            b'O' => Self::Origin(origin(&mut reader)?),
            b'Y' => Self::Type(named_type(&mut reader)?),
            b'U' => Self::Update(update(&mut reader)?),
            b'D' => Self::Delete(delete(&mut reader)?),
            b'T' => Self::Truncate(truncate(&mut reader)?),
            b'M' => Self::Message(logical_message(&mut reader)?),
            tag => return Ok(Self::Unknown(tag)),
        };
        reader.end()?;
        Ok(message)
    }
}

fn begin(reader: &mut Reader) -> Result<Begin, ParseError> {
    reader.rename("Begin");
    Ok(Begin {
        final_lsn: reader.lsn("the final LSN")?,
        commit_time: reader.timestamp("the commit time")?,
        xid: reader.u32("the transaction id")?,
    })
}

fn commit(reader: &mut Reader) -> Result<Commit, ParseError> {
    reader.rename("Commit");
    Ok(Commit {
        flags: reader.u8("the flags")?,
        commit_lsn: reader.lsn("the commit LSN")?,
        end_lsn: reader.lsn("the end LSN")?,
        commit_time: reader.timestamp("the commit time")?,
    })
}

fn origin(reader: &mut Reader) -> Result<Origin, ParseError> {
    reader.rename("Origin");
    Ok(Origin { commit_lsn: reader.lsn("the commit LSN")?, name: reader.name("a UTF-8 name")? })
}

fn named_type(reader: &mut Reader) -> Result<Type, ParseError> {
    reader.rename("Type");
    Ok(Type {
        oid: reader.u32("the type's oid")?,
        namespace: reader.name("a UTF-8 schema name")?,
        name: reader.name("a UTF-8 name")?,
    })
}

fn insert(reader: &mut Reader) -> Result<Insert, ParseError> {
    reader.rename("Insert");
    let relation_oid = reader.u32("the relation's oid")?;
    reader.one_of(b"N", "'N' before the new row")?;
    Ok(Insert { relation_oid, new: Tuple::read(reader)? })
}

fn update(reader: &mut Reader) -> Result<Update, ParseError> {
    reader.rename("Update");
    let relation_oid = reader.u32("the relation's oid")?;
    let old = match reader.one_of(b"KON", "'K', 'O' or 'N' before a row")? {
        b'N' => None,
        _ => {
            let old = Tuple::read(reader)?;
            reader.one_of(b"N", "'N' before the new row")?;
            Some(old)
        }
    };
    Ok(Update { relation_oid, old, new: Tuple::read(reader)? })
}

fn delete(reader: &mut Reader) -> Result<Delete, ParseError> {
    reader.rename("Delete");
    let relation_oid = reader.u32("the relation's oid")?;
    reader.one_of(b"KO", "'K' or 'O' before the old row")?;
    Ok(Delete { relation_oid, old: Tuple::read(reader)? })
}

fn truncate(reader: &mut Reader) -> Result<Truncate, ParseError> {
    reader.rename("Truncate");
    let count = reader.u32("the number of relations")?;
    let options = reader.u8("the options")?;
    // The count is not trusted with an allocation; a false one ends at the first oid that is not there.
    let relation_oids = (0..count).map(|_| reader.u32("a relation's oid")).collect::<Result<_, _>>()?;
    Ok(Truncate { options, relation_oids })
}

fn logical_message(reader: &mut Reader) -> Result<LogicalMessage, ParseError> {
    reader.rename("Message");
    let transactional = reader.u8("the flags")? & 1 == 1;
    let lsn = reader.lsn("the LSN")?;
    let prefix = reader.c_string("the prefix")?;
    let length = reader.length("the length of the content")?;
    Ok(LogicalMessage { transactional, lsn, prefix, content: reader.bytes(length, "the content")? })
}
