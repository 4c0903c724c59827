//! The resume token: the next offset of every watched partition, and which Kafka cluster they belong to.
//!
//! ```text
//!  base64url, unpadded
//! ┌─────────┬─────────┬────────┬──────────────────────────────────────────────────────┬──────────┐
//! │ version │ cluster │ topics │ name_len name partitions ( number next_offset )* … * │ checksum │
//! │ 1 byte  │ 4 bytes │ varint │ varints and UTF-8                                    │ 4 bytes  │
//! └─────────┴─────────┴────────┴──────────────────────────────────────────────────────┴──────────┘
//! ```
//!
//! The checksum finds accidents (a cut or altered token), it is not a signature: a cursor says only where to go on,
//! and what its bearer may see is decided anew each time. Kafka's topic ids are not known to the client library, so a
//! topic that was deleted and made again is recognised by its cluster or by a cursor beyond its end.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use thiserror::Error;

use tailrace_topics::Partition;

/// The longest token that is read; the contract says the same.
pub const CURSOR_CHARS_MAX: usize = 8192;

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// Where a stream stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The Kafka cluster the offsets belong to, as [`cluster_mark`] makes it.
    pub cluster: u32,
    /// The next offset of each partition.
    pub offsets: BTreeMap<Partition, i64>,
}

/// The token is not one of ours, or was altered.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the cursor is not one that this service gave out")]
pub struct InvalidCursor;

impl Cursor {
    /// Reads a token.
    pub fn parse(token: &str) -> Result<Self, InvalidCursor> {
        if token.len() > CURSOR_CHARS_MAX {
            return Err(InvalidCursor);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidCursor)?;
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(InvalidCursor)?;
        if fnv1a(body).to_be_bytes() != *checksum {
            return Err(InvalidCursor);
        }
        Reader(body).cursor().ok_or(InvalidCursor)
    }

    /// Writes the token.
    pub fn to_token(&self) -> String {
        encode(self.cluster, self.offsets.iter().map(|(partition, next)| (partition, *next)))
    }
}

/// Writes the token of offsets that come in the order of their partitions.
pub fn encode<'a>(cluster: u32, offsets: impl Iterator<Item = (&'a Partition, i64)> + Clone) -> String {
    let mut bytes = Vec::with_capacity(128);
    bytes.push(VERSION);
    bytes.extend_from_slice(&cluster.to_be_bytes());
    let mut topics: Vec<(&Arc<str>, u64)> = Vec::with_capacity(4);
    for (partition, _) in offsets.clone() {
        match topics.last_mut() {
            Some((topic, partitions)) if **topic == partition.topic => *partitions += 1,
            Some(_) | None => topics.push((&partition.topic, 1)),
        }
    }
    put_varint(&mut bytes, topics.len() as u64);
    let mut offsets = offsets;
    for (topic, partitions) in topics {
        put_varint(&mut bytes, topic.len() as u64);
        bytes.extend_from_slice(topic.as_bytes());
        put_varint(&mut bytes, partitions);
        for (partition, next) in offsets.by_ref().take(usize::try_from(partitions).unwrap_or(usize::MAX)) {
            put_varint(&mut bytes, u64::from(partition.number.cast_unsigned()));
            put_varint(&mut bytes, next.cast_unsigned());
        }
    }
    let checksum = fnv1a(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a cursor keeps of a cluster's id.
pub fn cluster_mark(cluster_id: &str) -> u32 {
    fnv1a(cluster_id.as_bytes())
}

/// FNV-1a, 32 bits.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn put_varint(bytes: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, bytes);
}

/// Reads what [`encode`] wrote; `None` for anything else.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn cursor(mut self) -> Option<Cursor> {
        let (head, rest) = self.0.split_first_chunk::<5>()?;
        let [version, cluster @ ..] = *head;
        if version != VERSION {
            return None;
        }
        self.0 = rest;
        let mut offsets = BTreeMap::new();
        for _ in 0..self.varint()? {
            let topic = self.topic()?;
            for _ in 0..self.varint()? {
                let number = i32::try_from(self.varint()?).ok()?;
                let next = i64::try_from(self.varint()?).ok()?;
                let repeated = offsets.insert(Partition { topic: Arc::clone(&topic), number }, next);
                if repeated.is_some() {
                    return None;
                }
            }
        }
        self.0.is_empty().then_some(Cursor { cluster: u32::from_be_bytes(cluster), offsets })
    }

    fn varint(&mut self) -> Option<u64> {
        prost::encoding::decode_varint(&mut self.0).ok()
    }

    fn topic(&mut self) -> Option<Arc<str>> {
        let length = usize::try_from(self.varint()?).ok()?;
        let (name, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(name).ok().map(Arc::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        let offsets = [
            (Partition::new("orders.created", 0), 0),
            (Partition::new("orders.created", 3), i64::MAX),
            (Partition::new("users.created", 1), 300),
        ];
        Cursor { cluster: 7, offsets: offsets.into() }
    }

    #[test]
    fn a_token_reads_back_as_the_cursor_it_was_made_of() {
        for cursor in [cursor(), Cursor::default()] {
            assert_eq!(Cursor::parse(&cursor.to_token()), Ok(cursor));
        }
    }

    #[test]
    fn a_token_is_safe_in_a_url() {
        let token = cursor().to_token();
        assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'), "{token}");
    }

    #[test]
    fn every_cut_and_every_altered_character_is_refused() {
        let token = cursor().to_token();
        for end in 0..token.len() {
            assert_eq!(Cursor::parse(&token[..end]), Err(InvalidCursor), "cut at {end}");
        }
        for at in 0..token.len() {
            let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            let altered = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            assert_eq!(Cursor::parse(&altered), Err(InvalidCursor), "altered at {at}");
        }
    }

    #[test]
    fn garbage_is_refused() {
        for token in ["", "A", "live", "AAAAAAAAAAAA", "%%%%", &"A".repeat(CURSOR_CHARS_MAX + 1)] {
            assert_eq!(Cursor::parse(token), Err(InvalidCursor), "{token:.20}");
        }
    }

    #[test]
    fn a_count_that_promises_more_than_there_is_is_refused() {
        let mut bytes = vec![VERSION, 0, 0, 0, 0];
        put_varint(&mut bytes, u64::MAX);
        bytes.extend_from_slice(&fnv1a(&bytes.clone()).to_be_bytes());
        assert_eq!(Cursor::parse(&URL_SAFE_NO_PAD.encode(bytes)), Err(InvalidCursor));
    }

    #[test]
    fn the_largest_feed_fits_the_longest_token() {
        let mut offsets = BTreeMap::new();
        for number in 0..crate::feed::PARTITIONS_MAX {
            let topic = format!("{}-{:0>40}", "t", number % 16);
            offsets.insert(Partition::new(topic, i32::try_from(number).expect("small")), 1_i64 << 40);
        }
        assert!(Cursor { cluster: 1, offsets }.to_token().len() <= CURSOR_CHARS_MAX);
    }
}
