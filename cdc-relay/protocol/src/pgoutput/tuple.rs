//! A row, kept as the bytes it came in.

use bytes::Bytes;

use crate::ParseError;
use crate::reader::Reader;

/// A row. Its columns are cut out of the message as they are asked for.
///
/// ```text
///  count u16 │ 'n'                     null
///            │ 'u'                     unchanged, and therefore not sent
///            │ 't' length i32, bytes   text
///            │ 'b' length i32, bytes   binary
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuple {
    count: u16,
    /// Exactly `count` columns: [`Tuple::read`] has walked over them.
    columns: Bytes,
}

/// The value of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// NULL.
    Null,
    /// Stored out of line and not changed by an update, so not sent. An insert never holds this.
    Unchanged,
    /// The type's text form.
    Text(Bytes),
    /// The type's binary form, as its send function writes it.
    Binary(Bytes),
}

impl Tuple {
    /// How many columns the row has.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the row has no column at all.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The columns, in the order of the relation's.
    pub fn columns(&self) -> Columns {
        Columns { reader: Reader::new("row", self.columns.clone()), left: self.count }
    }

    /// Reads a row, and makes sure of every column's length now so that the columns cannot fail later.
    pub(super) fn read(reader: &mut Reader) -> Result<Self, ParseError> {
        let count = reader.u16("the number of columns")?;
        let from_here = reader.peek_rest().clone();
        for _ in 0..count {
            skip_column(reader)?;
        }
        let walked = from_here.len() - reader.peek_rest().len();
        Ok(Self { count, columns: from_here.slice(..walked) })
    }
}

impl IntoIterator for &Tuple {
    type Item = Column;
    type IntoIter = Columns;

    fn into_iter(self) -> Columns {
        self.columns()
    }
}

/// The columns of a [`Tuple`], one by one.
#[derive(Debug, Clone)]
pub struct Columns {
    reader: Reader,
    left: u16,
}

impl Iterator for Columns {
    type Item = Column;

    fn next(&mut self) -> Option<Column> {
        self.left = self.left.checked_sub(1)?;
        // `Tuple::read` has seen these bytes parse, so the error cannot be.
        read_column(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Columns {}

const KINDS: &str = "a column kind: 'n', 'u', 't' or 'b'";
const LENGTH: &str = "the length of a column";
const VALUE: &str = "the whole value of a column";

fn read_column(reader: &mut Reader) -> Result<Column, ParseError> {
    match reader.one_of(b"nutb", KINDS)? {
        b'n' => Ok(Column::Null),
        b'u' => Ok(Column::Unchanged),
        b't' => value(reader).map(Column::Text),
        _ => value(reader).map(Column::Binary),
    }
}

fn value(reader: &mut Reader) -> Result<Bytes, ParseError> {
    let length = reader.length(LENGTH)?;
    reader.bytes(length, VALUE)
}

fn skip_column(reader: &mut Reader) -> Result<(), ParseError> {
    match reader.one_of(b"nutb", KINDS)? {
        b'n' | b'u' => Ok(()),
        _ => {
            let length = reader.length(LENGTH)?;
            reader.skip(length, VALUE)
        }
    }
}
