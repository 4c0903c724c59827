//! Who is here, and who was, is told to nobody who may not know it: neither by words nor by time.

use std::time::{Duration, Instant};

use service_testing::assert_alike;
use tailrace::{
    auth::v1::{LoginRequest, LogoutRequest, RefreshTokenRequest},
    user::v1::{DeleteUserRequest, GetUserRequest, UndeleteUserRequest, UpdateUserRequest, User},
};
use tonic::Status;
use uuid::Uuid;

use crate::support::{DEADLINE, Database, PASSWORD, Service, new_user, with_token};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";
const EVE: &str = "eve@example.org";
const BOBS_PASSWORD: &str = "bob's own password";
/// A hash takes tens of milliseconds: who were not hashed for would be told by a factor of ten and more.
const RATIO_MAX: f64 = 3.0;

/// Ada is here, so is Bob with a password of his own, and Eve was.
async fn people(service: &Service) -> [User; 3] {
    let ada = service.create(ADA).await;
    let bob =
        tailrace::user::v1::CreateUserRequest { password: BOBS_PASSWORD.to_owned(), ..new_user("Bob", BOB) };
    let bob = service.users().create_user(bob).await.expect("a user").into_inner();
    let eve = service.create(EVE).await;
    let token = service.token(EVE).await;
    let delete = DeleteUserRequest { name: eve.name.clone(), ..DeleteUserRequest::default() };
    service.users().delete_user(with_token(delete, &token)).await.expect("deleted");
    [ada, bob, eve]
}

async fn refusal(service: &Service, email: &str, password: &str) -> Status {
    let request = LoginRequest { email: email.to_owned(), password: password.to_owned() };
    service.auth().login(request).await.expect_err("not signed in")
}

#[tokio::test]
async fn a_refused_sign_in_tells_nothing_by_its_words_or_its_time() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    people(&service).await;
    let cases = [
        ("a wrong password", ADA, "wrong horse"),
        ("the password of another", ADA, BOBS_PASSWORD),
        ("an unknown address", "nobody@example.org", PASSWORD),
        ("an unknown address and a wrong password", "nobody@example.org", "wrong horse"),
        ("a deleted user's password", EVE, PASSWORD),
        ("a deleted user and a wrong password", EVE, "wrong horse"),
        ("a short password", ADA, "x"),
        ("a short password of nobody", "nobody@example.org", "x"),
    ];
    let mut errors = Vec::new();
    let mut fastest = vec![Duration::MAX; cases.len()];
    let deadline = Instant::now() + DEADLINE;
    // The fastest of each kind counts: a busy machine makes more rounds, and who is not hashed for stays too fast in all.
    let (least, most) = loop {
        for ((what, email, password), fastest) in cases.iter().zip(&mut fastest) {
            let begun = Instant::now();
            errors.push((*what, "", refusal(&service, email, password).await));
            *fastest = begun.elapsed().min(*fastest);
        }
        let (least, most) = (*fastest.iter().min().expect("a time"), *fastest.iter().max().expect("a time"));
        if most.as_secs_f64() < least.as_secs_f64() * RATIO_MAX {
            break (least, most);
        }
        let kinds = cases.iter().map(|(what, ..)| what);
        assert!(Instant::now() < deadline, "{:?}", kinds.zip(&fastest).collect::<Vec<_>>());
    };
    let alike = assert_alike("Login", &errors);
    eprintln!("{alike} refused sign-ins of {} kinds alike, {least:.0?} to {most:.0?}", cases.len());
    service.stop().await;
}

#[tokio::test]
async fn a_refused_refresh_token_tells_nothing() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    service.create(ADA).await;
    service.create(EVE).await;
    let login = async |email: &str| {
        let request = LoginRequest { email: email.to_owned(), password: PASSWORD.to_owned() };
        service.auth().login(request).await.expect("signed in").into_inner()
    };
    let (spent, left, deleted) = (login(ADA).await, login(ADA).await, login(EVE).await);
    let request = RefreshTokenRequest { refresh_token: spent.refresh_token.clone() };
    let next = service.auth().refresh_token(request).await.expect("the next").into_inner();
    let logout = LogoutRequest { refresh_token: left.refresh_token.clone() };
    service.auth().logout(logout).await.expect("signed out");
    let delete = DeleteUserRequest { name: deleted.user.clone(), ..DeleteUserRequest::default() };
    service.users().delete_user(with_token(delete, &deleted.access_token)).await.expect("deleted");
    let mut errors = Vec::new();
    for (what, token) in [
        ("a spent one", &spent.refresh_token),
        ("the next of a spent one", &next.refresh_token),
        ("one that was signed out", &left.refresh_token),
        ("one of a deleted user", &deleted.refresh_token),
        ("one that never was", &spent.refresh_token.chars().rev().collect()),
    ] {
        let request = RefreshTokenRequest { refresh_token: token.clone() };
        errors.push((what, "", service.auth().refresh_token(request).await.expect_err(what)));
    }
    eprintln!("{} refused refresh tokens alike", assert_alike("RefreshToken", &errors));
    service.stop().await;
}

#[tokio::test]
async fn a_user_is_not_told_who_else_there_is() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let [_, bob, eve] = people(&service).await;
    let token = service.token(ADA).await;
    let nobody = format!("users/{}", Uuid::now_v7());
    let names = [("one who is here", bob.name), ("one who was", eve.name), ("nobody", nobody)];
    let mut alike = 0;
    for rpc in ["GetUser", "UpdateUser", "DeleteUser", "UndeleteUser"] {
        let mut errors = Vec::new();
        for (what, name) in &names {
            let outcome = call(&service, rpc, name.clone(), &token).await;
            errors.push((*what, name.as_str(), outcome.expect_err(rpc)));
        }
        alike += assert_alike(rpc, &errors);
    }
    eprintln!("{alike} calls about others are answered alike");
    service.stop().await;
}

async fn call(service: &Service, rpc: &str, name: String, token: &str) -> Result<User, Status> {
    let mut users = service.users();
    let outcome = match rpc {
        "GetUser" => users.get_user(with_token(GetUserRequest { name }, token)).await,
        "UpdateUser" => {
            let user = User { name, display_name: "Other".to_owned(), ..User::default() };
            let request = UpdateUserRequest { user: Some(user), ..UpdateUserRequest::default() };
            users.update_user(with_token(request, token)).await
        }
        "DeleteUser" => {
            let request = DeleteUserRequest { name, ..DeleteUserRequest::default() };
            users.delete_user(with_token(request, token)).await
        }
        _ => {
            let request = UndeleteUserRequest { name, ..UndeleteUserRequest::default() };
            users.undelete_user(with_token(request, token)).await
        }
    };
    outcome.map(tonic::Response::into_inner)
}
