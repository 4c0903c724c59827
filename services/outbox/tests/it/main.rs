//! The outbox on real Postgres: atomic, byte for byte, one round trip; its days come and go.

mod partitions;
mod support;
mod writing;
