//! A server in this process: sign-ins a1 and r1, a2 and r2, …; everything else as the test says.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tailrace::auth::v1 as auth;
use tailrace::order::v1 as order;
use tailrace::relay::v1 as relay;
use tailrace::stream::v1 as stream;
use tailrace_client::{Channels, Credentials, RetryOptions, Tailrace, connect_through};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

type Answer<T> = Result<Response<T>, Status>;
type Step = Result<stream::WatchResponse, Status>;

/// What the server was asked, and what it answers.
#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// The calls of the sign-in service, and the filters and page tokens of lists.
    pub(crate) asked: Vec<String>,
    /// The tokens of the calls to orders and relay.
    pub(crate) tokens: Vec<Option<String>>,
    pub(crate) request_ids: Vec<String>,
    pub(crate) cursors: Vec<String>,
    /// What the next calls to orders and relay fail with.
    pub(crate) failures: Vec<Status>,
    pub(crate) refresh_fails: bool,
    pub(crate) life_ms: u32,
    /// The steps of the next calls of `Watch`; after them, a call hangs if it is said so.
    pub(crate) calls: Vec<(Vec<Step>, bool)>,
    issued: u32,
    /// Calls of `Watch` that hang.
    open: Vec<mpsc::Sender<Step>>,
}

/// A running server, and who calls it.
pub(crate) struct Running {
    pub(crate) tailrace: Tailrace,
    pub(crate) server: Fake,
    _tasks: JoinSet<()>,
}

impl Fake {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().expect("no test panics with it"))
    }

    pub(crate) fn failing(failures: impl IntoIterator<Item = Status>) -> Self {
        let fake = Self::default();
        fake.with(|state| state.failures = failures.into_iter().collect());
        fake
    }

    pub(crate) async fn run(self, credentials: impl Into<Credentials>, retry: RetryOptions) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let server = Server::builder()
            .add_service(auth::auth_service_server::AuthServiceServer::new(self.clone()))
            .add_service(order::order_service_server::OrderServiceServer::new(self.clone()))
            .add_service(relay::relay_service_server::RelayServiceServer::new(self.clone()))
            .add_service(stream::event_stream_service_server::EventStreamServiceServer::new(self.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("it serves");
        });
        let channel = Endpoint::from_shared(format!("http://{address}")).expect("a URL").connect_lazy();
        let [users, orders, relay, gateway] = [(); 4].map(|()| channel.clone());
        let channels = Channels { users, orders, relay, gateway };
        Running { tailrace: connect_through(channels, credentials, retry), server: self, _tasks: tasks }
    }

    fn grant(&self, asked: String) -> (String, String, Option<pbjson_types::Duration>) {
        self.with(|state| {
            state.asked.push(asked);
            state.issued += 1;
            let life = Duration::from_millis(if state.life_ms == 0 { 900_000 } else { state.life_ms.into() });
            let life = pbjson_types::Duration {
                seconds: i64::try_from(life.as_secs()).expect("a short life"),
                nanos: i32::try_from(life.subsec_nanos()).expect("less than a second"),
            };
            (format!("a{}", state.issued), format!("r{}", state.issued), Some(life))
        })
    }

    fn answer<T: Default, Q>(&self, request: &Request<Q>, request_id: &str) -> Answer<T> {
        let token =
            request.metadata().get("authorization").map(|token| token.to_str().expect("ASCII").to_owned());
        self.with(|state| {
            state.tokens.push(token);
            state.request_ids.push(request_id.to_owned());
            if state.failures.is_empty() {
                Ok(Response::new(Default::default()))
            } else {
                Err(state.failures.remove(0))
            }
        })
    }
}

/// `UNAVAILABLE`, with the wait that the server asks for.
pub(crate) fn away(retry_after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details(tonic::Code::Unavailable, "away", details)
}

#[tonic::async_trait]
impl auth::auth_service_server::AuthService for Fake {
    async fn login(&self, _: Request<auth::LoginRequest>) -> Answer<auth::LoginResponse> {
        let (access_token, refresh_token, expires_in) = self.grant("login".to_owned());
        Ok(Response::new(auth::LoginResponse {
            access_token,
            refresh_token,
            expires_in,
            ..Default::default()
        }))
    }

