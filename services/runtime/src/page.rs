//! Pages of a list (AIP-158), newest first by id: ids are UUIDs of version 7, so their order is the order of creation.
//!
//! A token names the last id of a page, and holds a digest of it and of the list that it belongs to:
//!
//! ```text
//! version (1 byte) | last id (16) | SHA-256 of version, last id and list, its first 12 bytes
//! ```
//!
//! So one that was altered, or is of another list, is refused. It is opaque, not secret: what a caller may see is decided by
//! the query and not by the token.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::error::{Problem, Violations};

/// The size of a page when the caller asks for 0.
pub const SIZE_DEFAULT: i32 = 50;
/// The largest page; more is coerced down.
pub const SIZE_MAX: i32 = 1000;
const TOKEN_CHARACTERS_MAX: usize = 512;
const TOKEN_VERSION: u8 = 2;
const DIGEST_BYTES: usize = 12;
const TOKEN_BYTES: usize = 1 + 16 + DIGEST_BYTES;

/// Which page of the list `scope` is wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    size: i32,
    before: Option<Uuid>,
    scope: String,
}

impl Page {
    /// Reads `page_size` and `page_token` of a request. `scope` names the list with everything that selects its
    /// members, so that a token of another list is refused.
    pub fn parse(size: i32, token: &str, scope: impl Into<String>) -> Result<Self, Problem> {
        let scope = scope.into();
        if size < 0 {
            return Err(Violations::of("page_size", "must be 0 or more"));
        }
        let size = if size == 0 { SIZE_DEFAULT } else { size.min(SIZE_MAX) };
        let before = if token.is_empty() {
            None
        } else {
            let id = last_id(token, &scope);
            Some(
                id.ok_or_else(|| Violations::of("page_token", "must be a next_page_token of the same list"))?,
            )
        };
        Ok(Self { size, before, scope })
    }

    /// Only ids below this one belong to the page.
    pub fn before(&self) -> Option<Uuid> {
        self.before
    }

    /// How many rows to query: one more than the page holds, which tells whether another page follows.
    pub fn limit(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// Cuts the extra row off and gives the token of the next page, empty on the last.
    pub fn cut<T>(&self, rows: &mut Vec<T>, id: impl Fn(&T) -> Uuid) -> String {
        let size = usize::try_from(self.size).expect("a page size is positive");
        if rows.len() <= size {
            return String::new();
        }
        rows.truncate(size);
        rows.last().map_or_else(String::new, |last| token(id(last), &self.scope))
    }
}

fn token(last: Uuid, scope: &str) -> String {
    let mut bytes = [TOKEN_VERSION].to_vec();
    bytes.extend_from_slice(last.as_bytes());
    let digest = Sha256::new().chain_update(&bytes).chain_update(scope).finalize();
    bytes.extend_from_slice(&digest[..DIGEST_BYTES]);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn last_id(text: &str, scope: &str) -> Option<Uuid> {
    if text.len() > TOKEN_CHARACTERS_MAX {
        return None;
    }
    let bytes: [u8; TOKEN_BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    let last = Uuid::from_slice(bytes.get(1..TOKEN_BYTES - DIGEST_BYTES)?).ok()?;
    (token(last, scope) == text).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(range: std::ops::RangeInclusive<u128>) -> Vec<Uuid> {
        range.rev().map(Uuid::from_u128).collect()
    }

    #[test]
    fn a_token_leads_to_the_row_after_the_page() {
        let first = Page::parse(2, "", "users").expect("a page");
        let mut rows = ids(1..=3);
        let token = first.cut(&mut rows, |id| *id);
        assert_eq!(rows, ids(2..=3));
        let second = Page::parse(2, &token, "users").expect("a page");
        assert_eq!(second.before(), Some(Uuid::from_u128(2)));
        let mut rest = ids(1..=1);
        assert_eq!(second.cut(&mut rest, |id| *id), "");
        assert_eq!(rest, ids(1..=1));
    }

    #[test]
    fn sizes_have_a_default_and_a_limit() {
        let limit = |size| Page::parse(size, "", "users").map(|page| page.limit()).ok();
        assert_eq!(limit(0), Some(i64::from(SIZE_DEFAULT) + 1));
        assert_eq!(limit(SIZE_MAX + 1), Some(i64::from(SIZE_MAX) + 1));
        assert_eq!(limit(-1), None);
    }

    #[test]
    fn a_token_of_another_list_or_of_nobody_is_refused() {
        let token = token(Uuid::nil(), "orders of users/a");
        for (token, scope) in
            [(token.as_str(), "orders of users/b"), ("AQ", "users"), ("not base64!", "users")]
        {
            assert!(Page::parse(1, token, scope).is_err(), "{token}");
        }
        assert!(Page::parse(1, &token, "orders of users/a").is_ok());
    }
}
