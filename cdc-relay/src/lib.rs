//! `cdc-relay`: from Postgres' write-ahead log to Kafka, exactly once.
//!
//! ```text
//!  source (sockets) ─▶ engine (pure: transaction, row, router, position) ─▶ sink (Kafka)
//!         └──────────────── relay: one select! per source ──────────────────┘
//! ```
//!
//! `takeover` is the one way to become a source's relay; `init` makes first contact; `board` is what people see.

#![expect(clippy::cast_precision_loss, reason = "metrics are floating point")]

use std::sync::Arc;

use tailrace::relay::v1::relay_service_server::{RelayServiceServer, SERVICE_NAME};
use tailrace_runtime::auth::Verifier;
use tailrace_runtime::process::Context;
use tailrace_runtime::settings::GrpcSettings;
use tailrace_runtime::{grpc, task};
use tokio::net::TcpListener;
use tonic::service::Routes;

mod admin;
mod board;
mod building;
mod clock;
pub mod config;
pub mod dead_letter;
pub mod dead_letters;
pub mod engine;
pub mod headers;
pub mod init;
mod pace;
pub mod parking;
#[cfg(feature = "planted-bugs")]
pub mod planted;
#[cfg(not(feature = "planted-bugs"))]
mod planted;
pub mod position;
pub mod record;
mod relay;
pub mod release;
mod requests;
pub mod router;
pub mod row;
pub mod sink;
pub mod source;
mod takeover;
mod transaction;
mod trouble;
mod watch;

pub use transaction::{CommitTime, EventPosition, EventPositionError};

/// Publishes every source and serves the admin API until shutdown.
///
/// # Errors
/// If the admin port cannot be served.
pub async fn run(
    config: config::Config,
    grpc_settings: &GrpcSettings,
    verifier: Verifier,
    listener: TcpListener,
    context: Context,
) -> anyhow::Result<()> {
    let config = Arc::new(config);
    let mut sources = Vec::new();
    let mut relays = Vec::new();
    for source in &config.sources {
        // A condition's name lives as long as the process, as the sources do.
        let condition = context.readiness.condition(format!("source {}", source.name).leak());
        let board = board::Board::new(&source.name, condition);
        let (desk, requests) = requests::desk();
        sources.push(admin::Shown { board: board.clone(), desk });
        task::spawn("slot watch", watch::run(source.clone(), board.clone(), context.shutdown.clone()));
        let shutdown = context.shutdown.clone();
        let relay = relay::run(Arc::clone(&config), source.clone(), board, requests, shutdown);
        relays.push(task::spawn("relay", relay));
    }
    let routes = Routes::new(RelayServiceServer::new(admin::Admin::new(sources, verifier.clone())));
    grpc::serve(verifier, listener, grpc_settings, context, routes, &[SERVICE_NAME]).await?;
    for relay in relays {
        relay.await?;
    }
    Ok(())
}
