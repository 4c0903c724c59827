//! Where the brokers and a source's partitions are, and the ways to them.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::FindCoordinatorRequest;

use super::SinkError;
use super::security::Security;
use super::wire::{Connection, text};

/// FindCoordinator's type of key.
const TRANSACTION: i8 = 1;

/// The brokers, and the partitions of a source's topics.
pub(super) struct Cluster {
    /// `host:port` of each broker.
    pub(super) brokers: BTreeMap<i32, String>,
    pub(super) partitions: Vec<Partition>,
    pub(super) security: Security,
}

/// A partition of a source's topics.
pub(super) struct Partition {
    pub(super) topic: String,
    pub(super) id: i32,
    /// The broker that leads it.
    pub(super) leader: i32,
}

impl Cluster {
    /// Connects to a broker.
    pub(super) fn connect(&self, broker: i32) -> Result<Connection, SinkError> {
        let address = self.brokers.get(&broker);
        let address = address.ok_or_else(|| {
            SinkError::unavailable("a partition of ours has no leader: its brokers are down")
        })?;
        Connection::open(address, &self.security)
    }

    /// Connects to whichever broker answers.
    pub(super) fn any_broker(&self) -> Result<Connection, SinkError> {
        let mut last = SinkError::unavailable("Kafka names no broker");
        for address in self.brokers.values() {
            match Connection::open(address, &self.security) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects to the coordinator of a transactional id; an `Err` in the answer is why there is none.
    pub(super) fn coordinator(&self, id: &str) -> Result<Result<Connection, ResponseError>, SinkError> {
        let request = FindCoordinatorRequest::default().with_key(text(id)).with_key_type(TRANSACTION);
        let found = self.any_broker()?.call(1, &request)?;
        if let Some(error) = ResponseError::try_from_code(found.error_code) {
            return Ok(Err(error));
        }
        Connection::open(&format!("{}:{}", found.host.as_str(), found.port), &self.security).map(Ok)
    }
}
