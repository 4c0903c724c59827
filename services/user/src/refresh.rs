//! Refresh tokens: opaque, random, used once. The database keeps their digests alone.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::{error::Error, user::Invalid};

/// What scanners for leaked secrets find a token by.
const PREFIX: &str = "tailrace_rt_";
const RANDOM_BYTES: usize = 32;
/// The longest text that is looked up, in characters.
pub const REFRESH_TOKEN_CHARACTERS_MAX: usize = 128;

/// A refresh token in the clear.
#[derive(Clone, Eq, PartialEq)]
pub struct RefreshToken(String);

impl RefreshToken {
    /// A new one, which nobody can guess.
    pub(crate) fn random() -> Result<Self, Error> {
        let mut bytes = [0; RANDOM_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| Error::inside("no random bytes could be had"))?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// One that a caller brought: 1 to [`REFRESH_TOKEN_CHARACTERS_MAX`] characters. Whether it is one of ours shows its
    /// digest.
    pub fn brought(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        if !(1..=REFRESH_TOKEN_CHARACTERS_MAX).contains(&text.chars().count()) {
            return Err(Invalid("must have 1 to 128 characters"));
        }
        Ok(Self(text))
    }

    /// What is stored of it.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    /// The text, for its owner.
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

/// Tokens stay out of logs.
impl fmt::Debug for RefreshToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RefreshToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_unlike_each_other_and_do_not_print() {
        let (one, two) = (RefreshToken::random().expect("a token"), RefreshToken::random().expect("a token"));
        assert!(one != two && one.digest() != two.digest());
        assert_eq!(format!("{one:?}"), "RefreshToken(…)");
        let text = one.clone().into_text();
        assert_eq!(text.len(), PREFIX.len() + 43);
        assert_eq!(RefreshToken::brought(text), Ok(one));
    }

    #[test]
    fn what_is_brought_has_a_limit() {
        assert!(RefreshToken::brought("").is_err());
        assert!(RefreshToken::brought("x".repeat(REFRESH_TOKEN_CHARACTERS_MAX)).is_ok());
        assert!(RefreshToken::brought("x".repeat(REFRESH_TOKEN_CHARACTERS_MAX + 1)).is_err());
    }
}
