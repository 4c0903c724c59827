//! Somebody who calls the services, with or without a token, over gRPC.

use tailrace::auth::v1::LoginRequest;
use tailrace::auth::v1::auth_service_client::AuthServiceClient;
use tailrace::google::r#type::Money;
use tailrace::order::v1::order_service_client::OrderServiceClient;
use tailrace::order::v1::{CreateOrderRequest, Order, OrderLine};
use tailrace::relay::v1::relay_service_client::RelayServiceClient;
use tailrace::stream::v1::event_stream_service_client::EventStreamServiceClient;
use tailrace::stream::v1::watch_request::Start;
use tailrace::stream::v1::watch_response::Message;
use tailrace::stream::v1::{WatchRequest, WatchResponse};
use tailrace::user::v1::user_service_client::UserServiceClient;
use tailrace::user::v1::{CreateUserRequest, User};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use uuid::Uuid;
use xtask::stack::Urls;

use super::DEADLINE;
use tailrace::event::v1::Event;

/// The password of every account that a test makes.
const PASSWORD: &str = "a password of the tests";

/// Its connections are made when they are needed, and again when they broke.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) users: UserServiceClient<Channel>,
    pub(crate) auth: AuthServiceClient<Channel>,
    pub(crate) orders: OrderServiceClient<Channel>,
    pub(crate) relay: RelayServiceClient<Channel>,
    pub(crate) gateway: EventStreamServiceClient<Channel>,
    /// The resource name; empty without an account.
    pub(crate) user: String,
    token: Option<String>,
}

impl Caller {
    pub(crate) fn new(urls: &Urls) -> Self {
        let channel = |url: &str| Endpoint::from_shared(url.to_owned()).expect("a URL").connect_lazy();
        let users = channel(&urls.user);
        Self {
            users: UserServiceClient::new(users.clone()),
            auth: AuthServiceClient::new(users),
            orders: OrderServiceClient::new(channel(&urls.order)),
            relay: RelayServiceClient::new(channel(&urls.relay)),
            gateway: EventStreamServiceClient::new(channel(&urls.gateway)),
            user: String::new(),
            token: None,
        }
    }

    pub(crate) async fn signed_in(mut self, email: &str, password: &str) -> Self {
        let request = LoginRequest { email: email.to_owned(), password: password.to_owned() };
        let login = self.auth.login(request).await.expect("the account may sign in").into_inner();
        self.user = login.user;
        self.token = Some(login.access_token);
        self
    }

    pub(crate) async fn with_new_account(self, name: &str) -> Self {
        let new = new_user(name);
        let email = new.user.as_ref().map(|user| user.email.clone()).unwrap_or_default();
        self.create_user(self.request(new)).await.expect("a user");
        self.signed_in(&email, PASSWORD).await
    }

    /// With another token than that of the account.
    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().expect("a token")
    }

    /// A request of this caller.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let bearer = format!("Bearer {token}").parse().expect("ASCII");
            request.metadata_mut().insert("authorization", bearer);
        }
        request
    }

    pub(crate) async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<User, Status> {
        let answer = timeout(DEADLINE, self.users.clone().create_user(request)).await;
        Ok(answer.expect("CreateUser answers")?.into_inner())
    }

    pub(crate) async fn create_order(&self, request: Request<CreateOrderRequest>) -> Result<Order, Status> {
        let answer = timeout(DEADLINE, self.orders.clone().create_order(request)).await;
        Ok(answer.expect("CreateOrder answers")?.into_inner())
    }

    /// Places an order of which nothing matters but that it is one.
    pub(crate) async fn place_order(&self) -> Order {
        self.create_order(self.request(new_order("Grease, 1 kg", 1))).await.expect("an order")
    }

    pub(crate) async fn watch(
        &self,
        topics: &[&str],
        start: Start,
    ) -> Result<Streaming<WatchResponse>, Status> {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let request = self.request(WatchRequest { topics, start: Some(start) });
        let answer = timeout(DEADLINE, self.gateway.clone().watch(request)).await;
        Ok(answer.expect("Watch answers")?.into_inner())
    }

    /// The events from `start` to the end of the topics as they are now.
    pub(crate) async fn watch_to_the_end(&self, topics: &[&str], start: Start) -> Vec<Event> {
        let mut stream = self.watch(topics, start).await.expect("a stream");
        let mut events = Vec::new();
        loop {
            let response = timeout(DEADLINE, stream.message()).await.expect("a response in time");
            match response.expect("the stream goes on").expect("a status ends it").message {
                Some(Message::Event(event)) => events.push(event),
                Some(Message::CaughtUp(_)) => return events,
                Some(Message::Heartbeat(_)) => {}
                other @ (Some(Message::Gap(_)) | None) => panic!("not expected: {other:?}"),
            }
        }
    }
}

/// A user whom nobody has made yet. The request can be sent again.
pub(crate) fn new_user(name: &str) -> CreateUserRequest {
    let email = format!("{}@tests.tailrace.localhost", Uuid::new_v4().simple());
    CreateUserRequest {
        user: Some(User { display_name: name.to_owned(), email, ..User::default() }),
        password: PASSWORD.to_owned(),
        request_id: Uuid::new_v4().to_string(),
    }
}

/// An order of one product. The request can be sent again.
pub(crate) fn new_order(product: &str, quantity: i32) -> CreateOrderRequest {
    let unit_price = Some(Money { currency_code: "EUR".to_owned(), units: 9, nanos: 500_000_000 });
    let lines = vec![OrderLine { product: product.to_owned(), quantity, unit_price }];
    CreateOrderRequest {
        order: Some(Order { lines, ..Order::default() }),
        request_id: Uuid::new_v4().to_string(),
    }
}

/// The id in a resource name, which is the key of its events.
pub(crate) fn id_in(name: &str) -> &str {
    name.split_once('/').expect("a resource name").1
}
