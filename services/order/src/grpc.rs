//! The wire of this service: proto to domain, call, domain to proto. Statuses are made here and nowhere else.

use prost::Message as _;
use tailrace::order::v1::{
    CreateOrderRequest, GetOrderRequest, ListOrdersRequest, ListOrdersResponse, Order as OrderMessage,
    OrderLine, order::State, order_service_server::OrderService,
};
use tailrace_outbox::Request as OnceRequest;
use tailrace_runtime::{
    auth::{Principal, Verifier},
    clock,
    error::{Problem, Violations},
    page::Page,
    request, resource,
};
use tonic::{Code, Request, Response, Status};

use crate::{
    commands::Orders,
    error::{Error, Kind},
    money::Money,
    order::{Basket, COLLECTION, LINES_MAX, Line, Order, Product, Quantity},
};

const NAME_RULE: &str = "must be a resource name, orders/{uuid}";

/// OrderService.
pub(crate) struct OrderApi {
    orders: Orders,
    verifier: Verifier,
}

impl OrderApi {
    pub(crate) fn new(orders: Orders, verifier: Verifier) -> Self {
        Self { orders, verifier }
    }
}

#[tonic::async_trait]
impl OrderService for OrderApi {
    async fn create_order(
        &self,
        request: Request<CreateOrderRequest>,
    ) -> Result<Response<OrderMessage>, Status> {
        let principal = self.verifier.authenticate(request.metadata()).await?;
        let trace = request::trace_context(&request);
        let (basket, once) = new_order(request.into_inner(), &principal)?;
        let order = self.orders.create(principal.user, basket, once, &trace).await.map_err(status)?;
        Ok(Response::new(message(&order)))
    }

    async fn get_order(&self, request: Request<GetOrderRequest>) -> Result<Response<OrderMessage>, Status> {
        let principal = self.verifier.authenticate(request.metadata()).await?;
        let name = request.into_inner().name;
        let id = resource::id(COLLECTION, &name).ok_or_else(|| Violations::of("name", NAME_RULE))?;
        let order = self.orders.get(id, visible_to(&principal)).await.map_err(status)?;
        Ok(Response::new(message(&order)))
    }

    async fn list_orders(
        &self,
        request: Request<ListOrdersRequest>,
    ) -> Result<Response<ListOrdersResponse>, Status> {
        let principal = self.verifier.authenticate(request.metadata()).await?;
        let request = request.into_inner();
        let buyer = visible_to(&principal);
        let scope = format!("{COLLECTION} of {}", buyer.unwrap_or("all"));
        let page = Page::parse(request.page_size, &request.page_token, scope)?;
        let (orders, next_page_token) = self.orders.list(&page, buyer).await.map_err(status)?;
        Ok(Response::new(ListOrdersResponse {
            orders: orders.iter().map(message).collect(),
            next_page_token,
        }))
    }
}

/// The buyer whose orders he sees; none: everyone's.
fn visible_to(principal: &Principal) -> Option<&str> {
    (!principal.operator).then_some(&principal.user)
}

fn new_order(
    request: CreateOrderRequest,
    principal: &Principal,
) -> Result<(Basket, Option<OnceRequest>), Problem> {
    let mut violations = Violations::default();
    let request_id = violations.check("request_id", resource::request_id(&request.request_id));
    let fingerprinted = CreateOrderRequest { request_id: String::new(), ..request.clone() }.encode_to_vec();
    let Some(order) = request.order else {
        violations.add("order", "must be set");
        return Err(violations.into_problem());
    };
    // Counted before they are looked at: the violations of a million lines are no answer.
    let lines = if order.lines.len() > LINES_MAX {
        violations.add("order.lines", "must have 1 to 100 lines");
        None
    } else {
        let lines = order.lines.into_iter().enumerate();
        let lines: Vec<_> = lines
            .map(|(index, line)| new_line(line, &format!("order.lines[{index}]"), &mut violations))
            .collect();
        // Only now: stopping at the first bad line would hide the violations of the others.
        lines.into_iter().collect()
    };
    let (Some(request_id), Some(lines)) = (request_id, lines) else { return Err(violations.into_problem()) };
    let basket = Basket::new(lines, "order.lines").map_err(Violations::into_problem)?;
    let once = request_id.map(|id| OnceRequest::new(&principal.user, id, &fingerprinted));
    Ok((basket, once))
}

fn new_line(line: OrderLine, path: &str, violations: &mut Violations) -> Option<Line> {
    let product = violations.check(format!("{path}.product"), Product::new(line.product));
    let quantity = violations.check(format!("{path}.quantity"), Quantity::new(line.quantity));
    let price_path = format!("{path}.unit_price");
    let unit_price = match &line.unit_price {
        Some(price) => violations.check(price_path, Money::from_wire(price)),
        None => violations.check(price_path, Err("must be set")),
    };
    Some(Line { product: product?, quantity: quantity?, unit_price: unit_price? })
}

fn message(order: &Order) -> OrderMessage {
    OrderMessage {
        name: resource::name(COLLECTION, order.id),
        buyer: order.buyer.clone(),
        lines: order.basket.lines().iter().map(line_message).collect(),
        total: Some(order.basket.total().to_wire()),
        state: State::Placed.into(),
        create_time: Some(clock::on_wire(order.create_time)),
        update_time: Some(clock::on_wire(order.update_time)),
        etag: format!("\"{}\"", order.version),
    }
}

fn line_message(line: &Line) -> OrderLine {
    OrderLine {
        product: line.product.as_str().to_owned(),
        quantity: line.quantity.get(),
        unit_price: Some(line.unit_price.to_wire()),
    }
}

fn status(error: Error) -> Status {
    match &error.0 {
        Kind::RequestReused => Problem::new(
            Code::InvalidArgument,
            "REQUEST_ID_REUSED",
            "This request_id was used for another request.",
        )
        .field("request_id", "must be new for each request"),
        Kind::NotFound => Problem::new(Code::NotFound, "ORDER_NOT_FOUND", "There is no such order."),
        Kind::Inside(failure) => Problem::inside(failure.as_ref()),
    }
    .into_status()
}
