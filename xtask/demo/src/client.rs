//! The services as this program needs them. A request that may have been done already counts as done.

use std::time::Duration;

use anyhow::{Context, Result};
use tailrace::auth::v1::auth_service_client::AuthServiceClient;
use tailrace::auth::v1::{LoginRequest, LoginResponse};
use tailrace::order::v1::order_service_client::OrderServiceClient;
use tailrace::order::v1::{CreateOrderRequest, Order, OrderLine};
use tailrace::user::v1::user_service_client::UserServiceClient;
use tailrace::user::v1::{CreateUserRequest, User};
use tokio::time::sleep;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use uuid::Uuid;

/// How often an order is tried while the service says that it may come later, and the pause between.
const ATTEMPTS_MAX: usize = 10;
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Who signs in.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) email: String,
    pub(crate) display_name: String,
    pub(crate) password: String,
}

/// Connections that are made when they are needed, and again when they broke.
pub(crate) struct Client {
    users: UserServiceClient<Channel>,
    auth: AuthServiceClient<Channel>,
    orders: OrderServiceClient<Channel>,
    token: Option<String>,
}

impl Client {
    pub(crate) fn connect(user_service: &str, order_service: &str) -> Result<Self> {
        let channel = |url: &str| {
            let endpoint =
                Endpoint::from_shared(url.to_owned()).with_context(|| format!("{url} is not a URL"))?;
            anyhow::Ok(endpoint.connect_lazy())
        };
        let users = channel(user_service)?;
        Ok(Self {
            users: UserServiceClient::new(users.clone()),
            auth: AuthServiceClient::new(users),
            orders: OrderServiceClient::new(channel(order_service)?),
            token: None,
        })
    }

    /// Signs in, or tells that no such account can.
    pub(crate) async fn login(&mut self, account: &Account) -> Result<Option<LoginResponse>> {
        let request = LoginRequest { email: account.email.clone(), password: account.password.clone() };
        match self.auth.login(request).await {
            Ok(response) => Ok(Some(response.into_inner())),
            Err(status) if status.code() == Code::Unauthenticated => Ok(None),
            Err(status) => Err(status).context("cannot sign in"),
        }
    }

    /// The token of an account that exists, from the last time if it was asked before.
    pub(crate) async fn token_of(&mut self, account: &Account) -> Result<String> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let grant = self.login(account).await?.context("the demo account does not exist: seed first")?;
        self.token = Some(grant.access_token.clone());
        Ok(grant.access_token)
    }

    pub(crate) async fn create_user(&mut self, account: &Account) -> Result<()> {
        let user = User {
            email: account.email.clone(),
            display_name: account.display_name.clone(),
            ..User::default()
        };
        let request = CreateUserRequest {
            user: Some(user),
            password: account.password.clone(),
            request_id: Uuid::new_v4().to_string(),
        };
        match self.users.create_user(request).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => Err(status).context("cannot create a user"),
        }
    }

    pub(crate) async fn create_order(&mut self, token: &str, lines: Vec<OrderLine>) -> Result<()> {
        let order = Order { lines, ..Order::default() };
        let message = CreateOrderRequest { order: Some(order), request_id: Uuid::new_v4().to_string() };
        let bearer: MetadataValue<_> =
            format!("Bearer {token}").parse().context("the token is no header value")?;
        let mut attempts = 0;
        loop {
            let mut request = Request::new(message.clone());
            request.metadata_mut().insert("authorization", bearer.clone());
            attempts += 1;
            match self.orders.create_order(request).await {
                Ok(_) => return Ok(()),
                // Who is new may not be known to the order service yet.
                Err(status) if status.code() == Code::Unavailable && attempts < ATTEMPTS_MAX => {
                    sleep(RETRY_DELAY).await;
                }
                Err(status) => {
                    // It may have run out: the next order signs in again.
                    self.token = None;
                    return Err(status).context("cannot place an order");
                }
            }
        }
    }
}
