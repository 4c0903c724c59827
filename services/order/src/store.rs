//! The SQL of this service, and nothing else.

use tailrace_outbox::{Event, Remembered, Request, Retired, Right, Service, Write, WriteError};
use tailrace_runtime::{
    clock,
    page::Page,
    postgres::{Client, Connection, Database, Failure, Owner, Repeat, Upkeep},
    process::Misconfigured,
    settings::SchemaSettings,
};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    config::Config,
    error::Error,
    filter::Filter,
    money::{Currency, Money},
    order::{Basket, Line, Order, Product, Quantity, State},
};

const MIGRATIONS: &[(&str, &str)] = &[
    ("V1__orders", include_str!("../migrations/V1__orders.sql")),
    ("V2__cancel", include_str!("../migrations/V2__cancel.sql")),
    ("V3__known_users", include_str!("../migrations/V3__known_users.sql")),
];

const ORDER_ONCE: &str = "orders_pkey";

/// What the role of this service does with its rows.
const RIGHTS: &[Right<'_>] = &[
    ("orders", "SELECT, INSERT, UPDATE"),
    ("order_lines", "SELECT, INSERT"),
    ("known_user", "SELECT, INSERT, UPDATE, DELETE"),
    ("inbox", "SELECT, INSERT, UPDATE, DELETE"),
    ("inbox_set_aside", "SELECT, INSERT, DELETE"),
];

/// An order and its lines as one row, the lines in arrays of one length. They come in the order of their index: sorted in each
/// aggregate, they would be sorted three times.
const SELECT: &str = "
    SELECT id, buyer, currency::text, version, create_time, update_time, products, quantities, unit_prices, state
    FROM orders CROSS JOIN LATERAL (
        SELECT array_agg(product) AS products, array_agg(quantity) AS quantities,
               array_agg(unit_price_minor) AS unit_prices
        FROM (SELECT * FROM order_lines WHERE order_id = id ORDER BY line_number) AS line) AS lines";

/// Orders in Postgres.
#[derive(Clone)]
pub(crate) struct Store {
    database: Database,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Written {
    /// It is done.
    Done,
    /// Nothing was written; the request was carried out before.
    RequestSeen,
    /// Nothing was written; another change came first, or what it needs is not there.
    Overtaken,
}

impl Store {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Writes an order, its lines and the event of its creation, if its buyer is known and not deleted; all or nothing.
    pub(crate) async fn create(
        &self,
        order: &Order,
        request: Option<&Request>,
        answer: &[u8],
        event: &Event,
    ) -> Result<Written, Error> {
        let lines = order.basket.lines();
        let total = order.basket.total();
        let (currency, total_minor) = (total.currency(), total.minor());
        let products: Vec<&str> = lines.iter().map(|line| line.product.as_str()).collect();
        let quantities: Vec<i32> = lines.iter().map(|line| line.quantity.get()).collect();
        let unit_prices: Vec<i64> = lines.iter().map(|line| line.unit_price.minor()).collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 10] = [
            (&order.id, Type::UUID),
            (&order.buyer, Type::TEXT),
            (&order.state.as_str(), Type::TEXT),
            (&currency.as_str(), Type::TEXT),
            (&total_minor, Type::INT8),
            (&order.version, Type::INT8),
            (&order.create_time, Type::TIMESTAMPTZ),
            (&products, Type::TEXT_ARRAY),
            (&quantities, Type::INT4_ARRAY),
            (&unit_prices, Type::INT8_ARRAY),
        ];
        let write = Write::of(
            "INSERT INTO orders (id, buyer, state, currency, total_minor, version, create_time, update_time) \
             SELECT $1, $2, $3, $4, $5, $6, $7, $7 FROM known_user WHERE name = $2 AND NOT deleted",
            parameters,
        )
        .and(
            "INSERT INTO order_lines (order_id, line_number, product, quantity, unit_price_minor) \
             SELECT $1, line.number, line.product, line.quantity, line.unit_price \
             FROM entity, unnest($8, $9, $10) WITH ORDINALITY AS line (product, quantity, unit_price, number)",
        );
        self.write(write.once(request, &order.id, answer), request, event).await
    }

