//! The user service: keeps users, signs them in, publishes the keys that verify their tokens. Each change is written with its
//! event in one statement.
//!
//! It publishes no event (the relay does) and knows no order.
//!
//! ```text
//! grpc ─► commands, sign_in ─► store ─► Postgres (users + outbox, sign-ins)
//!            ├─► user       what a user is, and what may become of him
//!            ├─► wire       the user as a message, and his events
//!            ├─► password   Argon2id, bounded
//!            ├─► throttle   wrong passwords, by account and address
//!            ├─► refresh    opaque, used once
//!            └─► token      EdDSA ─► signing_keys   those of the key file
//! ```

pub mod commands;
pub mod config;
mod error;
mod grpc;
pub mod operator;
pub mod password;
pub mod refresh;
mod sign_in;
pub mod signing_keys;
mod store;
mod throttle;
pub mod token;
pub mod user;
mod wire;

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use tailrace::{
    auth::v1::auth_service_server::{AuthServiceServer, SERVICE_NAME as AUTH_SERVICE},
    user::v1::user_service_server::{SERVICE_NAME as USER_SERVICE, UserServiceServer},
};
use tailrace_runtime::{
    auth::Verifier,
    follow::Follower,
    grpc::serve_guarded,
    postgres::{self, Database},
    process::Context,
};
use tokio::net::TcpListener;
use tonic::{codec::CompressionEncoding, service::Routes};

use self::{
    commands::Users,
    config::Config,
    grpc::{AuthApi, UserApi},
    password::Hasher,
    sign_in::SignIns,
    store::{Schema, Store},
    throttle::Throttle,
    token::Issuer,
};

/// Serves on `listener` until shutdown is requested and the running calls have ended.
pub async fn run(
    config: &Config,
    issuer: Issuer,
    listener: TcpListener,
    context: Context,
) -> anyhow::Result<()> {
    let database = Database::from_settings(&config.database, env!("CARGO_PKG_NAME"))?;
    let issuer = Arc::new(issuer);
    let verifier = Verifier::fixed(issuer.signing_keys());
    let hasher = Hasher::new(config.hash_cost).context("passwords cannot be hashed")?;
    let store = Store::new(database.clone());
    let users = Users::new(store.clone(), hasher.clone());
    let sign_ins = SignIns::new(
        store.clone(),
        hasher,
        Arc::clone(&issuer),
        config.tokens.refresh_ttl,
        Throttle::new(config.sign_in.clone()),
        context.clock.clone(),
    );

    let limit = config.grpc.message_bytes_max;
    let user_api = UserServiceServer::new(UserApi::new(users))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limit);
    let auth_api = AuthServiceServer::new(AuthApi::new(sign_ins))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limit);
    let routes = Routes::new(user_api).add_service(auth_api);

    let schema = Schema::new(config, store)?;
    let keeping = postgres::keep(database.pool(), &context, &schema);
    // The port answers while the database is still waited for: callers then read UNAVAILABLE, and probes the reason.
    tokio::try_join!(
        async {
            serve_guarded(
                verifier.clone(),
                listener,
                &config.grpc,
                context.clone(),
                routes,
                &[USER_SERVICE, AUTH_SERVICE],
            )
            .await
            .map_err(anyhow::Error::from)
        },
        async { keeping.await.map_err(anyhow::Error::from) },
        async {
            let follower = Follower::new("the signing key", context.readiness.remark("signing key"));
            tokio::select! {
                () = issuer.follow_file(&verifier, follower) => {}
                () = context.shutdown.wait() => {}
            }
            Ok(())
        },
    )?;
    Ok(())
}

/// Brings the schema up to date.
pub async fn migrate(config: &Config) -> anyhow::Result<()> {
    let database = Database::from_settings(&config.database, env!("CARGO_PKG_NAME"))?;
    let client = database.pool().get().await;
    let client = client.context("the database cannot be reached: check TAILRACE_DATABASE_URL")?;
    let migrated = Schema::new(config, Store::new(database))?.migrate(client).await;
    migrated.map_err(|error| anyhow::anyhow!(error)).context("the schema could not be brought up to date")
}

/// Makes a signing key in a new file.
pub fn keygen(out: &Path) -> Result<(), signing_keys::KeyError> {
    signing_keys::generate(out)
}
