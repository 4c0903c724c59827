//! The order service: keeps orders. Each change is written with its event in one statement.
//!
//! It publishes no event (the relay does) and keeps no users: a buyer is the subject of a verified token, and known from the
//! events of the user service.
//!
//! ```text
//! grpc ─► commands ─► store ─► Postgres (orders + outbox)
//!   │        ├─► order      what an order is, and what may become of it
//!   │        │     └─► money
//!   │        └─► wire       the order as a message, and its events
//!   └─► filter              which orders a list holds
//!
//! Kafka (users.*) ─► projection ─► Postgres (known_user + inbox), which an order's own statement looks into
//! ```

mod commands;
pub mod config;
mod error;
pub mod filter;
mod grpc;
pub mod money;
pub mod order;
mod projection;
mod store;
mod wire;

use std::sync::Arc;

use anyhow::Context as _;
use tailrace::order::v1::order_service_server::{OrderServiceServer, SERVICE_NAME};
use tailrace_runtime::{
    auth::Verifier,
    grpc::serve_guarded,
    postgres::{self, Database},
    process::Context,
};
use tailrace_topics::Consumer;
use tokio::{net::TcpListener, runtime::Handle, task::spawn_blocking};
use tonic::{codec::CompressionEncoding, service::Routes};
use tracing::info;

use self::{
    commands::Orders,
    config::Config,
    grpc::OrderApi,
    projection::{Projection, arrivals::Arrivals, buyers::Buyers},
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
    let arrivals = Arc::new(Arrivals::default());
    let buyers = Buyers::new(database.clone(), Arc::clone(&arrivals));
    let api = OrderServiceServer::new(OrderApi::new(Orders::new(Store::new(database.clone()), buyers)))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(config.grpc.message_bytes_max);
    let schema = Schema::new(config)?;
    let keeping = Box::pin(postgres::keep(database.pool(), &context, &schema));
    let projecting = Box::pin(project(config, database.clone(), arrivals, &context));
    let serving =
        serve_guarded(verifier, listener, &config.grpc, context.clone(), Routes::new(api), &[SERVICE_NAME]);
    // The port answers while the database is still waited for: callers then read UNAVAILABLE, and probes the reason.
    tokio::try_join!(
        async { serving.await.map_err(anyhow::Error::from) },
        async { keeping.await.map_err(anyhow::Error::from) },
        projecting
    )?;
    Ok(())
}

/// Keeps what is known of users up to date, as soon as the database is there.
async fn project(
    config: &Config,
    database: Database,
    arrivals: Arc<Arrivals>,
    context: &Context,
) -> anyhow::Result<()> {
    // Orders of those who are known go on without Kafka.
    let condition = context.readiness.remark("projection");
    context.readiness.changed_from(false).await;
    let consumer = Consumer {
        kafka: config.users.kafka(),
        topics: config.users.topics(),
        sink: Projection::new(database, arrivals),
        condition,
        shutdown: context.shutdown.clone(),
    };
    Ok(consumer.run().await?)
}

/// Makes what is known of users anew.
pub async fn rebuild_projection(config: &Config) -> anyhow::Result<()> {
    let pool = postgres::pool(&config.database, env!("CARGO_PKG_NAME"))?;
    let (runtime, kafka, topics) = (Handle::current(), config.users.kafka(), config.users.topics());
    let work = move || projection::rebuild::rebuild(&runtime, &pool, &kafka, &topics);
    let rebuilt =
        spawn_blocking(work).await?.context("the projection could not be made anew, and is as it was")?;
    info!(users = rebuilt.users, set_aside = rebuilt.set_aside, "the projection is made anew");
    Ok(())
}

/// Brings the schema up to date.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let pool = postgres::pool(&config.database, env!("CARGO_PKG_NAME"))?;
    let client = pool.get().await.context("the database cannot be reached: check TAILRACE_DATABASE_URL")?;
    let migrated = Schema::new(config)?.migrate(client).await;
    migrated.map_err(|error| anyhow::anyhow!(error)).context("the schema could not be brought up to date")
}
