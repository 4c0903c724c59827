//! A place in the write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A log sequence number: the count of bytes ever written to the log up to a place in it.
///
/// Ordered as a number. The text form, `X/X` in hexadecimal without padding, does not sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// The absence of a place: Postgres never writes a record here.
    pub const ZERO: Self = Self(0);

    /// The place `bytes` after the start of the log.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The bytes before this place.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Whether this is [`Lsn::ZERO`].
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The bytes of log from `earlier` to here; zero if `earlier` is not earlier.
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// Text that is not an LSN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an LSN: two hexadecimal numbers of at most eight digits, as in 16/B374D848")]
pub struct LsnParseError(());

impl FromStr for Lsn {
    type Err = LsnParseError;

    fn from_str(text: &str) -> Result<Self, LsnParseError> {
        let (high, low) = text.split_once('/').ok_or(LsnParseError(()))?;
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

/// One half of the text form. `from_str_radix` alone would take a sign.
fn half(text: &str) -> Result<u64, LsnParseError> {
    if text.len() > 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(LsnParseError(()));
    }
    u64::from_str_radix(text, 16).map_err(|_| LsnParseError(()))
}

#[cfg(test)]
mod tests {
    use super::Lsn;

    #[test]
    fn text_and_number_agree() {
        for (text, number) in [
            ("0/0", 0),
            ("0/16B3748", 0x16B_3748),
            ("16/B374D848", 0x16_B374_D848),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Lsn::new(number)));
            assert_eq!(Lsn::new(number).to_string(), text);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "/", "0", "0/", "/0", "0/0/0", "0/+1", "0/-1", "0/G", "100000000/0", " 0/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn order_is_numeric_where_text_order_is_not() {
        let (earlier, later) = (Lsn::new(0x9_0000_0000), Lsn::new(0x10_0000_0000));
        assert!(earlier < later);
        assert!(earlier.to_string() > later.to_string());
    }

    #[test]
    fn distance_never_goes_below_zero() {
        assert_eq!(Lsn::new(7).bytes_since(Lsn::new(5)), 2);
        assert_eq!(Lsn::new(5).bytes_since(Lsn::new(7)), 0);
    }
}
