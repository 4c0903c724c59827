//! The way to Postgres, against a real server and, for what no real server does on demand, a scripted one.

mod catalog;
mod encryption;
mod endings;
mod lease;
mod refusals;
mod scripted;
mod streaming;
mod support;
