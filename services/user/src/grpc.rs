//! The wire of this service: proto to domain, call, domain to proto. Statuses are made here and nowhere else.

mod auth;
mod changes;

pub(crate) use self::auth::AuthApi;

use prost::Message as _;
use tailrace::user::v1::{
    CreateUserRequest, DeleteUserRequest, GetUserRequest, ListUsersRequest, ListUsersResponse,
    UndeleteUserRequest, UpdateUserRequest, User as UserMessage, user_service_server::UserService,
};
use tailrace_outbox::Request as OnceRequest;
use tailrace_runtime::{
    access::Caller,
    error::{Problem, RETRY_AFTER, Violations},
    page::Page,
    request::{self, TraceContext},
    resource,
};
use tonic::{Code, Request, Response, Status};

use crate::{
    commands::{NewUser, Users, Wanted},
    error::{Error, Kind},
    user::{COLLECTION, DisplayName, Email, Password},
    wire::message,
};

pub(crate) const NAME_RULE: &str = "must be a resource name, users/{uuid}";

/// UserService.
pub(crate) struct UserApi {
    users: Users,
}

impl UserApi {
    pub(crate) fn new(users: Users) -> Self {
        Self { users }
    }

    async fn change(
        &self,
        caller: &Caller,
        wanted: Wanted,
        once: Option<OnceRequest>,
        trace: &TraceContext,
    ) -> Result<Response<UserMessage>, Status> {
        if caller.confined_to().is_some_and(|own| own != resource::name(COLLECTION, wanted.id)) {
            return Err(status(Kind::NotFound.into()));
        }
        let user = self.users.change(&wanted, once.as_ref(), trace).await.map_err(status)?;
        Ok(Response::new(user))
    }
}

#[tonic::async_trait]
impl UserService for UserApi {
    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<UserMessage>, Status> {
        let trace = request::trace_context(&request);
        let (new, once) = new_user(request.into_inner())?;
        Ok(Response::new(self.users.create(new, once, &trace).await.map_err(status)?))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<UserMessage>, Status> {
        let caller = Caller::of(&request)?;
        let name = request.into_inner().name;
        let id = resource::id(COLLECTION, &name).ok_or_else(|| Violations::of("name", NAME_RULE))?;
        if caller.confined_to().is_some_and(|own| own != name) {
            return Err(status(Kind::NotFound.into()));
        }
        Ok(Response::new(message(&self.users.get(id).await.map_err(status)?)))
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        Caller::of(&request)?;
        let request = request.into_inner();
        let scope = if request.show_deleted { "users and deleted users" } else { COLLECTION };
        let page = Page::parse(request.page_size, &request.page_token, scope)?;
        let (users, next_page_token) = self.users.list(&page, request.show_deleted).await.map_err(status)?;
        Ok(Response::new(ListUsersResponse { users: users.iter().map(message).collect(), next_page_token }))
    }

    async fn update_user(
        &self,
        request: Request<UpdateUserRequest>,
    ) -> Result<Response<UserMessage>, Status> {
        let caller = Caller::of(&request)?;
        let trace = request::trace_context(&request);
        let (wanted, once) = changes::update(request.into_inner(), &caller)?;
        self.change(&caller, wanted, once, &trace).await
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<UserMessage>, Status> {
        let caller = Caller::of(&request)?;
        let trace = request::trace_context(&request);
        let (wanted, once) = changes::delete(request.into_inner(), &caller)?;
        self.change(&caller, wanted, once, &trace).await
    }

    async fn undelete_user(
        &self,
        request: Request<UndeleteUserRequest>,
    ) -> Result<Response<UserMessage>, Status> {
        let caller = Caller::of(&request)?;
        let trace = request::trace_context(&request);
        let (wanted, once) = changes::undelete(request.into_inner(), &caller)?;
        self.change(&caller, wanted, once, &trace).await
    }
}

fn new_user(mut request: CreateUserRequest) -> Result<(NewUser, Option<OnceRequest>), Status> {
    let mut violations = Violations::default();
    let password = violations.check("password", Password::chosen(std::mem::take(&mut request.password)));
    let request_id = violations.check("request_id", resource::request_id(&request.request_id));
    let fingerprinted = CreateUserRequest { request_id: String::new(), ..request.clone() }.encode_to_vec();
    let Some(user) = request.user else {
        violations.add("user", "must be set");
        return Err(violations.into_problem().into());
    };
    let display_name = violations.check("user.display_name", DisplayName::new(user.display_name));
    let email = violations.check("user.email", Email::new(user.email));
    // An etag says nothing here, but what is written about the field holds.
    let etag = violations.check("user.etag", resource::given_etag(user.etag));
    let (Some(password), Some(request_id), Some(display_name), Some(email), Some(_)) =
        (password, request_id, display_name, email, etag)
    else {
        return Err(violations.into_problem().into());
    };
    // Nobody is signed in yet, so all who sign up share the ids.
    let once = request_id.map(|id| OnceRequest::new("", "CreateUser", id, &fingerprinted));
    Ok((NewUser { display_name, email, password }, once))
}

fn status(error: Error) -> Status {
    match &error.0 {
        Kind::EmailTaken => Problem::new(
            Code::AlreadyExists,
            "EMAIL_TAKEN",
            "A user with this e-mail address exists already.",
        )
        .metadata("field", "user.email"),
        Kind::RequestReused => Problem::new(
            Code::InvalidArgument,
            "REQUEST_ID_REUSED",
            "This request_id was used for another request.",
        )
        .field("request_id", "must be new for each request"),
        Kind::NotFound => Problem::new(Code::NotFound, "USER_NOT_FOUND", "There is no such user."),
        Kind::Deleted => Problem::new(
            Code::FailedPrecondition,
            "USER_DELETED",
            "The user is deleted; only undeleting is possible.",
        ),
        Kind::NotDeleted => Problem::new(Code::AlreadyExists, "USER_NOT_DELETED", "The user is not deleted."),
        Kind::EtagMismatch => Problem::new(
            Code::Aborted,
            "ETAG_MISMATCH",
            "The user changed since; get the user again and decide anew.",
        ),
        Kind::Contended => Problem::new(
            Code::Aborted,
            "CONCURRENT_CHANGES",
            "The user is being changed by others; try again.",
        )
        .retry_after(RETRY_AFTER),
        Kind::WrongCredentials => {
            Problem::new(Code::Unauthenticated, "CREDENTIALS_INVALID", "E-mail address or password is wrong.")
        }
        Kind::RefreshTokenInvalid => Problem::new(
            Code::Unauthenticated,
            "REFRESH_TOKEN_INVALID",
            "The refresh token cannot be used; sign in again.",
        ),
        Kind::WrongPassword => {
            Problem::new(Code::InvalidArgument, "PASSWORD_WRONG", "The current password is wrong.")
                .field("current_password", "must be the password that the caller signs in with")
        }
        Kind::TooManyTries(wait) => Problem::new(
            Code::ResourceExhausted,
            "SIGN_IN_THROTTLED",
            "Too many wrong passwords from this address; wait before the next try.",
        )
        .retry_after(*wait),
        Kind::Overloaded => {
            Problem::new(Code::ResourceExhausted, "OVERLOADED", "Too many sign-ins at once; try again.")
                .retry_after(RETRY_AFTER)
        }
        Kind::Inside(failure) => Problem::inside(failure.as_ref()),
    }
    .into_status()
}
