//! What the order service does: create, get, list and cancel orders.
//!
//! Who may ask is decided in `grpc.rs`; how it is stored, in `store.rs`. A change is answered with the order in its wire form,
//! because that very answer is remembered with the change and given again to a retry.

use prost::Message as _;
use tailrace::order::v1::Order as OrderMessage;
use tailrace_outbox::{Remembered, Request};
use tailrace_runtime::{clock, page::Page, request::TraceContext};
use uuid::Uuid;

use crate::{
    error::{Error, Kind},
    filter::Filter,
    order::{Basket, FIRST_VERSION, Order, State},
    projection::buyers::Buyers,
    store::{Store, Written},
    wire,
};

/// How often a change starts over because another one came between its reading and its writing.
const ATTEMPTS_MAX: usize = 3;

/// The orders, and everything that can be done with them.
pub(crate) struct Orders {
    store: Store,
    buyers: Buyers,
}

/// Which order to cancel.
#[derive(Clone, Debug)]
pub(crate) struct Cancellation {
    pub(crate) id: Uuid,
    /// Whose it must be; none: anyone's.
    pub(crate) buyer: Option<String>,
    /// What the order's etag must be; none: anything.
    pub(crate) etag: Option<String>,
}

impl Orders {
    pub(crate) fn new(store: Store, buyers: Buyers) -> Self {
        Self { store, buyers }
    }

    /// Creates an order of `buyer` and the event that tells it. A `request` that was carried out before gives the answer
    /// of then. A buyer who is not known here yet is waited for a little.
    pub(crate) async fn create(
        &self,
        buyer: String,
        basket: Basket,
        request: Option<Request>,
        trace: &TraceContext,
    ) -> Result<OrderMessage, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let order = placed(buyer.clone(), basket.clone());
            let event = wire::created_event(&order, trace).map_err(Error::inside)?;
            let answer = wire::message(&order);
            match self.store.create(&order, request.as_ref(), &answer.encode_to_vec(), &event).await? {
                Written::Done => return Ok(answer),
                Written::RequestSeen => return self.answer_of(request.as_ref()).await,
                Written::Overtaken => {}
            }
            // The statement found no such buyer. He may have ordered before he was deleted, and ask again.
            if let Some(answer) = self.remembered(request.as_ref()).await? {
                return Ok(answer);
            }
            self.buyers.admit(&buyer).await?;
        }
        Err(Kind::Contended.into())
    }

    /// The order `id`, if `buyer` bought it; no buyer: whoever did.
    pub(crate) async fn get(&self, id: Uuid, buyer: Option<&str>) -> Result<Order, Error> {
        self.store.get(id, buyer).await?.ok_or_else(|| Kind::NotFound.into())
    }

    /// A page of the orders of `buyer`, or of all, newest first, and the token of the next.
    pub(crate) async fn list(
        &self,
        page: &Page,
        buyer: Option<&str>,
        filter: &Filter,
    ) -> Result<(Vec<Order>, String), Error> {
        if filter.is_nothing() {
            return Ok((Vec::new(), String::new()));
        }
        let mut orders = self.store.list(page, buyer, filter).await?;
        let next = page.cut(&mut orders, |order| order.id);
        Ok((orders, next))
    }

    /// Cancels an order and writes the event that tells it. A `request` that was carried out before gives the answer of then.
    pub(crate) async fn cancel(
        &self,
        wanted: &Cancellation,
        request: Option<&Request>,
        trace: &TraceContext,
    ) -> Result<OrderMessage, Error> {
        match self.cancelled(wanted, request, trace).await {
            // A retry finds the order cancelled by the first try. What that one remembered was committed with it, so it
            // is to be seen by now.
            Err(error) if error.is_refusal() && request.is_some() => match self.remembered(request).await? {
                Some(answer) => Ok(answer),
                None => Err(error),
            },
            outcome => outcome,
        }
    }

    async fn cancelled(
        &self,
        wanted: &Cancellation,
        request: Option<&Request>,
        trace: &TraceContext,
    ) -> Result<OrderMessage, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let before = self.get(wanted.id, wanted.buyer.as_deref()).await?;
            let after = before.cancelled(wanted.etag.as_deref(), clock::now())?;
            let event = wire::cancelled_event(&after, trace).map_err(Error::inside)?;
            let answer = wire::message(&after);
            match self.store.update(&after, request, &answer.encode_to_vec(), &event).await? {
                Written::Done => return Ok(answer),
                Written::RequestSeen => return self.answer_of(request).await,
                Written::Overtaken => {}
            }
        }
        Err(Kind::Contended.into())
    }

    /// The answer to a request that is known to have been carried out.
    async fn answer_of(&self, request: Option<&Request>) -> Result<OrderMessage, Error> {
        // None: it was forgotten between the two statements, which takes a day; the id is spent all the same.
        self.remembered(request).await?.ok_or_else(|| Kind::RequestReused.into())
    }

    async fn remembered(&self, request: Option<&Request>) -> Result<Option<OrderMessage>, Error> {
        let Some(request) = request else { return Ok(None) };
        match self.store.remembered(request).await? {
            Remembered::CarriedOut { answer, .. } => {
                OrderMessage::decode(answer.as_slice()).map(Some).map_err(Error::inside)
            }
            Remembered::New => Ok(None),
            Remembered::Reused => Err(Kind::RequestReused.into()),
        }
    }
}

/// An order that is placed now.
fn placed(buyer: String, basket: Basket) -> Order {
    let now = clock::now();
    Order {
        id: Uuid::now_v7(),
        buyer,
        basket,
        state: State::Placed,
        version: FIRST_VERSION,
        create_time: now,
        update_time: now,
    }
}
