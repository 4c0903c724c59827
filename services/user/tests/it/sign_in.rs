//! Signing in, and the keys that verify what it gives.

use std::{net::Ipv4Addr, time::Duration};

use tailrace::{
    auth::v1::{
        ChangePasswordRequest, ListSigningKeysRequest, LoginRequest, auth_service_client::AuthServiceClient,
    },
    user::v1::GetUserRequest,
};
use tailrace_runtime::{auth::Verifier, settings::AuthSettings};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

use crate::support::{Database, PASSWORD, Service, details, reason, with_token};

fn login(email: &str, password: &str) -> LoginRequest {
    LoginRequest { email: email.to_owned(), password: password.to_owned() }
}

#[tokio::test]
async fn the_published_keys_verify_the_tokens() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let user = service.create("ada@example.org").await;
    let answer =
        service.auth().login(login("Ada@Example.ORG", PASSWORD)).await.expect("signed in").into_inner();
    assert_eq!(answer.user, user.name);
    assert!(!answer.operator);
    assert_eq!(answer.expires_in.expect("a lifetime").seconds, 3600);

    let keys = service.auth().list_signing_keys(ListSigningKeysRequest {}).await.expect("keys").into_inner();
    let fixed = Verifier::fixed(keys.signing_keys);
    let asking = Verifier::connect(&AuthSettings::plaintext(service.url())).expect("a URL");
    for verifier in [fixed, asking] {
        let principal = verifier.verify(&answer.access_token).await.expect("a principal");
        assert_eq!((principal.user, principal.operator), (user.name.clone(), false));
    }
    service.stop().await;
}

#[tokio::test]
async fn calls_without_a_valid_token_are_refused() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let user = service.create("ada@example.org").await;
    let get = GetUserRequest { name: user.name };
    let missing = service.users().get_user(get.clone()).await.expect_err("no token");
    assert_eq!((missing.code(), reason(&missing).as_str()), (Code::Unauthenticated, "TOKEN_MISSING"));
    let mut token = service.token("ada@example.org").await;
    token.truncate(token.len() - 4);
    let forged = service.users().get_user(with_token(get, &token)).await.expect_err("a forged token");
    assert_eq!((forged.code(), reason(&forged).as_str()), (Code::Unauthenticated, "TOKEN_INVALID"));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_when_too_many_passwords_are_checked_is_told_when_to_come_back() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let clients = [service.auth(), service.auth(), service.auth()];
    let mut calls = JoinSet::new();
    for number in 0..240 {
        let (mut auth, email) = (clients[number % clients.len()].clone(), format!("{number}@example.org"));
        calls.spawn(async move { auth.login(login(&email, PASSWORD)).await.expect_err("nobody") });
    }
    let answers = calls.join_all().await;
    let shed: Vec<_> = answers.iter().filter(|status| status.code() == Code::ResourceExhausted).collect();
    assert!(!shed.is_empty() && shed.len() < answers.len(), "{} of {}", shed.len(), answers.len());
    for status in shed {
        assert_eq!(reason(status), "OVERLOADED");
        assert!(details(status).retry_info().is_some(), "{status:?}");
    }
    service.stop().await;
}

#[tokio::test]
async fn wrong_passwords_are_throttled_and_the_owner_elsewhere_is_not() {
    let database = Database::new().await;
    let service = Service::throttled(&database, &[]).await;
    service.create("ada@example.org").await;
    for _ in 0..5 {
        let wrong = service.auth().login(login("ada@example.org", "wrong horse")).await.expect_err("wrong");
        assert_eq!(reason(&wrong), "CREDENTIALS_INVALID");
    }
    let throttled = service.auth().login(login("ada@example.org", PASSWORD)).await.expect_err("throttled");
    assert_eq!(
        (throttled.code(), reason(&throttled).as_str()),
        (Code::ResourceExhausted, "SIGN_IN_THROTTLED")
    );
    assert_eq!(wait(&throttled), Duration::from_secs(1));
    let mut elsewhere = AuthServiceClient::new(service.channel_from(Ipv4Addr::new(127, 0, 0, 2)));
    elsewhere.login(login("ada@example.org", PASSWORD)).await.expect("the owner signs in from elsewhere");
    service.context().clock.skip(Duration::from_secs(1));
    service.auth().login(login("ada@example.org", PASSWORD)).await.expect("signed in after the wait");
    service.stop().await;
}

fn wait(status: &Status) -> Duration {
    details(status).retry_info().and_then(|info| info.retry_delay).expect("when to come back")
}

#[tokio::test]
async fn wrong_passwords_in_changing_one_are_throttled_as_in_signing_in() {
    const NEXT: &str = "another horse";
    let database = Database::new().await;
    let service = Service::throttled(&database, &[]).await;
    service.create("ada@example.org").await;
    let token = service.token("ada@example.org").await;
    let change = |current: &str, new: &str| {
        let (current_password, new_password) = (current.to_owned(), new.to_owned());
        with_token(ChangePasswordRequest { current_password, new_password }, &token)
    };
    let here = service.auth();
    let refusal = async |current: &str| {
        reason(&here.clone().change_password(change(current, NEXT)).await.expect_err("refused"))
    };
    for _ in 0..5 {
        assert_eq!(refusal("wrong horse").await, "PASSWORD_WRONG");
    }
    let throttled = here.clone().change_password(change(PASSWORD, NEXT)).await.expect_err("throttled");
    assert_eq!(reason(&throttled), "SIGN_IN_THROTTLED");
    assert_eq!(wait(&throttled), Duration::from_secs(1));
    service.token("ada@example.org").await;

    // The wait doubles with each wrong one.
    service.context().clock.skip(Duration::from_secs(1));
    assert_eq!(refusal("wrong horse").await, "PASSWORD_WRONG");
    let throttled = here.clone().change_password(change(PASSWORD, NEXT)).await.expect_err("throttled");
    assert_eq!(wait(&throttled), Duration::from_secs(2));

    let mut elsewhere = AuthServiceClient::new(service.channel_from(Ipv4Addr::new(127, 0, 0, 2)));
    elsewhere.change_password(change(PASSWORD, NEXT)).await.expect("the owner, elsewhere");
    service.context().clock.skip(Duration::from_secs(2));
    here.clone().change_password(change(NEXT, PASSWORD)).await.expect("changed");
    assert_eq!(refusal("wrong horse").await, "PASSWORD_WRONG", "a right one forgets the wrong ones");
    assert_eq!(refusal("wrong horse").await, "PASSWORD_WRONG");
    service.stop().await;
}

#[tokio::test]
async fn callers_behind_a_proxy_do_not_throttle_each_other() {
    let database = Database::new().await;
    let service = Service::throttled(&database, &["--trusted-proxies=1"]).await;
    service.create("ada@example.org").await;
    let login = async |forwarded: &str, password: &str| {
        let mut request = Request::new(login("ada@example.org", password));
        request.metadata_mut().insert("x-forwarded-for", forwarded.parse().expect("a value"));
        service.auth().login(request).await.map(drop).map_err(|status| reason(&status))
    };
    for guess in 0..5 {
        // What the guesser makes up stands left of what the proxy says.
        let forwarded = format!("203.0.113.{guess}, 192.0.2.1");
        assert_eq!(login(&forwarded, "wrong horse").await, Err("CREDENTIALS_INVALID".to_owned()));
    }
    assert_eq!(login("192.0.2.1", PASSWORD).await, Err("SIGN_IN_THROTTLED".to_owned()));
    assert_eq!(login("192.0.2.2", PASSWORD).await, Ok(()));
    service.stop().await;
}
