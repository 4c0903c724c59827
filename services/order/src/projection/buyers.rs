//! Whether a buyer may place an order, for the rare case that the order's own statement did not find him.
//!
//! A token may be younger than what is known here: its user is waited for a little.

use std::{sync::Arc, time::Duration};

use metrics::counter;
use tailrace_runtime::postgres::{Connection, Database, Repeat};
use tokio::time::timeout;

use super::{
    arrivals::Arrivals,
    store::{self, Standing},
};
use crate::error::{Error, Kind};

/// How long a buyer is waited for who is not known yet.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Those who may buy.
#[derive(Clone)]
pub(crate) struct Buyers {
    database: Database,
    arrivals: Arc<Arrivals>,
}

impl Buyers {
    pub(crate) fn new(database: Database, arrivals: Arc<Arrivals>) -> Self {
        Self { database, arrivals }
    }

    /// Returns when `buyer` is known and not deleted, at once or after a bounded wait; otherwise the reason why he may not
    /// buy.
    pub(crate) async fn admit(&self, buyer: &str) -> Result<(), Error> {
        // Before the first look, so that nothing happens unseen between a look and the wait.
        let mut arrival = self.arrivals.of(buyer);
        let known = async {
            loop {
                match self.standing(buyer).await? {
                    Standing::There => return Ok(()),
                    Standing::Deleted => return Err(Kind::BuyerDeleted.into()),
                    Standing::Unknown => arrival.next().await,
                }
            }
        };
        match timeout(WAIT_MAX, known).await {
            Ok(outcome) => outcome,
            // Another replica may have read what this one did not get to.
            Err(_) => match self.standing(buyer).await? {
                Standing::There => Ok(()),
                Standing::Deleted => Err(Kind::BuyerDeleted.into()),
                Standing::Unknown => {
                    counter!("tailrace_order_buyers_unknown_total").increment(1);
                    Err(Kind::BuyerUnknown.into())
                }
            },
        }
    }

    async fn standing(&self, buyer: &str) -> Result<Standing, Error> {
        let work =
            |client: Connection| async move { store::standing(&client, buyer).await.map_err(Error::inside) };
        self.database.run(Repeat::Harmless, work).await
    }
}
