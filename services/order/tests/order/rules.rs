//! The service agrees with every rule of the contract.

use service_testing::{Sample, assert_rules};
use tailrace::order::v1::{
    CancelOrderRequest, GetOrderRequest, ListOrdersRequest, order_service_server::SERVICE_NAME,
};

use crate::support::{ADA, Database, Service, lamp, token};

pub(crate) const CREATE: &str = "tailrace.order.v1.OrderService/CreateOrder";
pub(crate) const GET: &str = "tailrace.order.v1.OrderService/GetOrder";
pub(crate) const LIST: &str = "tailrace.order.v1.OrderService/ListOrders";
pub(crate) const CANCEL: &str = "tailrace.order.v1.OrderService/CancelOrder";

#[tokio::test]
async fn the_service_agrees_with_every_rule_of_the_contract() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let name = service.create(ADA, lamp()).await.expect("an order").name;
    let token = token(ADA, &[]);
    let cancel = CancelOrderRequest { name: name.clone(), ..CancelOrderRequest::default() };
    let samples = [
        Sample::new(CREATE, &token, &lamp()),
        Sample::new(GET, &token, &GetOrderRequest { name }),
        Sample::new(LIST, &token, &ListOrdersRequest::default()),
        Sample::new(CANCEL, &token, &cancel),
    ];
    let sent = assert_rules(&service.channel(), SERVICE_NAME, &samples).await;
    assert!(sent > 100, "the rules were found: {sent}");
    service.stop().await;
}
