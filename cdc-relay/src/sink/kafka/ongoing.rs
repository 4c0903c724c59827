//! Aborts the transaction that a killed relay left open.
//!
//! Initialising the producer would abort it too. But the client library asks only every 500 ms whether the coordinator is
//! done, and a source that was killed waits for nothing else; so the id is initialised here first, which takes as long as
//! the coordinator does.

use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::InitProducerIdRequest;

use super::SinkError;
use super::cluster::Cluster;
use super::producer::TRANSACTION_TIMEOUT_MS;
use super::wire::text;

/// After this the rest is left to the client library.
const ABORT_DEADLINE: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Aborts the transaction of the id. What the coordinator refuses is left to the initialisation, which says why.
pub(super) fn abort(cluster: &Cluster, id: &str) -> Result<(), SinkError> {
    let deadline = Instant::now() + ABORT_DEADLINE;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(text(id).into()))
        .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS);
    let Ok(mut coordinator) = cluster.coordinator(id)? else { return Ok(()) };
    while Instant::now() < deadline {
        let answer = coordinator.call(1, &request)?;
        match ResponseError::try_from_code(answer.error_code) {
            Some(ResponseError::ConcurrentTransactions) => thread::sleep(POLL_INTERVAL),
            error => {
                tracing::debug!(kafka.transactional_id = id, kafka.error = ?error, "initialised to abort");
                return Ok(());
            }
        }
    }
    Ok(())
}
