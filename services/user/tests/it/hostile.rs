//! What only somebody hostile or broken sends is answered with exactly what it deserves.

use pbjson_types::{FieldMask, Timestamp};
use service_testing::{Hostile, Sample, TEXTS, assert_bombs, assert_damaged, assert_hostile_texts};
use tailrace::{
    auth::v1::{
        ChangePasswordRequest, LoginRequest, LogoutRequest, RefreshTokenRequest,
        auth_service_server::SERVICE_NAME as AUTH,
    },
    user::v1::{
        CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, UndeleteUserRequest,
        UpdateUserRequest, User, user_service_server::SERVICE_NAME as USER,
    },
};
use tonic::{Response, Status};
use uuid::Uuid;

use crate::{
    rules::{CHANGE_PASSWORD, CREATE, DELETE, GET, LIST, LOGIN, LOGOUT, REFRESH, UNDELETE, UPDATE},
    support::{Database, PASSWORD, Service, fields, new_user, reason, with_token},
};

const ADA: &str = "ada@example.org";
const WRONG: &str = "wrong horse";

/// A service with one user, who is an operator.
struct Scene {
    database: Database,
    service: Service,
    ada: User,
    token: String,
}

impl Scene {
    async fn new() -> Self {
        let database = Database::new().await;
        let service = Service::start(&database).await;
        let ada = service.create(ADA).await;
        database.connect().await.execute("UPDATE users SET operator = true", &[]).await.expect("granted");
        let token = service.token(ADA).await;
        Self { database, service, ada, token }
    }

    /// What is asked as the sample of each RPC about users, and how the service answers it.
    fn about_users(&self) -> [Hostile; 6] {
        let (token, name) = (&self.token, &self.ada.name);
        let stale = "\"99\"".to_owned();
        let mask = FieldMask { paths: vec!["display_name".to_owned(), "email".to_owned()] };
        let user = User { etag: String::new(), ..self.ada.clone() };
        let update = UpdateUserRequest { user: Some(user), update_mask: Some(mask), ..Default::default() };
        let delete = DeleteUserRequest { name: name.clone(), etag: stale.clone(), request_id: String::new() };
        let undelete = UndeleteUserRequest { name: name.clone(), etag: stale, request_id: String::new() };
        [
            Hostile::new(Sample::new(CREATE, token, &new_user("Ada", ADA)), Some("EMAIL_TAKEN")),
            Hostile::new(Sample::new(GET, token, &GetUserRequest { name: name.clone() }), None),
            Hostile::new(Sample::new(LIST, token, &ListUsersRequest::default()), None)
                .always("page_token", "INVALID_FIELDS"),
            Hostile::new(Sample::new(UPDATE, token, &update), None)
                .always("user.name", "INVALID_FIELDS")
                .always("update_mask.paths", "INVALID_FIELDS")
                .where_allowed("user.etag", "ETAG_MISMATCH"),
            Hostile::new(Sample::new(DELETE, token, &delete), Some("ETAG_MISMATCH")),
            Hostile::new(Sample::new(UNDELETE, token, &undelete), Some("USER_NOT_DELETED")),
        ]
    }

    /// The same for the RPCs about sign-ins.
    fn about_sign_ins(&self) -> [Hostile; 4] {
        let (token, unknown) = (&self.token, "unknown".to_owned());
        let login = LoginRequest { email: ADA.to_owned(), password: WRONG.to_owned() };
        let change =
            ChangePasswordRequest { current_password: WRONG.to_owned(), new_password: PASSWORD.to_owned() };
        let refresh = RefreshTokenRequest { refresh_token: unknown.clone() };
        [
            Hostile::new(Sample::new(LOGIN, token, &login), Some("CREDENTIALS_INVALID")),
            Hostile::new(Sample::new(REFRESH, token, &refresh), Some("REFRESH_TOKEN_INVALID")),
            Hostile::new(Sample::new(LOGOUT, token, &LogoutRequest { refresh_token: unknown }), None),
            Hostile::new(Sample::new(CHANGE_PASSWORD, token, &change), Some("PASSWORD_WRONG")),
        ]
    }

    async fn create(&self, request: CreateUserRequest) -> Result<Response<User>, Status> {
        self.service.users().create_user(request).await
    }

    async fn update(&self, user: User, paths: &[&str]) -> Result<Response<User>, Status> {
        let mask = FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
        let request = UpdateUserRequest { user: Some(user), update_mask: Some(mask), ..Default::default() };
        self.service.users().update_user(with_token(request, &self.token)).await
    }
}

