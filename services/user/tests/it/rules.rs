//! The service agrees with every rule of the contract.

use service_testing::{Sample, assert_rules};
use tailrace::{
    auth::v1::{
        ChangePasswordRequest, LoginRequest, LogoutRequest, RefreshTokenRequest,
        auth_service_server::SERVICE_NAME as AUTH,
    },
    user::v1::{
        DeleteUserRequest, GetUserRequest, ListUsersRequest, UndeleteUserRequest, UpdateUserRequest, User,
        user_service_server::SERVICE_NAME as USER,
    },
};

use crate::support::{Database, PASSWORD, Service, new_user};

pub(crate) const CREATE: &str = "tailrace.user.v1.UserService/CreateUser";
pub(crate) const GET: &str = "tailrace.user.v1.UserService/GetUser";
pub(crate) const LIST: &str = "tailrace.user.v1.UserService/ListUsers";
pub(crate) const UPDATE: &str = "tailrace.user.v1.UserService/UpdateUser";
pub(crate) const DELETE: &str = "tailrace.user.v1.UserService/DeleteUser";
pub(crate) const UNDELETE: &str = "tailrace.user.v1.UserService/UndeleteUser";
pub(crate) const LOGIN: &str = "tailrace.auth.v1.AuthService/Login";
pub(crate) const REFRESH: &str = "tailrace.auth.v1.AuthService/RefreshToken";
pub(crate) const LOGOUT: &str = "tailrace.auth.v1.AuthService/Logout";
pub(crate) const CHANGE_PASSWORD: &str = "tailrace.auth.v1.AuthService/ChangePassword";

const ADA: &str = "ada@example.org";

#[tokio::test]
async fn the_service_agrees_with_every_rule_of_the_contract() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let ada = service.create(ADA).await;
    database.connect().await.execute("UPDATE users SET operator = true", &[]).await.expect("granted");
    let token = service.token(ADA).await;
    let name = ada.name.clone();
    let changed = User { etag: String::new(), ..ada };
    let update = UpdateUserRequest { user: Some(changed), ..UpdateUserRequest::default() };
    let delete = DeleteUserRequest { name: name.clone(), ..DeleteUserRequest::default() };
    let undelete = UndeleteUserRequest { name: name.clone(), ..UndeleteUserRequest::default() };
    let users = [
        Sample::new(CREATE, &token, &new_user("Bob", "bob@example.org")),
        Sample::new(GET, &token, &GetUserRequest { name }),
        Sample::new(LIST, &token, &ListUsersRequest::default()),
        Sample::new(UPDATE, &token, &update),
        Sample::new(DELETE, &token, &delete),
        Sample::new(UNDELETE, &token, &undelete),
    ];
    let (email, password, unknown) = (ADA.to_owned(), PASSWORD.to_owned(), "unknown".to_owned());
    let change = ChangePasswordRequest { current_password: password.clone(), new_password: password.clone() };
    let sign_ins = [
        Sample::new(LOGIN, &token, &LoginRequest { email, password }),
        Sample::new(REFRESH, &token, &RefreshTokenRequest { refresh_token: unknown.clone() }),
        Sample::new(LOGOUT, &token, &LogoutRequest { refresh_token: unknown }),
        Sample::new(CHANGE_PASSWORD, &token, &change),
    ];
    let sent = assert_rules(&service.channel(), USER, &users).await
        + assert_rules(&service.channel(), AUTH, &sign_ins).await;
    assert!(sent > 300, "the rules were found: {sent}");
    service.stop().await;
}
