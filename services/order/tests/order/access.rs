//! Who may call what.

use service_testing::{Tokens, assert_access, assert_forgeries_refused};
use tailrace::order::v1::order_service_server::SERVICE_NAME;

use crate::support::{ADA, AUTHORITY, BOB, Database, Service, expired_token, token};

/// Calls without a token that holds are limited by address.
const UNLIMITED: [&str; 2] = ["--rate-per-address=1000000", "--rate-burst-per-address=1000000"];

#[tokio::test]
async fn every_call_is_let_in_or_refused_as_the_table_says() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let tokens =
        Tokens { user: token(ADA, &[]), operator: token(BOB, &["operator"]), expired: expired_token(ADA) };
    let calls = assert_access(service.channel(), SERVICE_NAME, &tokens).await;
    eprintln!("{calls} calls");
    service.stop().await;
}

#[tokio::test]
async fn forged_tokens_are_refused_in_the_same_words() {
    let database = Database::new().await;
    let service = Service::start_with(&database.url(), &UNLIMITED).await;
    let refused =
        assert_forgeries_refused(&service.channel(), SERVICE_NAME, &AUTHORITY.forger(ADA), &[]).await;
    assert!(refused > 300, "{refused}");
    service.stop().await;
}
