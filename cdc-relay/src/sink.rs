//! Where batches go. Only Kafka so far.

pub mod kafka;
