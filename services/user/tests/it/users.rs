//! Creating, reading and listing users.

use serde_json::Value;
use tailrace::user::v1::{GetUserRequest, ListUsersRequest};
use tailrace_runtime::request::ID_HEADER;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::support::{Database, PASSWORD, Service, details, fields, new_user, reason, with_token};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_user_and_its_event_are_written_together() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mut request = Request::new(new_user("Ada", "ada@example.org"));
    request.metadata_mut().insert("traceparent", TRACEPARENT.parse().expect("a value"));
    let user = service.users().create_user(request).await.expect("a user").into_inner();

    let row = database
        .connect()
        .await
        .query_one(
            "SELECT aggregate_type, aggregate_id, aggregate_version, event_type, payload::text, headers, owner FROM outbox",
            &[],
        )
        .await
        .expect("exactly one event");
    let id = user.name.strip_prefix("users/").expect("a resource name");
    assert_eq!(row.get::<_, String>(0), "users");
    assert_eq!(row.get::<_, String>(1), id);
    assert_eq!(row.get::<_, i64>(2), 1);
    assert_eq!(row.get::<_, String>(3), "users.created.v1");
    let payload: Value = serde_json::from_str(row.get(4)).expect("JSON");
    assert_eq!(payload["user"], user.name);
    assert_eq!(payload["displayName"], "Ada");
    assert_eq!(payload["email"], "ada@example.org");
    assert!(payload.get("password").is_none());
    assert_eq!(row.get::<_, Value>(5), serde_json::json!({ "traceparent": TRACEPARENT }));
    assert_eq!(row.get::<_, String>(6), user.name);
    service.stop().await;
}

#[tokio::test]
async fn users_see_themselves_and_operators_see_everyone() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let ada = service.create("ada@example.org").await;
    let bob = service.create("bob@example.org").await;
    let token = service.token("ada@example.org").await;
    let get = |name: &str, token: &str| {
        let request = with_token(GetUserRequest { name: name.to_owned() }, token);
        let mut users = service.users();
        async move { users.get_user(request).await.map(tonic::Response::into_inner) }
    };

    assert_eq!(get(&ada.name, &token).await.expect("herself"), ada);
    let foreign = get(&bob.name, &token).await.expect_err("not hers");
    let unknown = get(&format!("users/{}", Uuid::now_v7()), &token).await.expect_err("nobody's");
    assert_eq!((foreign.code(), reason(&foreign).as_str()), (Code::NotFound, "USER_NOT_FOUND"));
    assert_eq!((unknown.code(), unknown.message()), (foreign.code(), foreign.message()));
    let malformed = get("users/ada", &token).await.expect_err("no name");
    assert_eq!((malformed.code(), fields(&malformed)), (Code::InvalidArgument, vec!["name".to_owned()]));
    let listing = service.users().list_users(with_token(ListUsersRequest::default(), &token)).await;
    assert_eq!(reason(&listing.expect_err("operators only")), "OPERATOR_REQUIRED");

    database
        .connect()
        .await
        .execute("UPDATE users SET operator = true WHERE email LIKE 'ada%'", &[])
        .await
        .expect("granted");
    let operator = service.token("ada@example.org").await;
    assert_eq!(get(&bob.name, &operator).await.expect("everyone"), bob);
    service.stop().await;
}

#[tokio::test]
async fn pages_list_every_user_once_newest_first() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mut created = Vec::new();
    for number in 0..5 {
        created.push(service.create(&format!("user{number}@example.org")).await.name);
    }
    database.connect().await.execute("UPDATE users SET operator = true", &[]).await.expect("granted");
    let token = service.token("user0@example.org").await;

    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = with_token(ListUsersRequest { page_size: 2, page_token, show_deleted: false }, &token);
        let page = service.users().list_users(request).await.expect("a page").into_inner();
        assert!(page.users.len() <= 2);
        listed.extend(page.users.into_iter().map(|user| user.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    created.reverse();
    assert_eq!(listed, created);
    service.stop().await;
}

#[tokio::test]
async fn bad_input_names_every_field_at_once() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mut request = new_user("", "nobody");
    request.password = "short".to_owned();
    request.request_id = "once".to_owned();
    let mut request = Request::new(request);
    request.metadata_mut().insert(ID_HEADER, "form-7".parse().expect("a value"));
    let status = service.users().create_user(request).await.expect_err("bad input");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(reason(&status), "INVALID_FIELDS");
    assert_eq!(fields(&status), ["password", "request_id", "user.display_name", "user.email"]);
    assert_eq!(details(&status).request_info().expect("a request id").request_id, "form-7");
    assert_eq!(status.metadata().get(ID_HEADER).expect("echoed"), "form-7");

    let mut empty = new_user("Ada", "ada@example.org");
    empty.user = None;
    let status = service.users().create_user(empty).await.expect_err("no user");
    assert_eq!(fields(&status), ["user"]);
    service.stop().await;
}

#[tokio::test]
async fn a_taken_address_is_refused_whatever_its_case() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    service.create("ada@example.org").await;
    let status = service.users().create_user(new_user("Eve", "ADA@Example.org")).await.expect_err("taken");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "EMAIL_TAKEN"));
    let events: i64 = count(&database, "outbox").await;
    assert_eq!((count(&database, "users").await, events), (1, 1), "nothing was written");
    service.stop().await;
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_and_another_request_does_not() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mut request = new_user("Ada", "ada@example.org");
    request.request_id = Uuid::new_v4().to_string();
    let create = |request: tailrace::user::v1::CreateUserRequest| {
        let mut users = service.users();
        async move { users.create_user(request).await.map(tonic::Response::into_inner) }
    };
    let (first, second) = tokio::join!(create(request.clone()), create(request.clone()));
    let first = first.expect("a user");
    assert_eq!(second.expect("the same user"), first, "also when both run at once");
    assert_eq!(create(request.clone()).await.expect("the same user"), first);
    assert_eq!(count(&database, "outbox").await, 1);

    let mut other = request.clone();
    other.user.as_mut().expect("a user").display_name = "Eve".to_owned();
    let mut guess = request.clone();
    guess.password = format!("{PASSWORD}!");
    for reused in [other, guess] {
        let status = create(reused).await.expect_err("another request");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
    }
    service.stop().await;
}

async fn count(database: &Database, table: &str) -> i64 {
    let row = database.connect().await.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await;
    row.expect("a count").get(0)
}
