//! Amounts of money: whole minor units (cents) of one currency, never a fraction and never a float.

use std::fmt;

use tailrace::google::r#type::Money as MoneyMessage;

/// How many minor units make one unit. Prices have at most two decimal places.
const MINOR_PER_UNIT: i64 = 100;
const NANOS_PER_MINOR: i32 = 10_000_000;
const CURRENCY_LETTERS: usize = 3;

/// What an amount must be; the text completes "the field …".
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMoney(&'static str);

impl InvalidMoney {
    pub(crate) const TOO_MUCH: Self = Self("must sum up to less than 92 quadrillion");
}

/// The code of a currency, three capital letters (ISO 4217).
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Currency([u8; CURRENCY_LETTERS]);

impl Currency {
    /// Three capital letters.
    pub fn new(code: &str) -> Result<Self, InvalidMoney> {
        <[u8; CURRENCY_LETTERS]>::try_from(code.as_bytes())
            .ok()
            .filter(|letters| letters.iter().all(u8::is_ascii_uppercase))
            .map(Self)
            .ok_or(InvalidMoney("must have an ISO 4217 currency code, such as EUR"))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("a code is three ASCII letters")
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// An amount, 0 or more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

impl Money {
    /// `minor` minor units, 0 or more.
    pub fn new(minor: i64, currency: Currency) -> Result<Self, InvalidMoney> {
        if minor < 0 { Err(InvalidMoney("must be 0 or more")) } else { Ok(Self { minor, currency }) }
    }

    /// The amount on the wire, if it is one that can be kept exactly.
    pub fn from_wire(message: &MoneyMessage) -> Result<Self, InvalidMoney> {
        let currency = Currency::new(&message.currency_code)?;
        if message.units < 0 || message.nanos < 0 {
            return Err(InvalidMoney("must be 0 or more"));
        }
        if message.nanos % NANOS_PER_MINOR != 0
            || i64::from(message.nanos / NANOS_PER_MINOR) >= MINOR_PER_UNIT
        {
            return Err(InvalidMoney("must have at most two decimal places"));
        }
        let minor = message.units.checked_mul(MINOR_PER_UNIT);
        let minor = minor.and_then(|minor| minor.checked_add(i64::from(message.nanos / NANOS_PER_MINOR)));
        Self::new(minor.ok_or(InvalidMoney::TOO_MUCH)?, currency)
    }

    /// The amount for the wire.
    pub fn to_wire(self) -> MoneyMessage {
        let cents = i32::try_from(self.minor % MINOR_PER_UNIT).expect("a remainder of 100 fits");
        MoneyMessage {
            currency_code: self.currency.as_str().to_owned(),
            units: self.minor / MINOR_PER_UNIT,
            nanos: cents * NANOS_PER_MINOR,
        }
    }

    /// `count` times the amount, unless that is more than can be kept.
    pub fn times(self, count: i32) -> Option<Self> {
        Some(Self { minor: self.minor.checked_mul(i64::from(count))?, ..self })
    }

    /// The sum, unless that is more than can be kept. Both have one currency.
    pub fn plus(self, other: Self) -> Option<Self> {
        assert!(self.currency == other.currency, "only amounts of one currency add up");
        Some(Self { minor: self.minor.checked_add(other.minor)?, ..self })
    }

    /// In minor units.
    pub fn minor(self) -> i64 {
        self.minor
    }

    /// Its currency.
    pub fn currency(self) -> Currency {
        self.currency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, units: i64, nanos: i32, minor: Option<i64>) {
        let message = MoneyMessage { currency_code: code.to_owned(), units, nanos };
        let money = Money::from_wire(&message);
        assert_eq!(money.ok().map(Money::minor), minor, "{message:?}");
        if let Ok(money) = money {
            assert_eq!(money.to_wire(), message, "nothing is lost on the way back");
        }
    }

    #[test]
    fn amounts_on_the_wire_become_whole_minor_units() {
        check("EUR", 12, 340_000_000, Some(1234));
        check("EUR", 0, 0, Some(0));
        check("EUR", 0, 990_000_000, Some(99));
        check("EUR", 0, 5_000_000, None);
        check("EUR", 0, 1_000_000_000, None);
        check("EUR", -1, 0, None);
        check("EUR", 0, -10_000_000, None);
        check("EUR", i64::MAX / MINOR_PER_UNIT, 70_000_000, Some(i64::MAX));
        check("EUR", i64::MAX / MINOR_PER_UNIT, 80_000_000, None);
        check("EUR", i64::MAX, 0, None);
        check("eur", 1, 0, None);
        check("EURO", 1, 0, None);
        check("", 1, 0, None);
        check("ÄB", 1, 0, None);
    }

    #[test]
    fn sums_and_products_that_cannot_be_kept_are_none() {
        let euro = Currency::new("EUR").expect("a code");
        let most = Money::new(i64::MAX, euro).expect("an amount");
        let cent = Money::new(1, euro).expect("an amount");
        assert_eq!(most.plus(cent), None);
        assert_eq!(most.times(2), None);
        assert_eq!(cent.times(10_000).and_then(|sum| sum.plus(cent)).map(Money::minor), Some(10_001));
    }
}
