//! The Rust client of Tailrace: generated messages and clients, and a small shell around them.
//!
//! ```text
//! Tailrace ── orders(), users(), … ─▶ Calls: token ─▶ retry ─▶ Channel
//!    │                                   └── Session: sign in, refresh
//!    ├── pages(request)                  every page of a list
//!    └── watch(request)                  resumes after the last cursor
//! ```
//!
//! It holds a watch's cursor and a session's tokens, in memory only.

mod backoff;
mod calls;
mod client;
mod failure;
mod methods;
mod pages;
mod proto;
mod request_id;
mod retry;
mod session;
mod watch;

pub use backoff::Backoff;
pub use calls::Calls;
pub use client::{Channels, Endpoints, Tailrace, connect, connect_through};
pub use failure::{Failure, failure_of};
pub use methods::is_repeatable;
pub use pages::List;
pub use proto::google;
pub use proto::tailrace::{auth, event, order, relay, stream, user};
pub use request_id::new_request_id;
pub use retry::RetryOptions;
pub use session::{Credentials, Password};
pub use tonic::{Code, Status};
pub use watch::{Watch, WatchOptions, WatchState};
