//! Whom and what the demo makes.

use tailrace::google::r#type::Money;
use tailrace::order::v1::OrderLine;
use uuid::Uuid;

use crate::client::Account;

/// The first users, and what each has ordered.
pub(crate) const FIRST_USERS: [(&str, &[&str]); 4] = [
    ("Ada Weir", &["Water wheel, oak", "Grease, 1 kg"]),
    ("Lester Pelton", &["Bucket, bronze"]),
    ("James Francis", &["Guide vane", "Shaft seal"]),
    ("Viktor Kaplan", &["Propeller blade"]),
];

const PRODUCTS: [(&str, i64); 6] = [
    ("Water wheel, oak", 1_250),
    ("Grease, 1 kg", 9),
    ("Bucket, bronze", 85),
    ("Guide vane", 140),
    ("Shaft seal", 32),
    ("Propeller blade", 610),
];

/// The account of a named user.
pub(crate) fn account(name: &str, password: &str) -> Account {
    let email = format!("{}@tailrace.localhost", name.to_lowercase().replace(' ', "."));
    Account { email, display_name: name.to_owned(), password: password.to_owned() }
}

/// An account nobody had before.
pub(crate) fn passer_by(password: &str) -> Account {
    let number = Uuid::new_v4().simple().to_string();
    let short = &number[..8];
    Account {
        email: format!("guest-{short}@tailrace.localhost"),
        display_name: format!("Guest {short}"),
        password: password.to_owned(),
    }
}

/// An order of some of one product.
pub(crate) fn order(product: &str, quantity: i32) -> Vec<OrderLine> {
    let price = PRODUCTS.iter().find(|(name, _)| *name == product).map_or(1, |(_, units)| *units);
    let unit_price = Some(Money { currency_code: "EUR".to_owned(), units: price, nanos: 0 });
    vec![OrderLine { product: product.to_owned(), quantity, unit_price }]
}

/// The order for a number, another for the next.
pub(crate) fn any_order(number: usize) -> Vec<OrderLine> {
    let (product, _) = PRODUCTS[number % PRODUCTS.len()];
    let quantity = i32::try_from(number % 5).unwrap_or_default() + 1;
    order(product, quantity)
}
