//! Sign-ins that go on by refresh tokens, and end.

use sha2::{Digest as _, Sha256};
use tailrace::{
    auth::v1::{
        ChangePasswordRequest, ListSigningKeysRequest, LoginRequest, LoginResponse, LogoutRequest,
        RefreshTokenRequest, RefreshTokenResponse,
    },
    user::v1::{CreateUserRequest, DeleteUserRequest, UndeleteUserRequest},
};
use tailrace_runtime::auth::Verifier;
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::support::{Database, PASSWORD, Service, fields, new_user, reason, until, with_token};

const ADA: &str = "ada@example.org";
const NEW_PASSWORD: &str = "battery staple";

async fn login(service: &Service, password: &str) -> Result<LoginResponse, Status> {
    let request = LoginRequest { email: ADA.to_owned(), password: password.to_owned() };
    service.auth().login(request).await.map(Response::into_inner)
}

async fn sign_in(service: &Service) -> LoginResponse {
    login(service, PASSWORD).await.expect("signed in")
}

async fn refresh(service: &Service, token: &str) -> Result<RefreshTokenResponse, Status> {
    let request = RefreshTokenRequest { refresh_token: token.to_owned() };
    service.auth().refresh_token(request).await.map(Response::into_inner)
}

#[track_caller]
fn check_refused(outcome: Result<RefreshTokenResponse, Status>) {
    let status = outcome.expect_err("it cannot be used");
    let told = (status.code(), reason(&status));
    assert_eq!(told, (Code::Unauthenticated, "REFRESH_TOKEN_INVALID".to_owned()));
}

async fn count(database: &Database, table: &str) -> i64 {
    let row = database.connect().await.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await;
    row.expect("a count").get(0)
}

#[tokio::test]
async fn each_refresh_gives_the_next_pair_of_tokens() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let user = service.create(ADA).await;
    let first = sign_in(&service).await;
    let keys = service.auth().list_signing_keys(ListSigningKeysRequest {}).await.expect("keys").into_inner();
    let verifier = Verifier::fixed(keys.signing_keys);
    let mut token = first.refresh_token.clone();
    for _ in 0..3 {
        let next = refresh(&service, &token).await.expect("refreshed");
        assert_eq!((next.user.as_str(), next.operator), (user.name.as_str(), false));
        assert_ne!(next.refresh_token, token);
        assert!(next.refresh_expires_in.expect("a time").seconds <= 30 * 24 * 3600);
        assert_eq!(next.expires_in.expect("a time").seconds, 3600);
        let principal = verifier.verify(&next.access_token).await.expect("a principal");
        assert_eq!(principal.user, user.name);
        token = next.refresh_token;
    }
    // An operator is one from the next refresh on.
    let grant = "UPDATE users SET operator = true";
    database.connect().await.execute(grant, &[]).await.expect("granted");
    assert!(refresh(&service, &token).await.expect("refreshed").operator);
    service.stop().await;
}

#[tokio::test]
async fn a_refresh_token_that_comes_twice_ends_its_sign_in_and_no_other() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    service.create(ADA).await;
    let (stolen, other) = (sign_in(&service).await, sign_in(&service).await);
    let next = refresh(&service, &stolen.refresh_token).await.expect("refreshed");
    let last = refresh(&service, &next.refresh_token).await.expect("refreshed");
    check_refused(refresh(&service, &stolen.refresh_token).await);
    check_refused(refresh(&service, &last.refresh_token).await);
    check_refused(refresh(&service, &next.refresh_token).await);
    refresh(&service, &other.refresh_token).await.expect("another sign-in goes on");
    assert_eq!((count(&database, "sign_in").await, count(&database, "refresh_token").await), (1, 2));
    service.stop().await;
}

#[tokio::test]
async fn of_many_who_refresh_with_one_token_at_once_at_most_one_succeeds_and_the_sign_in_ends() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    service.create(ADA).await;
    let token = sign_in(&service).await.refresh_token;
    let mut calls = JoinSet::new();
    for _ in 0..16 {
        let mut auth = service.auth();
        let request = RefreshTokenRequest { refresh_token: token.clone() };
        calls.spawn(async move { auth.refresh_token(request).await.map(Response::into_inner) });
    }
    let outcomes = calls.join_all().await;
    let given: Vec<_> = outcomes.into_iter().filter_map(Result::ok).collect();
    assert_eq!(given.len(), 1);
    check_refused(refresh(&service, &given[0].refresh_token).await);
    assert_eq!(count(&database, "sign_in").await, 0);
    service.stop().await;
}

#[tokio::test]
async fn the_database_holds_digests_and_no_token() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    service.create(ADA).await;
    let token = sign_in(&service).await.refresh_token;
    let client = database.connect().await;
    let row = client.query_one("SELECT digest, to_json(refresh_token)::text FROM refresh_token", &[]).await;
    let row = row.expect("one token");
    let (digest, whole): (Vec<u8>, String) = (row.get(0), row.get(1));
    assert!(!whole.contains(&token), "{whole}");
    assert_eq!(digest, Sha256::digest(&token).to_vec());
    service.stop().await;
}

#[tokio::test]
async fn a_logout_ends_one_sign_in_and_may_be_repeated() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    service.create(ADA).await;
    let (one, other) = (sign_in(&service).await, sign_in(&service).await);
    let current = refresh(&service, &one.refresh_token).await.expect("refreshed");
    for token in [&one.refresh_token, &current.refresh_token, "unknown"] {
        let request = LogoutRequest { refresh_token: token.to_owned() };
        service.auth().logout(request).await.expect("nothing is left to end");
    }
    check_refused(refresh(&service, &current.refresh_token).await);
    refresh(&service, &other.refresh_token).await.expect("another sign-in goes on");
    service.stop().await;
}

