//! What a process needs before it knows its business: settings, boot, signals and drain, telemetry, the ops
//! port, the gRPC server, tokens, errors on the wire and the way to Postgres.
//!
//! It knows the contract only as far as reflection and token keys ask for it; it knows no aggregate, no event and
//! no topic.
//!
//! ```text
//! main.rs ──► settings::parse ──► process::main ──► run(config, context) ──► grpc::serve
//!                                   │  telemetry, signals, ops port              │ request id, trace, log, metrics, rates,
//!                                   └─ drain deadline, exit code                 └ CORS, gRPC-Web, reflection, health
//! ```

pub mod access;
pub mod auth;
pub mod client;
pub mod clock;
pub mod error;
pub mod follow;
pub mod grpc;
pub mod health;
pub mod ops;
pub mod page;
pub mod postgres;
pub mod probe;
pub mod process;
mod rate;
pub mod request;
pub mod resource;
pub mod settings;
pub mod shutdown;
pub mod task;
pub mod telemetry;
pub mod tls;
