//! Writers who never rest: customers who sign up and order over gRPC, and a ledger that appends outbox rows by SQL.
//!
//! A call that finds a service away is made again with the same request id until it is answered, as a careful client
//! does. So whatever breaks, what was answered must be there, and only once.

use std::collections::BTreeSet;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::Client;
use tonic::{Code, Status};

use super::caller::{Caller, id_in, new_order, new_user};
use super::system::{Service, System};
use super::{DEADLINE, ticks};

/// The name of every user that the writers make, and of no other.
pub(crate) const VISITOR: &str = "Passing Customer";
/// The product of every order that the writers place, and of no other.
pub(crate) const PRODUCT: &str = "Tailwater gauge";

/// Customers at work at once.
const CUSTOMERS: usize = 2;
const ORDERS_PER_USER: i32 = 4;
/// Aggregates that the ledger writes versions of.
pub(crate) const LEDGER_KEYS: usize = 20;
/// One in so many transactions of the ledger is rolled back.
const ROLLBACK_EVERY: usize = 5;
/// The ledger's transactions have 1 to so many rows.
const ROWS_MAX: usize = 7;

/// What the writers remember.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    /// The keys of the users whose creation was answered.
    pub(crate) users: BTreeSet<String>,
    /// The keys of the orders whose creation was answered.
    pub(crate) orders: BTreeSet<String>,
    /// The last committed version of each key of the ledger.
    pub(crate) ledger: [i64; LEDGER_KEYS],
    /// Calls that found a service away.
    pub(crate) refusals: usize,
}

impl Journal {
    /// Events that were written.
    pub(crate) fn events(&self) -> usize {
        let ledger: i64 = self.ledger.iter().sum();
        self.users.len() + self.orders.len() + usize::try_from(ledger).expect("versions count from 0")
    }
}

/// The writers; they are gone when this is dropped.
pub(crate) struct Traffic {
    journal: watch::Sender<Journal>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    _connections: JoinSet<()>,
}

impl Traffic {
    /// Starts the customers.
    pub(crate) async fn start(system: &System) -> Self {
        let mut traffic = Self {
            journal: watch::Sender::default(),
            stop: watch::Sender::default(),
            tasks: JoinSet::new(),
            _connections: JoinSet::new(),
        };
        for _ in 0..CUSTOMERS {
            let account = system.customer("Regular Customer").await;
            traffic.tasks.spawn(shop(account, traffic.journal.clone(), traffic.stop.subscribe()));
        }
        traffic
    }

    /// Starts a ledger beside them, which appends to the outbox of the orders.
    pub(crate) async fn and_ledger(mut self, system: &System) -> Self {
        let client = system.database(Service::Orders, &mut self._connections).await;
        self.tasks.spawn(keep_ledger(client, self.journal.clone(), self.stop.subscribe()));
        self
    }

    /// Waits until so many more events were written.
    pub(crate) async fn advance(&mut self, events: usize) {
        let goal = self.journal.borrow().events() + events;
        self.until(|journal| journal.events() >= goal).await;
    }

    /// Calls that found a service away so far.
    pub(crate) fn refusals(&self) -> usize {
        self.journal.borrow().refusals
    }

    /// Waits until the journal is as it should be.
    pub(crate) async fn until(&mut self, is_it: impl FnMut(&Journal) -> bool) {
        let mut journal = self.journal.subscribe();
        tokio::select! {
            waited = timeout(DEADLINE, journal.wait_for(is_it)) => {
                waited.expect("the writers get on").expect("the journal is open");
            }
            Some(ended) = self.tasks.join_next() => panic!("a writer ended: {ended:?}"),
        }
    }

    /// Lets everybody finish what he is at.
    pub(crate) async fn stop(mut self) -> Journal {
        self.stop.send_replace(true);
        while let Some(ended) = timeout(DEADLINE, self.tasks.join_next()).await.expect("the writers end") {
            ended.expect("no writer failed");
        }
        self.journal.borrow().clone()
    }
}

/// Signs users up and places orders of `account`.
async fn shop(account: Caller, journal: watch::Sender<Journal>, stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let request = new_user(VISITOR);
        let user = insist(&journal, || account.create_user(account.request(request.clone()))).await;
        journal.send_modify(|journal| assert!(journal.users.insert(id_in(&user.name).to_owned())));
        for quantity in 1..=ORDERS_PER_USER {
            let request = new_order(PRODUCT, quantity);
            let order = insist(&journal, || account.create_order(account.request(request.clone()))).await;
            journal.send_modify(|journal| assert!(journal.orders.insert(id_in(&order.name).to_owned())));
        }
    }
}

/// Calls until it is answered. Only absence may be the reason why it is not.
async fn insist<T, F>(journal: &watch::Sender<Journal>, call: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, Status>>,
{
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        match call().await {
            Ok(answer) => return answer,
            Err(status) if status.code() == Code::Unavailable => {
                journal.send_modify(|journal| journal.refusals += 1);
            }
            Err(status) => panic!("neither done nor honestly refused: {status:?}"),
        }
    }
}

/// Transactions of several rows over all keys, now and then one that is rolled back and must leave no trace.
async fn keep_ledger(mut client: Client, journal: watch::Sender<Journal>, stop: watch::Receiver<bool>) {
    let mut versions = [0_i64; LEDGER_KEYS];
    let mut ticks = ticks();
    for number in 0_usize.. {
        if *stop.borrow() {
            return;
        }
        ticks.tick().await;
        let mut next = versions;
        let transaction = client.transaction().await.expect("a transaction");
        for row in 0..=number % ROWS_MAX {
            let key = (number * ROWS_MAX + row * row) % LEDGER_KEYS;
            next[key] += 1;
            let (name, version) = (format!("ledger-{key}"), next[key]);
            // The odd spaces must arrive as they are: a payload is passed on byte for byte.
            let payload = format!("{{\"ledger\":  {key}, \"version\":{version} }}");
            transaction.execute(INSERT, &[&name, &version, &payload]).await.expect("a row");
        }
        if number % ROLLBACK_EVERY == 0 {
            transaction.rollback().await.expect("rolled back");
        } else {
            transaction.commit().await.expect("committed");
            versions = next;
            journal.send_modify(|journal| journal.ledger = versions);
        }
    }
}

const INSERT: &str =
    "insert into outbox (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, headers)
    values (gen_random_uuid(), 'orders', $1, $2, 'orders.created.v1', $3::text::json, '{}')";
