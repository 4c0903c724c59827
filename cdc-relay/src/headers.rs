//! Headers of a record, and the memory they are written into.
//!
//! A record has about eleven headers, and a database tens of thousands of records a second: as values of their own they
//! cost more than everything else. So all headers of a record lie in one piece of memory, and those pieces are cut one
//! after the other from a chunk that many records share.
//!
//! ```text
//!  name_len u16 │ value_len u32 │ name │ value │ name_len …
//! ```

use std::fmt::{self, Display, Write as _};

use bytes::{BufMut as _, Bytes, BytesMut};

/// The headers of a record, in the order they are written; a name may occur again.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Bytes);

impl Headers {
    /// What each header costs beside its name and value.
    pub(crate) const PREFIX_BYTES: usize = 6;

    /// The headers one by one, as name and value.
    pub fn iter(&self) -> HeadersIter<'_> {
        HeadersIter(&self.0)
    }

    /// The value of the first header of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The bytes they take, here and, where Kafka's lengths are shorter, at most on the wire.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a str, &'a [u8]);
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

impl<'a> FromIterator<(&'a str, &'a [u8])> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a [u8])>>(headers: I) -> Self {
        let mut arena = Arena::default();
        let mut writer = arena.headers();
        for (name, value) in headers {
            writer.add(name, value);
        }
        writer.finish()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (name, value.escape_ascii().to_string())))
            .finish()
    }
}

/// Goes through [`Headers`].
#[derive(Clone, Debug)]
pub struct HeadersIter<'a>(&'a [u8]);

impl<'a> Iterator for HeadersIter<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // Only `HeadersWriter` makes these bytes, so what is missing here is the end and nothing else.
        let ([a, b, c, d, e, f], rest) = self.0.split_first_chunk::<{ Headers::PREFIX_BYTES }>()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*a, *b])))?;
        let value_bytes = usize::try_from(u32::from_be_bytes([*c, *d, *e, *f])).ok()?;
        let (value, rest) = rest.split_at_checked(value_bytes)?;
        self.0 = rest;
        Some((str::from_utf8(name).ok()?, value))
    }
}

/// Memory that many small values are cut from.
#[derive(Debug, Default)]
pub struct Arena(BytesMut);

impl Arena {
    const CHUNK_BYTES: usize = 64 * 1024;
    /// Room for what one record usually needs.
    const SPARE_BYTES: usize = 1024;

    /// A value in its text form.
    pub fn text(&mut self, value: impl Display) -> Bytes {
        self.make_room();
        write!(self.0, "{value}").expect("memory takes every text");
        self.0.split().freeze()
    }

    /// Begins the headers of a record.
    pub fn headers(&mut self) -> HeadersWriter<'_> {
        self.make_room();
        HeadersWriter(&mut self.0)
    }

    fn make_room(&mut self) {
        if self.0.capacity() < Self::SPARE_BYTES {
            self.0 = BytesMut::with_capacity(Self::CHUNK_BYTES);
        }
    }
}

/// Writes the headers of one record.
#[derive(Debug)]
pub struct HeadersWriter<'a>(&'a mut BytesMut);

impl HeadersWriter<'_> {
    /// Adds a header. A name longer than 64 KiB is cut.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        self.begin(name, value.len());
        self.0.put_slice(value);
    }

    /// Adds a header whose value is made of parts.
    pub fn add_parts(&mut self, name: &str, parts: &[&[u8]]) {
        self.begin(name, parts.iter().map(|part| part.len()).sum());
        for part in parts {
            self.0.put_slice(part);
        }
    }

    /// Adds a header whose value is a text made of this.
    pub fn add_text(&mut self, name: &str, value: impl Display) {
        let prefix = self.begin(name, 0);
        let start = self.0.len();
        write!(self.0, "{value}").expect("memory takes every text");
        let value_bytes = u32::try_from(self.0.len() - start).expect("a text of less than 4 GiB");
        if let Some(place) = self.0.get_mut(prefix + 2..prefix + Headers::PREFIX_BYTES) {
            place.copy_from_slice(&value_bytes.to_be_bytes());
        }
    }

    /// Ends the record's headers.
    pub fn finish(self) -> Headers {
        Headers(self.0.split().freeze())
    }

    /// Writes lengths and name, and gives the place of the lengths.
    fn begin(&mut self, name: &str, value_bytes: usize) -> usize {
        let mut cut = name.len().min(usize::from(u16::MAX));
        while !name.is_char_boundary(cut) {
            cut -= 1;
        }
        let prefix = self.0.len();
        self.0.put_u16(u16::try_from(cut).expect("cut to fit"));
        self.0.put_u32(u32::try_from(value_bytes).expect("a row of less than 4 GiB"));
        self.0.put_slice(name.get(..cut).unwrap_or_default().as_bytes());
        prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were_written() {
        let mut arena = Arena::default();
        let mut writer = arena.headers();
        writer.add("a", b"1");
        writer.add_text("text", format_args!("{}/{}", 7, 8));
        writer.add("a", b"");
        let first = writer.finish();
        let second = arena.headers().finish();
        let read: Vec<_> = first.iter().collect();
        assert_eq!(read, [("a", &b"1"[..]), ("text", b"7/8"), ("a", b"")]);
        assert_eq!(first.get("a"), Some(&b"1"[..]));
        assert_eq!(second.iter().count(), 0);
        assert_eq!(read.into_iter().collect::<Headers>(), first);
    }

    #[test]
    fn a_chunk_is_shared_until_it_is_full() {
        let mut arena = Arena::default();
        let values: Vec<Bytes> = (0..100_000).map(|number| arena.text(number)).collect();
        assert!(values.iter().enumerate().all(|(number, value)| *value == number.to_string()));
    }

    #[test]
    fn a_name_of_any_length_does_no_harm() {
        let name = "ä".repeat(40_000);
        let headers: Headers = [(name.as_str(), &b"v"[..]), ("next", b"w")].into_iter().collect();
        assert_eq!(headers.get("next"), Some(&b"w"[..]));
    }
}