#[tokio::test]
async fn hostile_texts_and_damaged_messages_get_an_exact_answer() {
    let scene = Scene::new().await;
    let channel = scene.service.channel();
    let (users, sign_ins) = (scene.about_users(), scene.about_sign_ins());
    let answers = assert_hostile_texts(&channel, USER, &users).await
        + assert_hostile_texts(&channel, AUTH, &sign_ins).await
        + assert_damaged(&channel, USER, &users).await
        + assert_damaged(&channel, AUTH, &sign_ins).await
        + assert_bombs(&channel, USER, &users).await
        + assert_bombs(&channel, AUTH, &sign_ins).await;
    assert!(answers > 800, "{answers}");
    scene.service.stop().await;
}

#[tokio::test]
async fn names_that_may_be_kept_are_kept_as_they_are() {
    let scene = Scene::new().await;
    let mut kept = 0;
    for text in TEXTS.iter().filter(|text| !text.chars().any(char::is_control)) {
        let user = User { display_name: (*text).to_owned(), ..scene.ada.clone() };
        let changed = scene.update(User { etag: String::new(), ..user }, &["display_name"]).await;
        assert_eq!(changed.expect(text).into_inner().display_name, *text);
        let row = scene.database.connect().await;
        let newest = "SELECT payload::text FROM outbox ORDER BY aggregate_version DESC LIMIT 1";
        let row = row.query_one(newest, &[]).await.expect("an event");
        let event: tailrace::event::v1::UserUpdated = serde_json::from_str(row.get(0)).expect("JSON");
        assert_eq!(event.display_name, *text);
        kept += 1;
    }
    assert!(kept > 25, "most of them");
    scene.service.stop().await;
}

/// The service answers so: with a reason and, where fields are not valid, these.
#[track_caller]
fn assert_refused(what: &str, outcome: Result<Response<User>, Status>, expected: &str, paths: &[&str]) {
    let status = outcome.expect_err(what);
    assert_eq!(reason(&status), expected, "{what}: {status:?}");
    if expected == "INVALID_FIELDS" {
        assert_eq!(fields(&status), paths, "{what}: {status:?}");
    }
}

#[tokio::test]
async fn addresses_that_are_none_are_refused() {
    let scene = Scene::new().await;
    let label = "x".repeat(64);
    let long = format!("{}@example.org", "a".repeat(254));
    let too_long_label = format!("a@{label}.org");
    let bad = [
        "",
        "ada",
        "@",
        "ada@",
        "@example.org",
        "ada@@example.org",
        "a@b@c",
        "ada@example..org",
        "ada@.org",
        "ada@example.org.",
        "ada@-a.org",
        "ada@a-.org",
        " ada@example.org",
        "ada@example.org ",
        "ada@exa mple.org",
        "ada@example.org\0",
        "ada\0@example.org",
        "ada@example.org\r\nbcc: x@example.org",
        "ädä@example.org",
        "ada@exämple.org",
        "\"ada\"@example.org",
        "ada@[127.0.0.1]",
        "Ada <ada@example.org>",
        "ada@example.org,b@c.d",
        "ada,@example.org",
        "ada@example_org",
        "ada@example.org>",
        "\u{202e}ada@example.org",
        "ada＠example.org",
        "ada(comment)@example.org",
        long.as_str(),
        too_long_label.as_str(),
    ];
    for email in bad {
        assert_refused(email, scene.create(new_user("Bob", email)).await, "INVALID_FIELDS", &["user.email"]);
        let user = User { email: email.to_owned(), etag: String::new(), ..scene.ada.clone() };
        assert_refused(email, scene.update(user, &["email"]).await, "INVALID_FIELDS", &["user.email"]);
    }
    for taken in [ADA, "ADA@EXAMPLE.ORG", "Ada@Example.org"] {
        assert_refused(taken, scene.create(new_user("Bob", taken)).await, "EMAIL_TAKEN", &[]);
    }
    eprintln!("{} hostile addresses answered as they must be", 2 * bad.len() + 3);
    scene.service.stop().await;
}

