//! The wire of this service: proto to domain, call, domain to proto. Statuses are made here and nowhere else.

use prost::Message as _;
use tailrace::order::v1::{
    CancelOrderRequest, CreateOrderRequest, GetOrderRequest, ListOrdersRequest, ListOrdersResponse,
    Order as OrderMessage, OrderLine, order_service_server::OrderService,
};
use tailrace_outbox::Request as OnceRequest;
use tailrace_runtime::{
    access::Caller,
    error::{Problem, RETRY_AFTER, Violations},
    page::Page,
    request, resource,
};
use tonic::{Code, Request, Response, Status};

use crate::{
    commands::{Cancellation, Orders},
    error::{Error, Kind},
    filter::Filter,
    money::Money,
    order::{Basket, COLLECTION, LINES_MAX, Line, Product, Quantity},
    wire::message,
};

const NAME_RULE: &str = "must be a resource name, orders/{uuid}";

/// OrderService.
pub(crate) struct OrderApi {
    orders: Orders,
}

impl OrderApi {
    pub(crate) fn new(orders: Orders) -> Self {
        Self { orders }
    }
}

#[tonic::async_trait]
impl OrderService for OrderApi {
    async fn create_order(
        &self,
        request: Request<CreateOrderRequest>,
    ) -> Result<Response<OrderMessage>, Status> {
        let caller = Caller::of(&request)?;
        let trace = request::trace_context(&request);
        let (basket, once) = new_order(request.into_inner(), &caller)?;
        let order =
            self.orders.create(caller.user().to_owned(), basket, once, &trace).await.map_err(status)?;
        Ok(Response::new(order))
    }

    async fn get_order(&self, request: Request<GetOrderRequest>) -> Result<Response<OrderMessage>, Status> {
        let caller = Caller::of(&request)?;
        let name = request.into_inner().name;
        let id = resource::id(COLLECTION, &name).ok_or_else(|| Violations::of("name", NAME_RULE))?;
        let order = self.orders.get(id, caller.confined_to()).await.map_err(status)?;
        Ok(Response::new(message(&order)))
    }

    async fn list_orders(
        &self,
        request: Request<ListOrdersRequest>,
    ) -> Result<Response<ListOrdersResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let buyer = caller.confined_to();
        let filter = Filter::parse(&request.filter).map_err(|invalid| Violations::of("filter", invalid))?;
        let scope = format!("{COLLECTION} of {} where {:?}", buyer.unwrap_or("all"), filter);
        let page = Page::parse(request.page_size, &request.page_token, scope)?;
        let (orders, next_page_token) = self.orders.list(&page, buyer, &filter).await.map_err(status)?;
        Ok(Response::new(ListOrdersResponse {
            orders: orders.iter().map(message).collect(),
            next_page_token,
        }))
    }

    async fn cancel_order(
        &self,
        request: Request<CancelOrderRequest>,
    ) -> Result<Response<OrderMessage>, Status> {
        let caller = Caller::of(&request)?;
        let trace = request::trace_context(&request);
        let (wanted, once) = cancellation(request.into_inner(), &caller)?;
        let order = self.orders.cancel(&wanted, once.as_ref(), &trace).await.map_err(status)?;
        Ok(Response::new(order))
    }
}

fn new_order(request: CreateOrderRequest, caller: &Caller) -> Result<(Basket, Option<OnceRequest>), Problem> {
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
    let once = request_id.map(|id| OnceRequest::new(caller.user(), "CreateOrder", id, &fingerprinted));
    Ok((basket, once))
}

fn cancellation(
    request: CancelOrderRequest,
    caller: &Caller,
) -> Result<(Cancellation, Option<OnceRequest>), Problem> {
    let mut violations = Violations::default();
    let id = violations.check("name", resource::id(COLLECTION, &request.name).ok_or(NAME_RULE));
    let request_id = violations.check("request_id", resource::request_id(&request.request_id));
    let asked = CancelOrderRequest { request_id: String::new(), ..request };
    let fingerprinted = asked.encode_to_vec();
    let etag = violations.check("etag", resource::given_etag(asked.etag));
    let (Some(id), Some(request_id), Some(etag)) = (id, request_id, etag) else {
        return Err(violations.into_problem());
    };
    let once = request_id.map(|id| OnceRequest::new(caller.user(), "CancelOrder", id, &fingerprinted));
    let buyer = caller.confined_to().map(str::to_owned);
    Ok((Cancellation { id, buyer, etag }, once))
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

fn status(error: Error) -> Status {
    match &error.0 {
        Kind::RequestReused => Problem::new(
            Code::InvalidArgument,
            "REQUEST_ID_REUSED",
            "This request_id was used for another request.",
        )
        .field("request_id", "must be new for each request"),
        Kind::NotFound => Problem::new(Code::NotFound, "ORDER_NOT_FOUND", "There is no such order."),
        Kind::NotPlaced => Problem::new(
            Code::FailedPrecondition,
            "ORDER_NOT_PLACED",
            "The order is cancelled already; only a placed order can be cancelled.",
        ),
        Kind::EtagMismatch => Problem::new(
            Code::Aborted,
            "ETAG_MISMATCH",
            "The order changed since; get it again and decide anew.",
        ),
        Kind::Contended => Problem::new(
            Code::Aborted,
            "CONCURRENT_CHANGES",
            "The order is being changed by others; try again.",
        )
        .retry_after(RETRY_AFTER),
        Kind::BuyerDeleted => {
            Problem::new(Code::FailedPrecondition, "BUYER_DELETED", "A deleted user can place no order.")
        }
        Kind::BuyerUnknown => Problem::new(
            Code::Unavailable,
            "BUYER_NOT_YET_KNOWN",
            "The order service has not heard of the buyer yet; try again.",
        )
        .retry_after(RETRY_AFTER),
        Kind::Inside(failure) => Problem::inside(failure.as_ref()),
    }
    .into_status()
}
