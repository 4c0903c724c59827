//! What the tests of several processes share: who signs tokens, how to call with one, read an error, wait for a condition,
//! and hold a service to the table of who may call what and to the rules of the contract.

mod access;
mod authority;
mod certificates;
mod contract;
mod errors;
mod floods;
mod forged;
mod frames;
mod hostile;
mod raw;
#[cfg(test)]
mod reasons;
mod rules;
mod web;

use std::time::Duration;

use tokio::time::{interval, timeout};
use tonic::{Request, metadata::MetadataValue};

pub use self::{
    access::{Tokens, assert_access},
    authority::{Authority, Publisher},
    certificates::CertificateAuthority,
    errors::{assert_alike, details, fields, reason, told},
    floods::{assert_floods, assert_limits_are_told},
    forged::{Forger, assert_forgeries_refused},
    hostile::{Hostile, TEXTS, assert_bombs, assert_damaged, assert_hostile_texts},
    rules::{Sample, assert_rules},
    web::{call_web, framed, http},
};

/// Longer than anything here takes on a loaded machine; only a failure waits for it.
pub const DEADLINE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(20);

/// A request of whoever has this token.
pub fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value: MetadataValue<_> = format!("Bearer {token}").parse().expect("a header value");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Waits until `is_it` says so.
pub async fn until(what: &str, mut is_it: impl AsyncFnMut() -> bool) {
    let mut ticks = interval(TICK);
    let wait = async {
        while !is_it().await {
            ticks.tick().await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}