#[tokio::test]
async fn a_new_password_ends_every_sign_in() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    service.create(ADA).await;
    let (one, other) = (sign_in(&service).await, sign_in(&service).await);
    let change = async |current: &str, new: &str| {
        let (current_password, new_password) = (current.to_owned(), new.to_owned());
        let request = ChangePasswordRequest { current_password, new_password };
        service.auth().change_password(with_token(request, &one.access_token)).await
    };
    let wrong = change("wrong horse", NEW_PASSWORD).await.expect_err("wrong");
    assert_eq!((wrong.code(), reason(&wrong).as_str()), (Code::InvalidArgument, "PASSWORD_WRONG"));
    assert_eq!(fields(&wrong), ["current_password"]);
    let bad = change("", "short").await.expect_err("bad input");
    assert_eq!(fields(&bad), ["current_password", "new_password"]);
    let anonymous = service.auth().change_password(ChangePasswordRequest::default()).await;
    assert_eq!(reason(&anonymous.expect_err("no token")), "TOKEN_MISSING");
    let kept = refresh(&service, &one.refresh_token).await.expect("nothing was changed yet");

    change(PASSWORD, NEW_PASSWORD).await.expect("changed");
    check_refused(refresh(&service, &kept.refresh_token).await);
    check_refused(refresh(&service, &other.refresh_token).await);
    let refused = login(&service, PASSWORD).await.expect_err("the old password");
    assert_eq!(reason(&refused), "CREDENTIALS_INVALID");
    login(&service, NEW_PASSWORD).await.expect("signed in");
    service.stop().await;
}

#[tokio::test]
async fn of_password_changes_at_once_one_holds() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    service.create(ADA).await;
    let access = sign_in(&service).await.access_token;
    let mut calls = JoinSet::new();
    for number in 0..4 {
        let mut auth = service.auth();
        let new_password = format!("{NEW_PASSWORD} {number}");
        let request = ChangePasswordRequest { current_password: PASSWORD.to_owned(), new_password };
        let request = with_token(request, &access);
        calls.spawn(async move { auth.change_password(request).await.map(|_| number) });
    }
    let outcomes = calls.join_all().await;
    let changed: Vec<i32> = outcomes.into_iter().filter_map(Result::ok).collect();
    let [number] = changed[..] else { panic!("changed by {changed:?}") };
    login(&service, &format!("{NEW_PASSWORD} {number}")).await.expect("signed in");
    service.stop().await;
}

#[tokio::test]
async fn the_retry_of_a_creation_is_told_by_the_password_of_then() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mut request = new_user("Ada", ADA);
    request.request_id = Uuid::new_v4().to_string();
    let create = async |password: &str| {
        let request = CreateUserRequest { password: password.to_owned(), ..request.clone() };
        service.users().create_user(request).await.map(Response::into_inner)
    };
    let first = create(PASSWORD).await.expect("a user");
    let tokens = login(&service, PASSWORD).await.expect("signed in");
    let change = ChangePasswordRequest {
        current_password: PASSWORD.to_owned(),
        new_password: NEW_PASSWORD.to_owned(),
    };
    let change = with_token(change, &tokens.access_token);
    service.auth().change_password(change).await.expect("changed");
    assert_eq!(create(PASSWORD).await.expect("the answer of then"), first);
    let other = create(NEW_PASSWORD).await.expect_err("that was not asked for then");
    assert_eq!((other.code(), reason(&other).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    service.stop().await;
}

#[tokio::test]
async fn who_is_deleted_is_signed_out_for_good() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let user = service.create(ADA).await;
    service.create("bob@example.org").await;
    let grant = "UPDATE users SET operator = true WHERE email LIKE 'bob%'";
    database.connect().await.execute(grant, &[]).await.expect("granted");
    let operator = service.token("bob@example.org").await;
    let signed_in = sign_in(&service).await;
    let delete = DeleteUserRequest { name: user.name.clone(), ..DeleteUserRequest::default() };
    service.users().delete_user(with_token(delete, &operator)).await.expect("deleted");
    check_refused(refresh(&service, &signed_in.refresh_token).await);
    let undelete = UndeleteUserRequest { name: user.name, ..UndeleteUserRequest::default() };
    service.users().undelete_user(with_token(undelete, &operator)).await.expect("undeleted");
    check_refused(refresh(&service, &signed_in.refresh_token).await);
    sign_in(&service).await;
    service.stop().await;
}

#[tokio::test]
async fn a_sign_in_ends_with_its_time_and_is_forgotten() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    service.create(ADA).await;
    let token = sign_in(&service).await.refresh_token;
    let end = "UPDATE sign_in SET expires_at = now() - interval '1 second'";
    database.connect().await.execute(end, &[]).await.expect("ended");
    check_refused(refresh(&service, &token).await);
    service.stop().await;
    // Done at the start, and then hourly.
    let service = Service::start(&database).await;
    until("the sign-in to be forgotten", async || count(&database, "sign_in").await == 0).await;
    assert_eq!(count(&database, "refresh_token").await, 0);
    service.stop().await;
}

#[tokio::test]
async fn what_is_no_refresh_token_is_refused() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    check_refused(refresh(&service, "unknown").await);
    for bad in [String::new(), "x".repeat(129)] {
        let status = refresh(&service, &bad).await.expect_err("bad input");
        assert_eq!(
            (status.code(), fields(&status)),
            (Code::InvalidArgument, vec!["refresh_token".to_owned()])
        );
    }
    service.stop().await;
}
