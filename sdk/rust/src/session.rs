//! Who calls, and with which token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::auth::v1::auth_service_client::AuthServiceClient;
use crate::auth::v1::{LoginRequest, LogoutRequest, RefreshTokenRequest};
use crate::failure::failure_of;
use crate::retry::{RetryOptions, retrying};

/// A token is renewed when this share of its life is over.
const FRESH_SHARE: f64 = 0.8;

/// The account to sign in with.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    /// Its e-mail address.
    pub email: String,
    /// Its password.
    pub password: String,
}

impl Password {
    /// An account.
    pub fn new(email: impl Into<String>, password: impl Into<String>) -> Self {
        Self { email: email.into(), password: password.into() }
    }
}

/// Shows whose it is and not the secret.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").field("email", &self.email).finish_non_exhaustive()
    }
}

/// Who calls.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// Nobody: no token is sent.
    Nobody,
    /// An account, whose token is kept fresh.
    Password(Password),
    /// Whoever the access token is of that this gives; it is asked before every call.
    Token(Arc<dyn Fn() -> Option<String> + Send + Sync>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("Nobody"),
            Self::Password(account) => account.fmt(f),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}

impl From<Password> for Credentials {
    fn from(account: Password) -> Self {
        Self::Password(account)
    }
}

/// An access token that somebody else keeps.
impl From<String> for Credentials {
    fn from(token: String) -> Self {
        Self::Token(Arc::new(move || Some(token.clone())))
    }
}

/// Where the token of a call comes from.
#[derive(Clone)]
pub(crate) enum Tokens {
    Given(Arc<dyn Fn() -> Option<String> + Send + Sync>),
    Kept(Arc<Session>),
    None,
}

impl Tokens {
    pub(crate) async fn token(&self) -> Result<Option<String>, Status> {
        match self {
            Self::None => Ok(None),
            Self::Given(token) => Ok(token()),
            Self::Kept(session) => session.token().await.map(Some),
        }
    }

    /// Whether a call that was refused with this status, for this token, can be sent with another.
    pub(crate) async fn refused(&self, token: &str, status: &Status) -> bool {
        let Self::Kept(session) = self else { return false };
        let is_token =
            status.code() == Code::Unauthenticated && failure_of(status).reason.starts_with("TOKEN_");
        if is_token {
            session.refused(token).await;
        }
        is_token
    }
}

struct Grant {
    access_token: String,
    /// Empty when it may be spent.
    refresh_token: String,
    fresh_until: Instant,
    valid_until: Instant,
}

/// A sign-in that lasts: it signs in when a token is first needed, renews the token before it ends, once for all calls that
/// wait for it, and signs in anew when the refresh token is no longer taken.
pub(crate) struct Session {
    auth: AuthServiceClient<Channel>,
    account: Password,
    retry: RetryOptions,
    /// Held while a token is fetched: all others wait for the same.
    grant: Mutex<Option<Grant>>,
}

impl Session {
    pub(crate) fn new(users: Channel, account: Password, retry: RetryOptions) -> Self {
        Self { auth: AuthServiceClient::new(users), account, retry, grant: Mutex::new(None) }
    }

    /// A token that is valid for a while.
    pub(crate) async fn token(&self) -> Result<String, Status> {
        let mut grant = self.grant.lock().await;
        if let Some(grant) = grant.as_ref().filter(|grant| Instant::now() < grant.fresh_until) {
            return Ok(grant.access_token.clone());
        }
        self.renew_in(&mut grant).await
    }

    /// Gets another token now.
    pub(crate) async fn renew(&self) -> Result<(), Status> {
        let mut grant = self.grant.lock().await;
        self.renew_in(&mut grant).await.map(drop)
    }

    /// Takes note that the server refused a token, so that the next call gets another.
    async fn refused(&self, token: &str) {
        let mut grant = self.grant.lock().await;
        if let Some(grant) = grant.as_mut().filter(|grant| grant.access_token == token) {
            let now = Instant::now();
            (grant.fresh_until, grant.valid_until) = (now, now);
        }
    }

    /// Ends the sign-in at the server; the next call would begin another.
    pub(crate) async fn sign_out(&self) -> Result<(), Status> {
        let ended = self.grant.lock().await.take();
        if let Some(Grant { refresh_token, .. }) = ended.filter(|grant| !grant.refresh_token.is_empty()) {
            self.auth.clone().logout(LogoutRequest { refresh_token }).await?;
        }
        Ok(())
    }

    async fn renew_in(&self, grant: &mut Option<Grant>) -> Result<String, Status> {
        // A refresh token works once: when the answer is lost it may be spent, and to show it again would end the sign-in.
        // So it is forgotten before it is used, and any failure gives way to a new sign-in.
        let refresh_token = grant.as_mut().map(|grant| std::mem::take(&mut grant.refresh_token));
        let refreshed = match refresh_token.filter(|token| !token.is_empty()) {
            Some(refresh_token) => self.refresh(refresh_token).await.ok(),
            None => None,
        };
        let next = match refreshed {
            Some(next) => Ok(next),
            None => self.login().await,
        };
        match (next, grant.as_ref()) {
            (Err(_), Some(last)) if Instant::now() < last.valid_until => Ok(last.access_token.clone()),
            (Err(status), _) => Err(status),
            (Ok(next), _) => Ok(grant.insert(next).access_token.clone()),
        }
    }

    async fn refresh(&self, refresh_token: String) -> Result<Grant, Status> {
        let answer =
            self.auth.clone().refresh_token(RefreshTokenRequest { refresh_token }).await?.into_inner();
        Ok(granted(answer.access_token, answer.refresh_token, answer.expires_in))
    }

    async fn login(&self) -> Result<Grant, Status> {
        let Password { email, password } = self.account.clone();
        let request = LoginRequest { email, password };
        // An answer that was lost leaves a sign-in that nobody uses, which does no harm.
        let login = || {
            let (mut auth, request) = (self.auth.clone(), request.clone());
            async move { auth.login(request).await }
        };
        let answer = retrying(self.retry, None, login).await?.into_inner();
        Ok(granted(answer.access_token, answer.refresh_token, answer.expires_in))
    }
}

fn granted(access_token: String, refresh_token: String, expires_in: Option<prost_types::Duration>) -> Grant {
    let life = expires_in.and_then(|life| Duration::try_from(life).ok()).unwrap_or_default();
    let now = Instant::now();
    Grant {
        access_token,
        refresh_token,
        fresh_until: now + life.mul_f64(FRESH_SHARE),
        valid_until: now + life,
    }
}
