//! Who may call what.

use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use service_testing::{Forger, Tokens, assert_access, assert_forgeries_refused};
use tailrace::{
    auth::v1::{ListSigningKeysRequest, LoginRequest, auth_service_server::SERVICE_NAME as AUTH},
    user::v1::user_service_server::SERVICE_NAME as USER,
};

use crate::support::{Database, PASSWORD, Service};

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

#[tokio::test]
async fn forged_tokens_are_refused_in_the_same_words() {
    let database = Database::new().await;
    // Calls without a token that holds are limited by address.
    let unlimited = ["--rate-per-address=1000000", "--rate-burst-per-address=1000000"];
    let service = Service::start_with(&database, &unlimited).await;
    let ada = service.create("ada@example.org").await;
    let key = PrivatePkcs8KeyDer::from_pem_file(service.key_file()).expect("a key");
    let published = service.auth().list_signing_keys(ListSigningKeysRequest {}).await.expect("keys");
    let forger = Forger::new(key.secret_pkcs8_der(), &published.into_inner().signing_keys[0], &ada.name);
    let sign_in = LoginRequest { email: ada.email, password: PASSWORD.to_owned() };
    let refresh_token = service.auth().login(sign_in).await.expect("tokens").into_inner().refresh_token;
    let others = [("a refresh token", refresh_token)];
    for name in [AUTH, USER] {
        assert_forgeries_refused(&service.channel(), name, &forger, &others).await;
    }
    service.stop().await;
}
