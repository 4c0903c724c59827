//! Changing, deleting and undeleting users.

use serde_json::Value;
use service_testing::told;
use tailrace::{
    auth::v1::LoginRequest,
    user::v1::{
        DeleteUserRequest, GetUserRequest, ListUsersRequest, UndeleteUserRequest, UpdateUserRequest, User,
    },
};
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::support::{Database, PASSWORD, Service, fields, new_user, with_token};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";

/// A service with two users, the second of whom is an operator.
struct Scene {
    database: Database,
    service: Service,
    ada: User,
    bob: User,
    token: String,
    operator: String,
}

impl Scene {
    async fn new() -> Self {
        let database = Database::new().await;
        let service = Service::start(&database).await;
        let (ada, bob) = (service.create(ADA).await, service.create(BOB).await);
        let grant = "UPDATE users SET operator = true WHERE email LIKE 'bob%'";
        database.connect().await.execute(grant, &[]).await.expect("granted");
        let (token, operator) = (service.token(ADA).await, service.token(BOB).await);
        Self { database, service, ada, bob, token, operator }
    }

    async fn update(&self, token: &str, request: UpdateUserRequest) -> Result<User, Status> {
        self.service.users().update_user(with_token(request, token)).await.map(Response::into_inner)
    }

    async fn delete(&self, token: &str, request: DeleteUserRequest) -> Result<User, Status> {
        self.service.users().delete_user(with_token(request, token)).await.map(Response::into_inner)
    }

    async fn undelete(&self, token: &str, request: UndeleteUserRequest) -> Result<User, Status> {
        self.service.users().undelete_user(with_token(request, token)).await.map(Response::into_inner)
    }

    async fn get(&self, user: &User) -> User {
        let request = with_token(GetUserRequest { name: user.name.clone() }, &self.operator);
        self.service.users().get_user(request).await.expect("a user").into_inner()
    }

    /// The events of a user: version, type, payload.
    async fn events(&self, user: &User) -> Vec<(i64, String, Value)> {
        let id = user.name.strip_prefix("users/").expect("a resource name");
        let statement = "SELECT aggregate_version, event_type, payload, owner FROM outbox \
                         WHERE aggregate_id = $1 ORDER BY aggregate_version";
        let rows = self.database.connect().await.query(statement, &[&id]).await.expect("events");
        assert!(rows.iter().all(|row| row.get::<_, &str>(3) == user.name), "he may see what is about him");
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }
}

fn rename(user: &User, display_name: &str) -> UpdateUserRequest {
    let user = User { name: user.name.clone(), display_name: display_name.to_owned(), ..User::default() };
    UpdateUserRequest { user: Some(user), ..UpdateUserRequest::default() }
}

fn masked(user: &User, paths: &[&str]) -> UpdateUserRequest {
    let paths = paths.iter().map(ToString::to_string).collect();
    let update_mask = Some(pbjson_types::FieldMask { paths });
    UpdateUserRequest { user: Some(user.clone()), update_mask, request_id: String::new() }
}

fn delete(user: &User) -> DeleteUserRequest {
    DeleteUserRequest { name: user.name.clone(), ..DeleteUserRequest::default() }
}

fn undelete(user: &User) -> UndeleteUserRequest {
    UndeleteUserRequest { name: user.name.clone(), ..UndeleteUserRequest::default() }
}

#[tokio::test]
async fn an_update_changes_what_the_mask_names_and_tells_the_whole_user() {
    let scene = Scene::new().await;
    let wanted = User {
        display_name: "Ada Weir".to_owned(),
        email: "weir@example.org".to_owned(),
        ..scene.ada.clone()
    };
    let renamed = scene.update(&scene.token, masked(&wanted, &["display_name"])).await.expect("changed");
    assert_eq!((renamed.display_name.as_str(), renamed.email.as_str()), ("Ada Weir", ADA));
    assert_eq!((renamed.etag.as_str(), renamed.create_time), ("\"2\"", scene.ada.create_time));
    assert_ne!(renamed.update_time, scene.ada.update_time);
    assert_eq!(scene.get(&scene.ada).await, renamed);

    let wanted = User { etag: renamed.etag.clone(), ..wanted };
    let moved = scene.update(&scene.token, masked(&wanted, &["*"])).await.expect("changed");
    assert_eq!((moved.display_name.as_str(), moved.email.as_str()), ("Ada Weir", "weir@example.org"));
    scene.service.token("weir@example.org").await;

    let events = scene.events(&scene.ada).await;
    let kinds: Vec<_> = events.iter().map(|(version, kind, _)| (*version, kind.as_str())).collect();
    assert_eq!(kinds, [(1, "users.created.v1"), (2, "users.updated.v1"), (3, "users.updated.v1")]);
    let payload = &events[1].2;
    assert_eq!((&payload["user"], &payload["email"]), (&scene.ada.name.clone().into(), &ADA.into()));
    assert_eq!(payload["displayName"], "Ada Weir");
    assert_eq!(
        payload["updateTime"],
        serde_json::to_value(renamed.update_time.expect("a time")).expect("JSON")
    );
    scene.service.stop().await;
}