    async fn refresh_token(
        &self,
        request: Request<auth::RefreshTokenRequest>,
    ) -> Answer<auth::RefreshTokenResponse> {
        let asked = format!("refresh {}", request.get_ref().refresh_token);
        if self.with(|state| state.refresh_fails) {
            self.with(|state| state.asked.push(asked));
            return Err(Status::unauthenticated("spent"));
        }
        let (access_token, refresh_token, expires_in) = self.grant(asked);
        let answer =
            auth::RefreshTokenResponse { access_token, refresh_token, expires_in, ..Default::default() };
        Ok(Response::new(answer))
    }

    async fn logout(&self, request: Request<auth::LogoutRequest>) -> Answer<auth::LogoutResponse> {
        self.with(|state| state.asked.push(format!("logout {}", request.get_ref().refresh_token)));
        Ok(Response::new(Default::default()))
    }

    async fn change_password(
        &self,
        _: Request<auth::ChangePasswordRequest>,
    ) -> Answer<auth::ChangePasswordResponse> {
        Err(Status::unimplemented(""))
    }

    async fn list_signing_keys(
        &self,
        _: Request<auth::ListSigningKeysRequest>,
    ) -> Answer<auth::ListSigningKeysResponse> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl order::order_service_server::OrderService for Fake {
    async fn create_order(&self, request: Request<order::CreateOrderRequest>) -> Answer<order::Order> {
        self.answer(&request, &request.get_ref().request_id)
    }

    async fn get_order(&self, request: Request<order::GetOrderRequest>) -> Answer<order::Order> {
        self.answer(&request, "")
    }

    async fn list_orders(
        &self,
        request: Request<order::ListOrdersRequest>,
    ) -> Answer<order::ListOrdersResponse> {
        let order::ListOrdersRequest { filter, page_token, .. } = request.into_inner();
        self.with(|state| state.asked.push(format!("{filter} {page_token}")));
        let next_page_token = if page_token.is_empty() { "second".to_owned() } else { String::new() };
        Ok(Response::new(order::ListOrdersResponse { next_page_token, ..Default::default() }))
    }

    async fn cancel_order(&self, request: Request<order::CancelOrderRequest>) -> Answer<order::Order> {
        self.answer(&request, &request.get_ref().request_id)
    }
}

#[tonic::async_trait]
impl relay::relay_service_server::RelayService for Fake {
    async fn list_sources(
        &self,
        r: Request<relay::ListSourcesRequest>,
    ) -> Answer<relay::ListSourcesResponse> {
        self.answer(&r, "")
    }

    async fn get_source(&self, r: Request<relay::GetSourceRequest>) -> Answer<relay::Source> {
        self.answer(&r, "")
    }

    async fn list_dead_letters(
        &self,
        r: Request<relay::ListDeadLettersRequest>,
    ) -> Answer<relay::ListDeadLettersResponse> {
        self.answer(&r, "")
    }

    async fn redrive_dead_letter(
        &self,
        r: Request<relay::RedriveDeadLetterRequest>,
    ) -> Answer<relay::RedriveDeadLetterResponse> {
        self.answer(&r, "")
    }

    async fn discard_dead_letter(
        &self,
        r: Request<relay::DiscardDeadLetterRequest>,
    ) -> Answer<relay::DiscardDeadLetterResponse> {
        self.answer(&r, "")
    }
}

#[tonic::async_trait]
impl stream::event_stream_service_server::EventStreamService for Fake {
    type WatchStream = Pin<Box<dyn tokio_stream::Stream<Item = Step> + Send>>;

    async fn watch(&self, request: Request<stream::WatchRequest>) -> Answer<Self::WatchStream> {
        let cursor = match request.into_inner().start {
            Some(stream::watch_request::Start::Cursor(cursor)) => cursor,
            _ => String::new(),
        };
        let (steps, hangs) = self.with(|state| {
            state.cursors.push(cursor);
            state.calls.remove(0)
        });
        let (sender, receiver) = mpsc::channel(steps.len().max(1));
        for step in steps {
            sender.try_send(step).expect("the channel is large enough");
        }
        if hangs {
            self.with(|state| state.open.push(sender));
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
