//! A source of the relay: whose log, through which slot, into which topic, and the configuration that says so.

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use xtask::settings::Settings;

use super::outbox::{EVENT_TYPE, PUBLICATION};
use super::servers::Servers;

/// What is promised of each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Delivery {
    ExactlyOnce,
    AtLeastOnce,
}

impl Delivery {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "exactly once",
            Self::AtLeastOnce => "at least once",
        }
    }

    fn setting(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "exactly-once",
            Self::AtLeastOnce => "at-least-once",
        }
    }
}

/// One `[[source]]`.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) database: String,
    pub(super) topic: String,
    pub(super) delivery: Delivery,
}

impl Source {
    /// A source of that database, with a topic of its own.
    pub(super) fn new(name: impl Into<String>, database: &str, delivery: Delivery) -> Self {
        let name = name.into();
        Self { topic: format!("{name}.made"), name, database: database.to_owned(), delivery }
    }

    /// Its replication slot.
    pub(super) fn slot(&self) -> String {
        format!("tailrace_{}", self.name)
    }
}

/// As `deploy/relay.toml`: nothing is tuned for the measurement. All sources share the first one's topic.
pub(super) fn configuration(servers: &Servers, sources: &[Source]) -> Result<String> {
    let password = Settings::get().value("CDC_RELAY_PASSWORD")?;
    let mut text = format!(
        "[kafka]\nbootstrap_servers = \"{}\"\ndead_letter_topic = \"dead-letter\"\n",
        servers.kafka.bootstrap()
    );
    for source in sources {
        text.push_str(&format!(
            "[[source]]\nname = \"{}\"\nurl = \"{}\"\nslot = \"{}\"\npublication = \"{PUBLICATION}\"\ndelivery = \"{}\"\n",
            source.name,
            servers.postgres.url("cdc_relay", &password, &source.database),
            source.slot(),
            source.delivery.setting(),
        ));
    }
    if let Some(first) = sources.first() {
        text.push_str(&format!("[[route]]\nevent_type = \"{EVENT_TYPE}\"\ntopic = \"{}\"\n", first.topic));
    }
    Ok(text)
}
