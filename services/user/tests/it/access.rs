//! Who may call what.

use service_testing::{Tokens, assert_access};
use tailrace::{
    auth::v1::auth_service_server::SERVICE_NAME as AUTH, user::v1::user_service_server::SERVICE_NAME as USER,
};

use crate::support::{Database, Service};

#[tokio::test]
async fn every_call_is_let_in_or_refused_as_the_table_says() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    service.create("ada@example.org").await;
    service.create("bob@example.org").await;
    let grant = "UPDATE users SET operator = true WHERE email LIKE 'bob%'";
    database.connect().await.execute(grant, &[]).await.expect("granted");
    let tokens = Tokens {
        user: service.token("ada@example.org").await,
        operator: service.token("bob@example.org").await,
        // Signed by the key of another service, which is as good as expired.
        expired: {
            let other = Service::start(&database).await;
            let token = other.token("ada@example.org").await;
            other.stop().await;
            token
        },
    };
    let calls = assert_access(service.channel(), AUTH, &tokens).await
        + assert_access(service.channel(), USER, &tokens).await;
    eprintln!("{calls} calls");
    service.stop().await;
}
