//! The outbox on real Postgres: atomic, byte for byte, one round trip.

mod support;
mod writing;
