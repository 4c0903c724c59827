//! What is written into an outbox row.

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;

/// Something that happened to an aggregate.
#[derive(Clone, Debug)]
pub struct Event {
    pub(crate) id: Uuid,
    pub(crate) aggregate_type: &'static str,
    pub(crate) aggregate_id: String,
    pub(crate) aggregate_version: i64,
    pub(crate) event_type: &'static str,
    pub(crate) payload: String,
    pub(crate) headers: String,
    pub(crate) owner: Option<String>,
}

/// The payload cannot be written as JSON.
#[derive(Debug, thiserror::Error)]
#[error("the payload of an event cannot be written as JSON")]
pub struct EventError(#[from] serde_json::Error);

impl Event {
    /// An event of the type `event_type` about version `aggregate_version` of an aggregate, visible to operators only until
    /// [`Event::owned_by`]. The payload is serialised here, once; these bytes are what subscribers get.
    pub fn new(
        event_type: &'static str,
        aggregate_type: &'static str,
        aggregate_id: Uuid,
        aggregate_version: i64,
        payload: &impl Serialize,
    ) -> Result<Self, EventError> {
        assert!(aggregate_version > 0, "versions count from 1");
        Ok(Self {
            id: Uuid::now_v7(),
            aggregate_type,
            aggregate_id: aggregate_id.to_string(),
            aggregate_version,
            event_type,
            payload: serde_json::to_string(payload)?,
            headers: "{}".to_owned(),
            owner: None,
        })
    }

    /// Lets the user `owner` (`users/{user}`) see the event.
    #[must_use]
    pub fn owned_by(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Hands on where in a trace the event was caused, as W3C headers.
    pub fn traced(mut self, traceparent: Option<&str>, tracestate: Option<&str>) -> Result<Self, EventError> {
        let headers: BTreeMap<&str, &str> = [("traceparent", traceparent), ("tracestate", tracestate)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        self.headers = serde_json::to_string(&headers)?;
        Ok(self)
    }

    /// The event's id, a UUID of version 7.
    pub fn id(&self) -> Uuid {
        self.id
    }
}