#[tokio::test]
async fn bad_changes_name_every_field_and_change_nothing() {
    let scene = Scene::new().await;
    let empty = scene.update(&scene.token, UpdateUserRequest::default()).await.expect_err("no user");
    assert_eq!(fields(&empty), ["user"]);
    let bad = User {
        name: "users/ada".to_owned(),
        email: "nobody".to_owned(),
        etag: "e".repeat(65),
        ..User::default()
    };
    let bad = UpdateUserRequest { request_id: "once".to_owned(), ..masked(&bad, &["*"]) };
    let bad = scene.update(&scene.token, bad).await.expect_err("bad input");
    assert_eq!(fields(&bad), ["request_id", "user.name", "user.etag", "user.display_name", "user.email"]);
    for paths in [&["password"][..], &["create_time"], &["*", "email"]] {
        let bad = scene.update(&scene.token, masked(&scene.ada, paths)).await.expect_err("bad mask");
        assert_eq!(fields(&bad), ["update_mask"], "{paths:?}");
    }
    let taken = User { email: "BOB@example.org".to_owned(), ..scene.ada.clone() };
    let taken = scene.update(&scene.token, masked(&taken, &["email"])).await.expect_err("taken");
    assert_eq!(told(&taken), (Code::AlreadyExists, "EMAIL_TAKEN".to_owned()));
    let stale = User { etag: "\"0\"".to_owned(), ..scene.ada.clone() };
    let stale = scene.update(&scene.token, masked(&stale, &["email"])).await.expect_err("stale");
    assert_eq!(told(&stale), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    assert_eq!(scene.get(&scene.ada).await, scene.ada);
    assert_eq!(scene.events(&scene.ada).await.len(), 1);
    scene.service.stop().await;
}

#[tokio::test]
async fn users_change_themselves_and_operators_change_everyone() {
    let scene = Scene::new().await;
    let not_found = (Code::NotFound, "USER_NOT_FOUND".to_owned());
    let foreign = scene.update(&scene.token, rename(&scene.bob, "Eve")).await.expect_err("not hers");
    assert_eq!(told(&foreign), not_found);
    let foreign = scene.delete(&scene.token, delete(&scene.bob)).await.expect_err("not hers");
    assert_eq!(told(&foreign), not_found);
    let refused = scene.undelete(&scene.token, undelete(&scene.ada)).await.expect_err("operators only");
    assert_eq!(told(&refused), (Code::PermissionDenied, "OPERATOR_REQUIRED".to_owned()));
    let nobody = User { name: format!("users/{}", Uuid::now_v7()), ..User::default() };
    let unknown = scene.update(&scene.operator, rename(&nobody, "Eve")).await.expect_err("nobody");
    assert_eq!(told(&unknown), not_found);
    let renamed = scene.update(&scene.operator, rename(&scene.ada, "Ada B")).await.expect("changed");
    assert_eq!(renamed.display_name, "Ada B");
    scene.service.stop().await;
}

#[tokio::test]
async fn who_is_deleted_cannot_sign_in_until_undeleted() {
    let scene = Scene::new().await;
    let deleted = scene.delete(&scene.token, delete(&scene.ada)).await.expect("deleted");
    assert!(deleted.delete_time.is_some());
    assert_eq!(scene.get(&scene.ada).await, deleted);
    let login = LoginRequest { email: ADA.to_owned(), password: PASSWORD.to_owned() };
    let refused = scene.service.auth().login(login.clone()).await.expect_err("deleted");
    assert_eq!(told(&refused), (Code::Unauthenticated, "CREDENTIALS_INVALID".to_owned()));
    let taken = scene.service.users().create_user(new_user("Eve", ADA)).await.expect_err("reserved");
    assert_eq!(told(&taken), (Code::AlreadyExists, "EMAIL_TAKEN".to_owned()));
    let again = scene.delete(&scene.token, delete(&scene.ada)).await.expect_err("already");
    assert_eq!(told(&again), (Code::NotFound, "USER_NOT_FOUND".to_owned()));
    let changed = scene.update(&scene.token, rename(&scene.ada, "Ada B")).await.expect_err("deleted");
    assert_eq!(told(&changed), (Code::FailedPrecondition, "USER_DELETED".to_owned()));

    let list = async |show_deleted: bool| {
        let request = ListUsersRequest { show_deleted, ..ListUsersRequest::default() };
        let page = scene.service.users().list_users(with_token(request, &scene.operator)).await;
        page.expect("a page").into_inner().users
    };
    assert_eq!(list(false).await, std::slice::from_ref(&scene.bob));
    assert_eq!(list(true).await, [scene.bob.clone(), deleted.clone()]);

    let stale = UndeleteUserRequest { etag: scene.ada.etag.clone(), ..undelete(&scene.ada) };
    let stale = scene.undelete(&scene.operator, stale).await.expect_err("changed since");
    assert_eq!(told(&stale), (Code::Aborted, "ETAG_MISMATCH".to_owned()));
    let back = scene.undelete(&scene.operator, undelete(&scene.ada)).await.expect("undeleted");
    assert_eq!((back.delete_time, back.etag.as_str()), (None, "\"3\""));
    let again = scene.undelete(&scene.operator, undelete(&scene.ada)).await.expect_err("not deleted");
    assert_eq!(told(&again), (Code::AlreadyExists, "USER_NOT_DELETED".to_owned()));
    scene.service.auth().login(login).await.expect("signed in");

    let events = scene.events(&scene.ada).await;
    let kinds: Vec<_> = events.iter().map(|(version, kind, _)| (*version, kind.as_str())).collect();
    assert_eq!(kinds, [(1, "users.created.v1"), (2, "users.deleted.v1"), (3, "users.updated.v1")]);
    let tombstone = events[1].2.as_object().expect("an object");
    assert_eq!(tombstone.keys().collect::<Vec<_>>(), ["deleteTime", "user"], "nothing personal");
    scene.service.stop().await;
}

#[tokio::test]
async fn changes_at_once_all_happen_one_after_the_other_and_no_version_is_left_out() {
    const CALLERS: i64 = 8;
    let scene = Scene::new().await;
    let mut calls = JoinSet::new();
    for number in 0..CALLERS {
        let mut users = scene.service.users();
        let request = rename(&scene.ada, &format!("Ada {number}"));
        let token = scene.token.clone();
        calls.spawn(async move {
            // ABORTED asks to try again, and each round lets one of them through.
            loop {
                match users.update_user(with_token(request.clone(), &token)).await {
                    Ok(user) => return user.into_inner(),
                    Err(status) => {
                        assert_eq!(told(&status), (Code::Aborted, "CONCURRENT_CHANGES".to_owned()))
                    }
                }
            }
        });
    }
    let mut etags: Vec<String> = calls.join_all().await.into_iter().map(|user| user.etag).collect();
    etags.sort();
    let expected: Vec<String> = (2..=CALLERS + 1).map(|version| format!("\"{version}\"")).collect();
    assert_eq!(etags, expected);
    let versions: Vec<i64> = scene.events(&scene.ada).await.iter().map(|(version, ..)| *version).collect();
    assert_eq!(versions, (1..=CALLERS + 1).collect::<Vec<_>>());
    scene.service.stop().await;
}

#[tokio::test]
async fn a_retried_change_gets_the_first_answer() {
    let scene = Scene::new().await;
    let request_id = || Uuid::new_v4().to_string();
    let request = UpdateUserRequest { request_id: request_id(), ..rename(&scene.ada, "Ada B") };
    let (first, second) = tokio::join!(
        scene.update(&scene.token, request.clone()),
        scene.update(&scene.token, request.clone())
    );
    let first = first.expect("changed");
    assert_eq!(second.expect("the same answer"), first, "also when both run at once");
    let removal = DeleteUserRequest { request_id: request_id(), ..delete(&scene.ada) };
    let deleted = scene.delete(&scene.token, removal.clone()).await.expect("deleted");
    assert_eq!(scene.delete(&scene.token, removal.clone()).await.expect("the same answer"), deleted);
    assert_eq!(scene.update(&scene.token, request.clone()).await.expect("the same answer"), first);
    let other = UpdateUserRequest { request_id: request.request_id.clone(), ..rename(&scene.ada, "Eve") };
    let reused = scene.update(&scene.token, other).await.expect_err("another request");
    assert_eq!(told(&reused), (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()));
    assert_eq!(scene.events(&scene.ada).await.len(), 3);
    scene.service.stop().await;
}
