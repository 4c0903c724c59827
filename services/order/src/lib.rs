//! The order service: keeps orders. Each change is written with its event in one statement.
//!
//! It publishes no event (the relay does) and keeps no users: a buyer is the subject of a verified token. A projection of
//! `users.created`, to show buyers by name, comes later.
//!
//! ```text
//! grpc ─► commands ─► store ─► Postgres (orders + outbox)
//!   │        ├─► order      what an order is, and what may become of it
//!   │        │     └─► money
//!   │        └─► wire       the order as a message, and its events
//!   └─► filter              which orders a list holds
//! ```

mod commands;
pub mod config;
mod error;
pub mod filter;
mod grpc;
pub mod money;
pub mod order;
mod store;
mod wire;

use anyhow::Context as _;
use tailrace::order::v1::order_service_server::{OrderServiceServer, SERVICE_NAME};
use tailrace_runtime::{
    auth::Verifier,
    grpc::serve_guarded,
    postgres::{self, Database},
    process::Context,
};
use tokio::net::TcpListener;
use tonic::{codec::CompressionEncoding, service::Routes};

use self::{
    commands::Orders,
    config::Config,
    grpc::OrderApi,
    store::{Schema, Store},
};

/// Serves on `listener` until shutdown is requested and the running calls have ended.
pub async fn run(config: &Config, listener: TcpListener, context: Context) -> anyhow::Result<()> {
    run_with(config, Verifier::connect(&config.auth)?, listener, context).await
}

/// [`run`] with another way to verify tokens.
pub async fn run_with(
    config: &Config,
    verifier: Verifier,
    listener: TcpListener,
    context: Context,
) -> anyhow::Result<()> {
    let database = Database::from_settings(&config.database, env!("CARGO_PKG_NAME"))?;
    let api = OrderServiceServer::new(OrderApi::new(Orders::new(Store::new(database.clone()))))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(config.grpc.message_bytes_max);
    let schema = Schema { migrate: config.migrate };
    let keeping = postgres::keep(database.pool(), &context, &schema);
    let serving =
        serve_guarded(verifier, listener, &config.grpc, context.clone(), Routes::new(api), &[SERVICE_NAME]);
    // The port answers while the database is still waited for: callers then read UNAVAILABLE, and probes the reason.
    tokio::try_join!(async { serving.await.map_err(anyhow::Error::from) }, async {
        keeping.await.map_err(anyhow::Error::from)
    },)?;
    Ok(())
}

/// Brings the schema up to date.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let pool = postgres::pool(&config.database, env!("CARGO_PKG_NAME"))?;
    let client = pool.get().await.context("the database cannot be reached: check TAILRACE_DATABASE_URL")?;
    store::migrate(client).await.context("the schema could not be brought up to date")?;
    Ok(())
}
