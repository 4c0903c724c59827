//! What a table looks like.

use crate::ParseError;
use crate::reader::Reader;

/// What a table looks like, for the changes that follow in this session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its object id; a table made anew under the same name has another.
    pub oid: u32,
    /// Its schema; empty stands for `pg_catalog`.
    pub namespace: String,
    /// Its name. With `publish_via_partition_root` that of the partitioned table.
    pub name: String,
    /// What identifies an old row.
    pub replica_identity: ReplicaIdentity,
    /// The published columns, in the order of the tuples.
    pub columns: Vec<RelationColumn>,
}

/// What identifies the old row of an update or delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// Nothing.
    Nothing,
    /// The whole row.
    Full,
    /// A chosen index.
    Index,
    /// A letter this crate does not know.
    Unknown(u8),
}

/// A column of a [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationColumn {
    /// Whether it belongs to the replica identity.
    pub key: bool,
    /// Its name.
    pub name: String,
    /// The object id of its type.
    pub type_oid: u32,
    /// The type's modifier, -1 for none.
    pub type_modifier: i32,
}

impl Relation {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, ParseError> {
        reader.rename("Relation");
        let oid = reader.u32("the relation's oid")?;
        let namespace = reader.name("a UTF-8 schema name")?;
        let name = reader.name("a UTF-8 name")?;
        let replica_identity = ReplicaIdentity::from_letter(reader.u8("the replica identity")?);
        let count = reader.u16("the number of columns")?;
        let columns = (0..count).map(|_| RelationColumn::read(reader)).collect::<Result<_, _>>()?;
        Ok(Self { oid, namespace, name, replica_identity, columns })
    }
}

impl ReplicaIdentity {
    const fn from_letter(letter: u8) -> Self {
        match letter {
            b'd' => Self::Default,
            b'n' => Self::Nothing,
            b'f' => Self::Full,
            b'i' => Self::Index,
            letter => Self::Unknown(letter),
        }
    }
}

impl RelationColumn {
    fn read(reader: &mut Reader) -> Result<Self, ParseError> {
        Ok(Self {
            key: reader.u8("a column's flags")? & 1 == 1,
            name: reader.name("a UTF-8 column name")?,
            type_oid: reader.u32("a column's type")?,
            type_modifier: reader.i32("a column's type modifier")?,
        })
    }
}
