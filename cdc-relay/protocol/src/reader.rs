//! A bounded cursor over one message. Everything the crate reads goes through it, so no other code can
//! step outside the bytes it was given.

use bytes::{Buf, Bytes};

use crate::{Lsn, ParseError, PgTimestamp};

/// The unread rest of a message, and how far into it we are.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    rest: Bytes,
    offset: usize,
    message: &'static str,
}

impl Reader {
    /// Reads `bytes`, which errors will call `message`.
    pub(crate) const fn new(message: &'static str, bytes: Bytes) -> Self {
        Self { rest: bytes, offset: 0, message }
    }

    /// Gives the message its name once its tag is known.
    pub(crate) const fn rename(&mut self, message: &'static str) {
        self.message = message;
    }

    /// The error that says what should stand here.
    pub(crate) const fn expected(&self, what: &'static str) -> ParseError {
        ParseError::new(self.message, what, self.offset)
    }

    /// The next `length` bytes.
    pub(crate) fn bytes(&mut self, length: usize, what: &'static str) -> Result<Bytes, ParseError> {
        if length > self.rest.len() {
            return Err(self.expected(what));
        }
        self.offset += length;
        Ok(self.rest.split_to(length))
    }

    /// Steps over the next `length` bytes.
    pub(crate) fn skip(&mut self, length: usize, what: &'static str) -> Result<(), ParseError> {
        if length > self.rest.len() {
            return Err(self.expected(what));
        }
        self.offset += length;
        self.rest.advance(length);
        Ok(())
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> Bytes {
        self.rest
    }

    /// Everything that is left, without stepping over it.
    pub(crate) const fn peek_rest(&self) -> &Bytes {
        &self.rest
    }

    /// Nothing is left.
    pub(crate) fn end(&self) -> Result<(), ParseError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.expected("the end")) }
    }

    /// The next byte, which must be one of `letters`.
    pub(crate) fn one_of(&mut self, letters: &[u8], what: &'static str) -> Result<u8, ParseError> {
        match self.rest.first() {
            Some(letter) if letters.contains(letter) => self.u8(what),
            _ => Err(self.expected(what)),
        }
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, ParseError> {
        self.array::<1>(what).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, ParseError> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, ParseError> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, what: &'static str) -> Result<i32, ParseError> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// A length on the wire is a signed number, and never negative.
    pub(crate) fn length(&mut self, what: &'static str) -> Result<usize, ParseError> {
        let at = self.expected(what);
        usize::try_from(self.i32(what)?).map_err(|_| at)
    }

    pub(crate) fn lsn(&mut self, what: &'static str) -> Result<Lsn, ParseError> {
        self.array(what).map(|bytes| Lsn::new(u64::from_be_bytes(bytes)))
    }

    pub(crate) fn timestamp(&mut self, what: &'static str) -> Result<PgTimestamp, ParseError> {
        self.array(what).map(|bytes| PgTimestamp::from_pg_micros(i64::from_be_bytes(bytes)))
    }

    /// The bytes up to a zero byte, and over it.
    pub(crate) fn c_string(&mut self, what: &'static str) -> Result<Bytes, ParseError> {
        let length = self.rest.iter().position(|byte| *byte == 0).ok_or_else(|| self.expected(what))?;
        let text = self.bytes(length, what)?;
        self.skip(1, what)?;
        Ok(text)
    }

    /// A zero-terminated name. Names come rarely, so this copies.
    pub(crate) fn name(&mut self, what: &'static str) -> Result<String, ParseError> {
        let at = self.expected(what);
        String::from_utf8(self.c_string(what)?.into()).map_err(|_| at)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ParseError> {
        let Some(array) = self.rest.first_chunk::<N>().copied() else {
            return Err(self.expected(what));
        };
        self.skip(N, what)?;
        Ok(array)
    }
}
