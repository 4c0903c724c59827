//! Reads committed records of Kafka topics, from offsets that the reader itself keeps: in memory as the gateway does, or in
//! the same Postgres transaction as what was made of the records, as the order service does.
//!
//! ```text
//!  Kafka ─► Reader (a client, each partition apart) ─► Consumer (one thread, recovers alone) ─► Sink (the caller's)
//! ```
//!
//! No group is joined and no offset is committed to Kafka. This is the only crate of the services that names rdkafka.

mod consumer;
mod kafka;

pub use consumer::{Broken, Consumer, Failure, Positions, Sink};
pub use kafka::{Client, Kafka, Look, Message, Partition, Read, Reader, Record, is_topic, look, watermarks};
pub use rdkafka::error::{KafkaError, KafkaResult};
