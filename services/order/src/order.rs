//! What an order is. Every value here is valid: the constructors are the only way in, and agree with the `buf.validate`
//! rules of the contract.

use jiff::Timestamp;
use tailrace_runtime::{error::Violations, resource};
use uuid::Uuid;

use crate::{
    error::Kind,
    money::{InvalidMoney, Money},
};

/// The collection of orders' resource names.
pub const COLLECTION: &str = "orders";
/// The version of a new order.
pub const FIRST_VERSION: i64 = 1;
/// The most lines of an order.
pub const LINES_MAX: usize = 100;
/// The longest name of a product, in characters.
pub const PRODUCT_CHARACTERS_MAX: usize = 200;
/// The largest quantity of a line.
pub const QUANTITY_MAX: i32 = 10_000;

/// An order as stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Order {
    /// The id, a UUID of version 7.
    pub id: Uuid,
    /// The buyer's resource name, `users/{user}`.
    pub buyer: String,
    /// What was bought.
    pub basket: Basket,
    /// Where the order stands.
    pub state: State,
    /// Counts the changes, from [`FIRST_VERSION`], without a gap.
    pub version: i64,
    /// When the order was created.
    pub create_time: Timestamp,
    /// When the order was last changed.
    pub update_time: Timestamp,
}

impl Order {
    /// The order after its cancellation. An `etag`, when given, must be the order's: nobody changed it in between.
    pub(crate) fn cancelled(self, etag: Option<&str>, now: Timestamp) -> Result<Self, Kind> {
        if etag.is_some_and(|etag| etag != resource::etag(self.version)) {
            return Err(Kind::EtagMismatch);
        }
        match self.state {
            State::Placed => {}
            State::Cancelled => return Err(Kind::NotPlaced),
        }
        Ok(Self { state: State::Cancelled, version: self.version + 1, update_time: now, ..self })
    }
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It was placed, and can be cancelled.
    Placed,
    /// It was cancelled, which is final.
    Cancelled,
}

impl State {
    /// Every state.
    pub const ALL: &[Self] = &[Self::Placed, Self::Cancelled];

    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.as_str() == name)
    }
}

/// What a value must be; the text completes "the field …".
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(&'static str);

/// The name of what is bought.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Product(String);

impl Product {
    /// 1 to [`PRODUCT_CHARACTERS_MAX`] characters, none a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, Invalid> {
        let text = text.into();
        let length = text.chars().count();
        if !(1..=PRODUCT_CHARACTERS_MAX).contains(&length) || text.chars().any(char::is_control) {
            return Err(Invalid("must have 1 to 200 characters, none a control character"));
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How many are bought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quantity(i32);

impl Quantity {
    /// 1 to [`QUANTITY_MAX`].
    pub fn new(count: i32) -> Result<Self, Invalid> {
        if (1..=QUANTITY_MAX).contains(&count) { Ok(Self(count)) } else { Err(Invalid("must be 1 to 10000")) }
    }

    /// The number.
    pub fn get(self) -> i32 {
        self.0
    }
}

/// One line of an order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// What is bought.
    pub product: Product,
    /// How many.
    pub quantity: Quantity,
    /// The price of one.
    pub unit_price: Money,
}

/// The lines of an order, in one currency, and their sum.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Basket {
    lines: Vec<Line>,
    total: Money,
}

impl Basket {
    /// 1 to [`LINES_MAX`] lines in one currency whose sum can be kept. The violations name the fields below `path`.
    pub fn new(lines: Vec<Line>, path: &str) -> Result<Self, Violations> {
        let mut violations = Violations::default();
        let Some(first) = lines.first().filter(|_| lines.len() <= LINES_MAX) else {
            violations.add(path, "must have 1 to 100 lines");
            return Err(violations);
        };
        let currency = first.unit_price.currency();
        for (index, line) in lines.iter().enumerate() {
            if line.unit_price.currency() != currency {
                let field = format!("{path}[{index}].unit_price.currency_code");
                violations.add(field, "must be the currency of the first line");
            }
        }
        if !violations.is_empty() {
            return Err(violations);
        }
        let total = violations.check(path, total(&lines, first.unit_price));
        total.map(|total| Self { lines, total }).ok_or(violations)
    }

    /// The lines, in order.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The sum over the lines of quantity times unit price.
    pub fn total(&self) -> Money {
        self.total
    }
}

fn total(lines: &[Line], any: Money) -> Result<Money, InvalidMoney> {
    let zero = Money::new(0, any.currency())?;
    let add = |sum: Money, line: &Line| {
        line.unit_price.times(line.quantity.get()).and_then(|price| sum.plus(price))
    };
    lines.iter().try_fold(zero, add).ok_or(InvalidMoney::TOO_MUCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Currency;

    fn line(quantity: i32, minor: i64, currency: &str) -> Line {
        Line {
            product: Product::new("Lamp").expect("a product"),
            quantity: Quantity::new(quantity).expect("a quantity"),
            unit_price: Money::new(minor, Currency::new(currency).expect("a code")).expect("an amount"),
        }
    }

    fn check(lines: Vec<Line>, expected: Result<i64, &[&str]>) {
        let basket = Basket::new(lines, "order.lines");
        let found = basket
            .map(|basket| basket.total().minor())
            .map_err(|violations| violations.paths().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(found, expected.map_err(|paths| paths.iter().map(ToString::to_string).collect()));
    }

    #[test]
    fn a_basket_sums_its_lines_in_one_currency() {
        check(vec![line(2, 150, "EUR"), line(1, 1, "EUR")], Ok(301));
        check(
            vec![line(1, 1, "EUR"), line(1, 1, "USD"), line(1, 1, "CHF")],
            Err(&["order.lines[1].unit_price.currency_code", "order.lines[2].unit_price.currency_code"]),
        );
        check(vec![line(1, i64::MAX, "EUR"), line(1, 1, "EUR")], Err(&["order.lines"]));
        check(vec![line(2, i64::MAX, "EUR")], Err(&["order.lines"]));
        check(vec![], Err(&["order.lines"]));
        check(vec![line(1, 1, "EUR"); LINES_MAX], Ok(100));
        check(vec![line(1, 1, "EUR"); LINES_MAX + 1], Err(&["order.lines"]));
    }

    #[test]
    fn products_and_quantities_have_limits() {
        assert!(Product::new("é".repeat(PRODUCT_CHARACTERS_MAX)).is_ok());
        assert!(Product::new("é".repeat(PRODUCT_CHARACTERS_MAX + 1)).is_err());
        assert!(Product::new("").is_err());
        assert!(Product::new("a\nb").is_err());
        assert!(Quantity::new(QUANTITY_MAX).is_ok());
        assert!(Quantity::new(QUANTITY_MAX + 1).is_err());
        assert!(Quantity::new(0).is_err());
    }
}