    /// Writes an order's next version and the event that tells it, if the version before it is still the last; all or nothing.
    pub(crate) async fn update(
        &self,
        order: &Order,
        request: Option<&Request>,
        answer: &[u8],
        event: &Event,
    ) -> Result<Written, Error> {
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&order.id, Type::UUID),
            (&order.state.as_str(), Type::TEXT),
            (&order.version, Type::INT8),
            (&order.update_time, Type::TIMESTAMPTZ),
        ];
        let write = Write::of(
            "UPDATE orders SET state = $2, version = $3, update_time = $4 WHERE id = $1 AND version = $3 - 1",
            parameters,
        );
        self.write(write.once(request, &order.id, answer), request, event).await
    }

    pub(crate) async fn remembered(&self, request: &Request) -> Result<Remembered, Error> {
        let work = |client: Connection| async move {
            tailrace_outbox::remembered(&client, request).await.map_err(Error::inside)
        };
        self.database.run(Repeat::Harmless, work).await
    }

    /// The order, if `buyer` bought it; no buyer: whoever did.
    pub(crate) async fn get(&self, id: Uuid, buyer: Option<&str>) -> Result<Option<Order>, Error> {
        let statement = format!("{SELECT} WHERE id = $1 AND ($2 IS NULL OR buyer = $2)");
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&id, Type::UUID), (&buyer, Type::TEXT)];
        let (statement, parameters) = (&statement, &parameters);
        let work = |client: Connection| async move {
            let row = client.prepared_row(statement, parameters).await;
            row.map_err(Error::inside)?.as_ref().map(order_of).transpose()
        };
        self.database.run(Repeat::Harmless, work).await
    }

    /// The orders of `buyer`, or all: one row more than the page holds, if there is one.
    pub(crate) async fn list(
        &self,
        page: &Page,
        buyer: Option<&str>,
        filter: &Filter,
    ) -> Result<Vec<Order>, Error> {
        // Two statements, because one with `$2 IS NULL OR …` keeps Postgres from using the buyer's index.
        let whose = if buyer.is_some() { "buyer = $3" } else { "$3 IS NULL" };
        let statement = format!(
            "{SELECT} WHERE {whose} AND ($1 IS NULL OR id < $1) AND ($4 IS NULL OR state = ANY ($4)) \
             AND ($5 IS NULL OR create_time >= $5) AND ($6 IS NULL OR create_time < $6) \
             ORDER BY id DESC LIMIT $2"
        );
        let (before, limit) = (page.before(), page.limit());
        let states: Option<Vec<&str>> =
            filter.states.as_ref().map(|states| states.iter().map(|state| state.as_str()).collect());
        let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
            (&before, Type::UUID),
            (&limit, Type::INT8),
            (&buyer, Type::TEXT),
            (&states, Type::TEXT_ARRAY),
            (&filter.from, Type::TIMESTAMPTZ),
            (&filter.before, Type::TIMESTAMPTZ),
        ];
        let (statement, parameters) = (&statement, &parameters);
        let work = |client: Connection| async move {
            let rows = client.query_typed(statement, parameters).await;
            rows.map_err(Error::inside)?.iter().map(order_of).collect()
        };
        self.database.run(Repeat::Harmless, work).await
    }

    async fn write(
        &self,
        write: Write<'_>,
        request: Option<&Request>,
        event: &Event,
    ) -> Result<Written, Error> {
        let write = &write;
        let work = |client: Connection| async move {
            match write.execute(&client, event).await {
                // A repeat breaks both rules, and Postgres names the one it meets first.
                Err(error) if request.is_some() && error.broken_constraint() == Some(ORDER_ONCE) => {
                    Ok(Written::RequestSeen)
                }
                outcome => written(outcome),
            }
        };
        self.database.run(Repeat::of_write(request), work).await
    }
}

