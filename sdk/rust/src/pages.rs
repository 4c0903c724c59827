//! Lists, page by page.

use futures::Stream;
use futures::stream::try_unfold;
use tonic::Status;

use crate::client::Tailrace;
use crate::order::v1::{ListOrdersRequest, ListOrdersResponse};
use crate::relay::v1::{
    ListDeadLettersRequest, ListDeadLettersResponse, ListSourcesRequest, ListSourcesResponse,
};
use crate::user::v1::{ListUsersRequest, ListUsersResponse};

/// A request of a list.
pub trait List: Clone + Send + sealed::Sealed {
    /// What one call answers.
    type Page: Send;

    /// Asks for the page that the request names.
    fn call(self, tailrace: &Tailrace) -> impl Future<Output = Result<Self::Page, Status>> + Send;

    /// The same request for the page after this one, unless it is the last.
    fn after(self, page: &Self::Page) -> Option<Self>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! list {
    ($request:ty, $page:ty, $service:ident, $method:ident) => {
        impl sealed::Sealed for $request {}

        impl List for $request {
            type Page = $page;

            async fn call(self, tailrace: &Tailrace) -> Result<$page, Status> {
                Ok(tailrace.$service().$method(self).await?.into_inner())
            }

            fn after(self, page: &$page) -> Option<Self> {
                let page_token = page.next_page_token.clone();
                (!page_token.is_empty()).then_some(Self { page_token, ..self })
            }
        }
    };
}

list!(ListOrdersRequest, ListOrdersResponse, orders, list_orders);
list!(ListUsersRequest, ListUsersResponse, users, list_users);
list!(ListSourcesRequest, ListSourcesResponse, relay, list_sources);
list!(ListDeadLettersRequest, ListDeadLettersResponse, relay, list_dead_letters);

/// Every page of a list, each asked for when the one before has been read.
pub(crate) fn pages<Q: List>(
    tailrace: &Tailrace,
    request: Q,
) -> impl Stream<Item = Result<Q::Page, Status>> + Send {
    try_unfold(Some(request), move |request| async move {
        let Some(request) = request else { return Ok(None) };
        let page = request.clone().call(tailrace).await?;
        let next = request.after(&page);
        Ok(Some((page, next)))
    })
}
