//! Connects to every service.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Error};

use crate::auth::v1::auth_service_client::AuthServiceClient;
use crate::calls::Calls;
use crate::order::v1::order_service_client::OrderServiceClient;
use crate::pages::{self, List};
use crate::relay::v1::relay_service_client::RelayServiceClient;
use crate::retry::RetryOptions;
use crate::session::{Credentials, Session, Tokens};
use crate::stream::v1::WatchRequest;
use crate::stream::v1::event_stream_service_client::EventStreamServiceClient;
use crate::user::v1::user_service_client::UserServiceClient;
use crate::watch::{Watch, WatchOptions};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where each process is reached, for example `http://127.0.0.1:5001`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// The user service.
    pub users: String,
    /// The order service.
    pub orders: String,
    /// The relay.
    pub relay: String,
    /// The gateway.
    pub gateway: String,
}

/// Channels of one's own: with TLS, a proxy, other time-outs.
#[derive(Debug, Clone)]
pub struct Channels {
    /// To the user service.
    pub users: Channel,
    /// To the order service.
    pub orders: Channel,
    /// To the relay.
    pub relay: Channel,
    /// To the gateway.
    pub gateway: Channel,
}

/// A typed client for every service. Clones share connections and sign-in.
#[derive(Clone)]
pub struct Tailrace {
    channels: Channels,
    tokens: Tokens,
    retry: RetryOptions,
}

impl std::fmt::Debug for Tailrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tailrace").field("channels", &self.channels).finish_non_exhaustive()
    }
}

/// Makes the clients. Nothing is sent before the first call; an account signs in with it. It must be called in a tokio runtime.
///
/// # Errors
///
/// When an endpoint is no URL. For `https`, make the channels and call [`connect_through`].
pub fn connect(endpoints: &Endpoints, credentials: impl Into<Credentials>) -> Result<Tailrace, Error> {
    let channel = |url: &String| -> Result<Channel, Error> {
        Ok(Endpoint::from_shared(url.clone())?.connect_timeout(CONNECT_TIMEOUT).connect_lazy())
    };
    let channels = Channels {
        users: channel(&endpoints.users)?,
        orders: channel(&endpoints.orders)?,
        relay: channel(&endpoints.relay)?,
        gateway: channel(&endpoints.gateway)?,
    };
    Ok(connect_through(channels, credentials, RetryOptions::default()))
}

/// Makes the clients over channels of one's own.
pub fn connect_through(
    channels: Channels,
    credentials: impl Into<Credentials>,
    retry: RetryOptions,
) -> Tailrace {
    let tokens = match credentials.into() {
        Credentials::Nobody => Tokens::None,
        Credentials::Token(token) => Tokens::Given(token),
        Credentials::Password(account) => {
            Tokens::Kept(Arc::new(Session::new(channels.users.clone(), account, retry)))
        }
    };
    Tailrace { channels, tokens, retry }
}

impl Tailrace {
    /// Signs in, refreshes, signs out, by hand.
    pub fn auth(&self) -> AuthServiceClient<Calls> {
        AuthServiceClient::new(self.calls(&self.channels.users))
    }

    /// Keeps users.
    pub fn users(&self) -> UserServiceClient<Calls> {
        UserServiceClient::new(self.calls(&self.channels.users))
    }

    /// Keeps orders.
    pub fn orders(&self) -> OrderServiceClient<Calls> {
        OrderServiceClient::new(self.calls(&self.channels.orders))
    }

    /// Shows what the relay does.
    pub fn relay(&self) -> RelayServiceClient<Calls> {
        RelayServiceClient::new(self.calls(&self.channels.relay))
    }

    /// Streams the topics, one call at a time; [`watch`](Self::watch) goes on after it.
    pub fn events(&self) -> EventStreamServiceClient<Calls> {
        EventStreamServiceClient::new(self.calls(&self.channels.gateway))
    }

    /// Every page of a list, each asked for when the one before has been read.
    pub fn pages<Q: List>(&self, request: Q) -> impl Stream<Item = Result<Q::Page, Status>> + Send {
        pages::pages(self, request)
    }

    /// Watches topics; see [`Watch`].
    pub fn watch(&self, request: WatchRequest, options: WatchOptions) -> Watch {
        Watch::new(self.events(), request, options, matches!(self.tokens, Tokens::Kept(_)))
    }

    /// Gets an account's next token now: one with the rights of now; does nothing with a token.
    ///
    /// # Errors
    ///
    /// When it cannot sign in.
    pub async fn renew(&self) -> Result<(), Status> {
        match &self.tokens {
            Tokens::Kept(session) => session.renew().await,
            Tokens::Given(_) | Tokens::None => Ok(()),
        }
    }

    /// Ends the sign-in of an account; does nothing with a token.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub async fn sign_out(&self) -> Result<(), Status> {
        match &self.tokens {
            Tokens::Kept(session) => session.sign_out().await,
            Tokens::Given(_) | Tokens::None => Ok(()),
        }
    }

    fn calls(&self, channel: &Channel) -> Calls {
        Calls::new(channel.clone(), self.tokens.clone(), self.retry)
    }
}