/// The schema of this service, kept up to date by the role that owns it.
pub(crate) struct Schema {
    settings: SchemaSettings,
    owner: Owner,
}

impl Schema {
    pub(crate) fn new(config: &Config) -> Result<Self, Misconfigured> {
        let settings = config.schema.clone();
        let owner = Owner::from_settings(&config.database, &settings, env!("CARGO_PKG_NAME"))?;
        Ok(Self { settings, owner })
    }

    /// Brings the schema up to date. The connection leaves the pool: it may keep the lock when this fails.
    pub(crate) async fn migrate(&self, client: Client) -> Result<(), Failure> {
        let mut client = Client::take(self.owner.client(client).await?);
        let service = Service { role: self.owner.service_role(), rights: RIGHTS };
        Ok(tailrace_outbox::migrate(&mut client, MIGRATIONS, Some(&service)).await?)
    }
}

impl Upkeep for Schema {
    async fn prepare(&self, client: Client) -> Result<(), Failure> {
        if self.settings.migrate {
            return self.migrate(client).await;
        }
        let mut client = Client::take(client);
        if tailrace_outbox::migrated(&mut client, MIGRATIONS).await? {
            return Ok(());
        }
        // Someone else will; until then the database is as good as absent.
        Err(std::io::Error::other("the schema is not up to date: run `order-service migrate`").into())
    }

    async fn tend(&self, client: Client) -> Result<(), Failure> {
        let client = self.owner.client(client).await?;
        let now = clock::now();
        tailrace_outbox::upkeep(&client, now).await?;
        // Space is not worth a refused call: what fails here is tried again in an hour.
        match tailrace_outbox::retire(&client, now, self.settings.outbox_retention).await {
            Ok(retired) if retired == Retired::default() => {}
            Ok(retired) => info!(outbox.taken_off = ?retired.taken_off, outbox.dropped = ?retired.dropped,
                outbox.kept = ?retired.kept, "old days of the outbox"),
            Err(error) => warn!(error = %error, "old days of the outbox could not be taken off or dropped"),
        }
        Ok(())
    }
}

fn written(outcome: Result<(), WriteError>) -> Result<Written, Error> {
    match outcome {
        Ok(()) => Ok(Written::Done),
        Err(WriteError::RequestSeen) => Ok(Written::RequestSeen),
        Err(WriteError::NoRow) => Ok(Written::Overtaken),
        Err(error @ (WriteError::ManyRows(_) | WriteError::Database(_))) => Err(Error::inside(error)),
    }
}

fn order_of(row: &Row) -> Result<Order, Error> {
    let currency: String = column(row, 2)?;
    let currency = Currency::new(&currency).map_err(Error::inside)?;
    let (products, quantities): (Vec<String>, Vec<i32>) = (column(row, 6)?, column(row, 7)?);
    let unit_prices: Vec<i64> = column(row, 8)?;
    let lines = products.into_iter().zip(quantities).zip(unit_prices).map(|((product, quantity), price)| {
        Ok(Line {
            product: Product::new(product).map_err(Error::inside)?,
            quantity: Quantity::new(quantity).map_err(Error::inside)?,
            unit_price: Money::new(price, currency).map_err(Error::inside)?,
        })
    });
    let lines = lines.collect::<Result<Vec<_>, Error>>()?;
    let basket = Basket::new(lines, "lines").map_err(|_| Error::inside("a stored order is not valid"))?;
    Ok(Order {
        id: column(row, 0)?,
        buyer: column(row, 1)?,
        basket,
        state: State::named(&column::<String>(row, 9)?)
            .ok_or_else(|| Error::inside("a stored order has an unknown state"))?,
        version: column(row, 3)?,
        create_time: column(row, 4)?,
        update_time: column(row, 5)?,
    })
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, Error> {
    row.try_get(index).map_err(Error::inside)
}
