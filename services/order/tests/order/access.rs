//! Who may call what.

use service_testing::{Tokens, assert_access, assert_alike, assert_forgeries_refused};
use tailrace::order::v1::{CancelOrderRequest, GetOrderRequest, order_service_server::SERVICE_NAME};
use uuid::Uuid;

use crate::support::{ADA, AUTHORITY, BOB, Database, Service, by, expired_token, lamp, token};

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

#[tokio::test]
async fn nobody_can_tell_anothers_order_from_none() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let placed = service.create(ADA, lamp()).await.expect("an order");
    let cancelled = service.create(ADA, lamp()).await.expect("an order");
    let cancel = CancelOrderRequest { name: cancelled.name.clone(), ..CancelOrderRequest::default() };
    service.orders().cancel_order(by(ADA, cancel)).await.expect("cancelled");
    let nothing = format!("orders/{}", Uuid::now_v7());
    let names = [("another's", &placed.name), ("another's, cancelled", &cancelled.name), ("none", &nothing)];
    let mut errors = Vec::new();
    for (what, name) in names {
        let get = GetOrderRequest { name: name.clone() };
        errors.push((what, name.as_str(), service.orders().get_order(by(BOB, get)).await.expect_err(what)));
        for etag in ["", &placed.etag, "\"9\""] {
            for request_id in [String::new(), Uuid::new_v4().to_string()] {
                let cancel = CancelOrderRequest { name: name.clone(), etag: etag.to_owned(), request_id };
                let outcome = service.orders().cancel_order(by(BOB, cancel)).await;
                errors.push((what, name.as_str(), outcome.expect_err(what)));
            }
        }
    }
    eprintln!("{} calls about others' orders are answered alike", assert_alike("orders", &errors));
    service.stop().await;
}
