//! Reads the topic of a source's parked events: all of it for a takeover, one key of it for a release.

use std::collections::BTreeMap;

use rdkafka::message::Message as _;

use super::log_reader::LogReader;
use super::{SinkError, parked_topic};
use crate::config::KafkaConfig;
use crate::parking::{ParkingKey, Scan, Waiting};

/// What is parked.
pub(super) fn all(config: &KafkaConfig, source: &str) -> Result<Scan, SinkError> {
    let log = LogReader::open(config, source, parked_topic(source))?;
    let mut scan = Scan::default();
    log.read(log.low(), |message| scan.take(message.key().unwrap_or_default(), message.payload()))?;
    log.close();
    Ok(scan)
}

/// The first events that are parked of a key, in order: at least one, if there is one, and no more than have
/// `bytes_max`. Two passes, because what is released lies before what is not until the topic is compacted.
pub(super) fn piece(
    config: &KafkaConfig,
    source: &str,
    key: &ParkingKey,
    bytes_max: usize,
) -> Result<Vec<Waiting>, SinkError> {
    let log = LogReader::open(config, source, parked_topic(source))?;
    let mut released = None;
    log.read(log.low(), |message| {
        let position = key.position_in(message.key().unwrap_or_default());
        if message.payload().is_none() {
            released = released.max(position);
        }
    })?;
    let mut piece = BTreeMap::new();
    let mut bytes = 0;
    log.read(log.low(), |message| {
        let record_key = message.key().unwrap_or_default();
        let position = key.position_in(record_key).filter(|position| Some(*position) > released);
        let waiting = message.payload().and_then(|value| Waiting::parse(record_key, value));
        let (Some(position), Some(waiting)) = (position, waiting) else { return };
        bytes += waiting.record.memory_size();
        if let Some(before) = piece.insert(position, waiting) {
            bytes -= before.record.memory_size();
        }
        while bytes > bytes_max && piece.len() > 1 {
            if let Some((_, last)) = piece.pop_last() {
                bytes -= last.record.memory_size();
            }
        }
    })?;
    log.close();
    Ok(piece.into_values().collect())
}
