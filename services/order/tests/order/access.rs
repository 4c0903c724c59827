//! Who may call what.

use service_testing::{Tokens, assert_access};
use tailrace::order::v1::order_service_server::SERVICE_NAME;

use crate::support::{ADA, BOB, Database, Service, expired_token, token};

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