#[tokio::test]
async fn masks_names_and_ids_that_are_none_are_refused() {
    let scene = Scene::new().await;
    let plain = User { etag: String::new(), ..scene.ada.clone() };
    let mut answers = 0;
    let masks: &[&[&str]] = &[
        &["*", "email"],
        &["**"],
        &["* "],
        &["display_name", "nothing"],
        &["password"],
        &["operator"],
        &["user.display_name"],
        &["displayName"],
        &["DISPLAY_NAME"],
        &["display_name,email"],
        &["display_name."],
        &[".display_name"],
        &["display_name.x"],
        &["display_name[0]"],
        &["name"],
        &["etag"],
        &["create_time"],
        &["update_time", "delete_time"],
        &["id"],
        &["version"],
        &[""],
        &["\0"],
        &["1"],
        &["password_hash"],
    ];
    for mask in masks {
        let outcome = scene.update(plain.clone(), mask).await;
        assert_refused(&format!("{mask:?}"), outcome, "INVALID_FIELDS", &["update_mask"]);
        answers += 1;
    }
    let many = vec!["nothing"; 10_000];
    assert_refused(
        "10 000 paths",
        scene.update(plain.clone(), &many).await,
        "INVALID_FIELDS",
        &["update_mask"],
    );
    let id = scene.ada.name.strip_prefix("users/").expect("a name");
    let names = [
        String::new(),
        id.to_owned(),
        format!("users/{}", id.to_uppercase()),
        format!("orders/{id}"),
        format!("users/{id}/"),
        format!("users//{id}"),
        format!("/users/{id}"),
        format!("users/{}", id.replace('-', "")),
        "users/-".to_owned(),
        "users/me".to_owned(),
        format!("users/{id}\0"),
        format!("users/{{{id}}}"),
        "users/../users".to_owned(),
    ];
    for name in &names {
        let get = with_token(GetUserRequest { name: name.clone() }, &scene.token);
        assert_refused(name, scene.service.users().get_user(get).await, "INVALID_FIELDS", &["name"]);
        let user = User { name: name.clone(), ..plain.clone() };
        assert_refused(name, scene.update(user, &["email"]).await, "INVALID_FIELDS", &["user.name"]);
        answers += 2;
    }
    let nobody = format!("users/{}", Uuid::now_v7());
    let get = with_token(GetUserRequest { name: nobody.clone() }, &scene.token);
    assert_refused("nobody", scene.service.users().get_user(get).await, "USER_NOT_FOUND", &[]);
    let user = User { name: nobody, ..plain.clone() };
    assert_refused("nobody", scene.update(user, &["display_name"]).await, "USER_NOT_FOUND", &[]);
    for etag in ["1", "W/\"1\"", "\"01\"", "\"1", "*", "\"-1\"", "\"1\"\0"] {
        let user = User { etag: etag.to_owned(), ..plain.clone() };
        assert_refused(etag, scene.update(user, &["display_name"]).await, "ETAG_MISMATCH", &[]);
        answers += 1;
    }
    eprintln!("{} hostile masks, names and etags answered as they must be", answers + 3);
    scene.service.stop().await;
}

#[tokio::test]
async fn what_only_the_server_sets_is_not_heard() {
    let scene = Scene::new().await;
    let long_ago = Some(Timestamp { seconds: 1, nanos: 0 });
    let asked = User {
        name: scene.ada.name.clone(),
        create_time: long_ago,
        update_time: long_ago,
        delete_time: long_ago,
        etag: "\"99\"".to_owned(),
        display_name: "Bob".to_owned(),
        email: "bob@example.org".to_owned(),
    };
    let request = CreateUserRequest { user: Some(asked.clone()), ..new_user("Bob", "bob@example.org") };
    let bob = scene.create(request).await.expect("a user").into_inner();
    assert_ne!(bob.name, scene.ada.name);
    assert_eq!((bob.etag.as_str(), bob.delete_time), ("\"1\"", None));
    assert!(bob.create_time.is_some_and(|time| time.seconds > 1_000_000_000), "{bob:?}");
    let bobs_token = service_token(&scene).await;
    let user =
        User { name: bob.name.clone(), etag: String::new(), display_name: "Bobby".to_owned(), ..asked };
    let request = UpdateUserRequest { user: Some(user), ..Default::default() };
    let changed = scene.service.users().update_user(with_token(request, &bobs_token)).await;
    let changed = changed.expect("changed").into_inner();
    assert_eq!((changed.create_time, changed.delete_time), (bob.create_time, None));
    // No word of a request makes an operator: the token of one who tried is none.
    let list = with_token(ListUsersRequest::default(), &bobs_token);
    let status = scene.service.users().list_users(list).await.expect_err("no operator");
    assert_eq!(reason(&status), "OPERATOR_REQUIRED");
    scene.service.stop().await;
}

async fn service_token(scene: &Scene) -> String {
    scene.service.token("bob@example.org").await
}
