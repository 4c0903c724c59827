//! Reads the last committed position record of a source.
//!
//! Reading starts at the tail and goes back only if it must, so that it stays fast after millions of records.

use rdkafka::message::Message as _;

use super::log_reader::LogReader;
use super::{SinkError, position_topic};
use crate::config::KafkaConfig;
use crate::position::PositionRecord;

/// How many offsets the first look covers; each further look covers sixteen times as many.
const FIRST_LOOK_OFFSETS: i64 = 64;

/// The last committed record, or `None` if there never was one.
///
/// # Errors
/// If the topic is missing, cannot be read to its end, or holds something else.
pub(super) fn last(config: &KafkaConfig, source: &str) -> Result<Option<PositionRecord>, SinkError> {
    let log = LogReader::open(config, source, position_topic(source))?;
    let found = last_of(&log);
    log.close();
    found
}

fn last_of(log: &LogReader) -> Result<Option<PositionRecord>, SinkError> {
    let mut look = FIRST_LOOK_OFFSETS;
    loop {
        let from = log.low().max(log.end().saturating_sub(look));
        let mut last = None;
        log.read(from, |message| last = message.payload().map(<[u8]>::to_vec))?;
        match last {
            Some(value) => return parse(log.topic(), &value).map(Some),
            None if from <= log.low() => return Ok(None),
            None => look = look.saturating_mul(16),
        }
    }
}

fn parse(topic: &str, value: &[u8]) -> Result<PositionRecord, SinkError> {
    serde_json::from_slice(value).map_err(|error| {
        SinkError::unavailable(format!("the last record of topic {topic} is no position: {error}"))
    })
}
