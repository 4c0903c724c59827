//! Writes versions of seven keys, and knows what must arrive.

use std::collections::BTreeMap;

use crate::support::{Source, check_exactly_once};

/// A writer's memory: the last version of each key.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) versions: BTreeMap<String, i64>,
    pub(crate) count: usize,
}

impl Writer {
    /// Commits transactions of `rows` events over seven keys.
    pub(crate) async fn write(&mut self, source: &Source<'_>, transactions: usize, rows: usize) {
        for _ in 0..transactions {
            let events: Vec<(String, i64)> = (0..rows).map(|_| self.next()).collect();
            source.write(events.iter().map(|(key, version)| (key.as_str(), *version))).await;
        }
    }

    pub(crate) fn next(&mut self) -> (String, i64) {
        let key = format!("k{}", self.count % 7);
        self.count += 1;
        let version = self.versions.entry(key.clone()).or_default();
        *version += 1;
        (key, *version)
    }

    pub(crate) async fn check(&self, source: &Source<'_>) {
        check_exactly_once(&source.published(&source.topic(), self.count).await, &self.versions);
    }
}
