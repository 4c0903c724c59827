//! The calls of the loads, each over one of some shared connections.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tailrace::auth::v1::LoginRequest;
use tailrace::auth::v1::auth_service_client::AuthServiceClient;
use tailrace::google::r#type::Money;
use tailrace::order::v1::order_service_client::OrderServiceClient;
use tailrace::order::v1::{CreateOrderRequest, GetOrderRequest, Order, OrderLine};
use tailrace::user::v1::user_service_client::UserServiceClient;
use tailrace::user::v1::{CreateUserRequest, GetUserRequest, User};
use tonic::transport::Channel;
use tonic::{Request, Status};
use uuid::Uuid;

use super::servers::{Servers, Service};

const PASSWORD: &str = "correct horse";

/// Connections to a service, and who calls.
#[derive(Clone)]
pub(super) struct Calls {
    channels: Arc<[Channel]>,
    bearer: tonic::metadata::MetadataValue<tonic::metadata::Ascii>,
    /// The names of what is there to be read.
    names: Arc<[String]>,
}

impl Calls {
    pub(super) async fn new(servers: &Servers, service: &Service) -> Result<Self> {
        let channels = service.connect().await?.into();
        Ok(Self { channels, bearer: servers.bearer.clone(), names: [servers.user.clone()].into() })
    }

    /// The same with so many orders to read.
    pub(super) async fn with_orders(mut self, count: u32) -> Result<Self> {
        let mut names = Vec::new();
        for number in 0..count {
            let request = self.request(order());
            let mut orders = OrderServiceClient::new(self.channel(number));
            names.push(orders.create_order(request).await.context("an order was refused")?.into_inner().name);
        }
        self.names = names.into();
        Ok(self)
    }

    pub(super) async fn create_order(self, number: u32) -> Result<(), Status> {
        let request = self.request(order());
        OrderServiceClient::new(self.channel(number)).create_order(request).await.map(drop)
    }

    pub(super) async fn create_user(self, number: u32) -> Result<(), Status> {
        let email = format!("{}@example.org", Uuid::now_v7());
        let user = User { display_name: "Bench".to_owned(), email, ..User::default() };
        let request =
            CreateUserRequest { user: Some(user), password: PASSWORD.to_owned(), request_id: String::new() };
        UserServiceClient::new(self.channel(number)).create_user(request).await.map(drop)
    }

    pub(super) async fn get_order(self, number: u32) -> Result<(), Status> {
        let request = self.request(GetOrderRequest { name: self.name() });
        OrderServiceClient::new(self.channel(number)).get_order(request).await.map(drop)
    }

    pub(super) async fn get_user(self, number: u32) -> Result<(), Status> {
        let request = self.request(GetUserRequest { name: self.name() });
        UserServiceClient::new(self.channel(number)).get_user(request).await.map(drop)
    }

    /// Somebody who guesses: another address each time.
    pub(super) async fn guess(self, number: u32) -> Result<(), Status> {
        let email = format!("somebody-{number}@example.org");
        let request = LoginRequest { email, password: PASSWORD.to_owned() };
        AuthServiceClient::new(self.channel(number)).login(request).await.map(drop)
    }

    fn name(&self) -> String {
        self.names[fastrand::usize(..self.names.len())].clone()
    }

    fn channel(&self, number: u32) -> Channel {
        self.channels[number as usize % self.channels.len()].clone()
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }
}

fn order() -> CreateOrderRequest {
    let unit_price = Some(Money { currency_code: "EUR".to_owned(), units: 14, nanos: 0 });
    let line = OrderLine { product: "Guide vane".to_owned(), quantity: 2, unit_price };
    let order = Order { lines: vec![line], ..Order::default() };
    CreateOrderRequest { order: Some(order), request_id: String::new() }
}
