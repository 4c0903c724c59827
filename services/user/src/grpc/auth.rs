//! AuthService on the wire.

use tailrace::auth::v1::{
    ChangePasswordRequest, ChangePasswordResponse, ListSigningKeysRequest, ListSigningKeysResponse,
    LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, RefreshTokenRequest, RefreshTokenResponse,
    auth_service_server::AuthService,
};
use tailrace_runtime::{
    access::Caller,
    client::ClientAddress,
    error::{Problem, Violations},
    resource,
};
use tonic::{Request, Response, Status};

use super::status;
use crate::{
    error::Kind,
    refresh::RefreshToken,
    sign_in::SignIns,
    user::{COLLECTION, Email, Password},
};

/// AuthService.
pub(crate) struct AuthApi {
    sign_ins: SignIns,
}

impl AuthApi {
    pub(crate) fn new(sign_ins: SignIns) -> Self {
        Self { sign_ins }
    }
}

#[tonic::async_trait]
impl AuthService for AuthApi {
    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        let from = ClientAddress::of(&request);
        let (email, password) = credentials(request.into_inner())?;
        let signed_in = self.sign_ins.begin(&email, password, from).await.map_err(status)?;
        Ok(Response::new(LoginResponse {
            access_token: signed_in.access.text,
            expires_in: Some(signed_in.access.ttl.into()),
            user: resource::name(COLLECTION, signed_in.id),
            operator: signed_in.operator,
            refresh_token: signed_in.refresh.into_text(),
            refresh_expires_in: Some(signed_in.refresh_ttl.into()),
        }))
    }

    async fn refresh_token(
        &self,
        request: Request<RefreshTokenRequest>,
    ) -> Result<Response<RefreshTokenResponse>, Status> {
        let token = brought(request.into_inner().refresh_token)?;
        let signed_in = self.sign_ins.go_on(&token).await.map_err(status)?;
        Ok(Response::new(RefreshTokenResponse {
            access_token: signed_in.access.text,
            expires_in: Some(signed_in.access.ttl.into()),
            refresh_token: signed_in.refresh.into_text(),
            refresh_expires_in: Some(signed_in.refresh_ttl.into()),
            user: resource::name(COLLECTION, signed_in.id),
            operator: signed_in.operator,
        }))
    }

    async fn logout(&self, request: Request<LogoutRequest>) -> Result<Response<LogoutResponse>, Status> {
        let token = brought(request.into_inner().refresh_token)?;
        self.sign_ins.end(&token).await.map_err(status)?;
        Ok(Response::new(LogoutResponse {}))
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let (caller, from) = (Caller::of(&request)?, ClientAddress::of(&request));
        let (current, new) = passwords(request.into_inner())?;
        // A subject that is no user of ours has no password either.
        let user =
            resource::id(COLLECTION, caller.user()).ok_or_else(|| status(Kind::WrongPassword.into()))?;
        self.sign_ins.change_password(user, current, new, from).await.map_err(status)?;
        Ok(Response::new(ChangePasswordResponse {}))
    }

    async fn list_signing_keys(
        &self,
        _: Request<ListSigningKeysRequest>,
    ) -> Result<Response<ListSigningKeysResponse>, Status> {
        let signing_keys = self.sign_ins.issuer().signing_keys();
        Ok(Response::new(ListSigningKeysResponse { signing_keys }))
    }
}

fn brought(token: String) -> Result<RefreshToken, Problem> {
    RefreshToken::brought(token).map_err(|rule| Violations::of("refresh_token", rule))
}

fn credentials(request: LoginRequest) -> Result<(Email, Password), Problem> {
    let mut violations = Violations::default();
    let email = violations.check("email", Email::new(request.email));
    let password = violations.check("password", Password::offered(request.password));
    email.zip(password).ok_or_else(|| violations.into_problem())
}

fn passwords(request: ChangePasswordRequest) -> Result<(Password, Password), Problem> {
    let mut violations = Violations::default();
    let current = violations.check("current_password", Password::offered(request.current_password));
    let new = violations.check("new_password", Password::chosen(request.new_password));
    current.zip(new).ok_or_else(|| violations.into_problem())
}
