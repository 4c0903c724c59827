//! The configuration file: sources, routes and Kafka, in TOML.
//!
//! Parsed once and purely: text and a look-up of environment variables go in, a [`Config`] comes out or one line that
//! names what to mend. `${NAME}` in a value stands for an environment variable, so that secrets and addresses stay out
//! of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};
use tokio_postgres::config::ChannelBinding;

use crate::engine::Table;
use crate::record::HeaderSet;
use crate::router::Route;
use crate::row::ColumnNames;
use crate::source::{ReplicationOptions, Secret, TlsMode};

/// Everything the relay needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster the events go to.
    pub kafka: KafkaConfig,
    /// The databases they come from.
    pub sources: Vec<SourceConfig>,
    /// Which event goes to which topic.
    pub routes: Vec<Route>,
}

/// The `[kafka]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// The brokers to ask first, `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// The topic of dead letters.
    #[serde(default = "default_dead_letter_topic")]
    pub dead_letter_topic: String,
    /// The largest record that may be sent, in bytes; the topics must take as much.
    #[serde(default = "default_record_bytes_max")]
    pub record_bytes_max: usize,
    /// The headers that events are sent with, unless their route says otherwise.
    #[serde(default)]
    pub headers: HeaderSet,
    /// The number of partitions of the event topics that `init` makes.
    #[serde(default = "default_topic_partitions")]
    pub topic_partitions: i32,
    /// The number of replicas of the topics that `init` makes.
    #[serde(default = "default_replication_factor")]
    pub replication_factor: i32,
    /// Further properties of librdkafka, such as `security.protocol`.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

impl KafkaConfig {
    /// The smallest room for framing around the largest record, in bytes.
    const REQUEST_FRAMING_BYTES: usize = 4_096;

    /// The largest request, in bytes.
    pub fn request_bytes_max(&self) -> usize {
        self.record_bytes_max + Self::REQUEST_FRAMING_BYTES
    }
}

/// One `[[source]]`.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// The name: part of topic names and transactional ids, so it must not change.
    pub name: String,
    /// The way to the database.
    pub connection: ReplicationOptions,
    /// The replication slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// The outbox table.
    pub table: Table,
    /// Its columns.
    pub columns: ColumnNames,
    /// How many bytes of records may wait in memory; a larger transaction is split over several of Kafka's.
    pub buffer_bytes_max: usize,
    /// How often an idle source's position is recorded.
    pub idle_position_interval: Duration,
    /// How many keys may be parked before the source halts.
    pub parked_keys_max: usize,
    /// What is promised of each event.
    pub delivery: Delivery,
}

/// What is promised of each event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Events and position in one Kafka transaction: a `read_committed` reader sees each event once.
    #[default]
    ExactlyOnce,
    /// Events by an idempotent producer, seen at once by every reader; again after a crash.
    AtLeastOnce,
}

impl Config {
    /// Reads the file; `variable` looks up environment variables.
    ///
    /// # Errors
    /// One line that names the file, the place and the mend.
    pub fn load(path: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("cannot read {}: {error}", path.display())))?;
        Self::parse(&text, variable).map_err(|error| ConfigError(format!("{}: {error}", path.display())))
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// One line that names the place and the mend.
    pub fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut table: toml::Table = text.parse().map_err(|error| one_line(&error))?;
        for value in table.iter_mut().map(|(_, value)| value) {
            substitute(value, &variable)?;
        }
        let file: File = table.try_into().map_err(|error| one_line(&error))?;
        if file.source.is_empty() {
            return Err(ConfigError("no [[source]]: name at least one database".into()));
        }
        if file.route.is_empty() {
            return Err(ConfigError("no [[route]]: say which events go to which topic".into()));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = file.source.iter().find(|source| !names.insert(source.name.clone())) {
            return Err(ConfigError(format!("two sources are named {}", twice.name)));
        }
        let sources = file.source.into_iter().map(SourceSection::parse).collect::<Result<_, _>>()?;
        let routes = file.route.iter().map(|route| route.route(file.kafka.headers)).collect();
        Ok(Self { kafka: file.kafka, sources, routes })
    }
}

/// A configuration that cannot be used, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kafka: KafkaConfig,
    #[serde(default)]
    source: Vec<SourceSection>,
    #[serde(default)]
    route: Vec<RouteSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceSection {
    name: String,
    url: String,
    password: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    slot: String,
    publication: String,
    #[serde(default = "default_table")]
    table: String,
    #[serde(default)]
    columns: ColumnNames,
    #[serde(default = "default_buffer_bytes_max")]
    buffer_bytes_max: usize,
    #[serde(default = "default_idle_position_interval", deserialize_with = "duration")]
    idle_position_interval: Duration,
    #[serde(default = "default_parked_keys_max")]
    parked_keys_max: usize,
    #[serde(default)]
    delivery: Delivery,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteSection {
    event_type: String,
    topic: String,
    headers: Option<HeaderSet>,
    #[serde(default)]
    topic_properties: BTreeMap<String, String>,
}

impl RouteSection {
    fn route(&self, usual: HeaderSet) -> Route {
        Route::new(&self.event_type, &self.topic)
            .with_headers(self.headers.unwrap_or(usual))
            .with_topic_properties(self.topic_properties.clone())
    }
}

impl SourceSection {
    /// Less could not hold one row of an ordinary outbox.
    const BUFFER_BYTES_MIN: usize = 64 * 1024;

    fn parse(self) -> Result<SourceConfig, ConfigError> {
        let name = self.name.clone();
        self.parse_parts().map_err(|problem| ConfigError(format!("source {name}: {problem}")))
    }

    fn parse_parts(self) -> Result<SourceConfig, String> {
        if !is_source_name(&self.name) {
            return Err("a name is 1 to 48 of a-z, 0-9, _ and -, and begins with a letter".into());
        }
        if !is_slot_name(&self.slot) {
            return Err("slot is 1 to 63 of a-z, 0-9 and _, as Postgres asks".into());
        }
        if self.buffer_bytes_max < Self::BUFFER_BYTES_MIN {
            return Err(format!("buffer_bytes_max must be at least {} bytes", Self::BUFFER_BYTES_MIN));
        }
        let (schema, table) = self.table.split_once('.').unwrap_or(("public", &self.table));
        Ok(SourceConfig {
            connection: self.connection()?,
            table: Table { schema: schema.to_owned(), name: table.to_owned() },
            name: self.name,
            slot: self.slot,
            publication: self.publication,
            columns: self.columns,
            buffer_bytes_max: self.buffer_bytes_max,
            idle_position_interval: self.idle_position_interval,
            parked_keys_max: self.parked_keys_max,
            delivery: self.delivery,
        })
    }

    fn connection(&self) -> Result<ReplicationOptions, String> {
        let url = tokio_postgres::Config::from_str(&self.url)
            .map_err(|error| format!("url is not postgres://USER@HOST:PORT/DATABASE: {error}"))?;
        let host = match url.get_hosts() {
            [tokio_postgres::config::Host::Tcp(host)] => host.clone(),
            _ => return Err("url must name one TCP host".into()),
        };
        let port = url.get_ports().first().copied().unwrap_or(5432);
        let user = url.get_user().ok_or("url names no user")?;
        let database = url.get_dbname().ok_or("url names no database")?;
        let mut options = ReplicationOptions::new(host, port, user, database);
        options.application_name = format!("tailrace-relay/{}", self.name);
        options.password = self.password(url.get_password())?.map(Secret::new);
        options.tls = self.tls(url.get_ssl_mode())?;
        options.channel_binding_required = match (url.get_channel_binding(), &options.tls) {
            (ChannelBinding::Require, TlsMode::Disable) => {
                return Err("url has channel_binding=require, which needs TLS: set ca_file".into());
            }
            (ChannelBinding::Require, TlsMode::Require | TlsMode::VerifyFull(_)) => true,
            _ => false,
        };
        Ok(options)
    }

    fn password(&self, in_url: Option<&[u8]>) -> Result<Option<String>, String> {
        if let Some(path) = &self.password_file {
            let text = fs::read_to_string(path)
                .map_err(|error| format!("cannot read password_file {}: {error}", path.display()))?;
            return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        let in_url = in_url.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Ok(self.password.clone().or(in_url))
    }

    fn tls(&self, mode: tokio_postgres::config::SslMode) -> Result<TlsMode, String> {
        if let Some(path) = &self.ca_file {
            let pem =
                fs::read(path).map_err(|error| format!("cannot read ca_file {}: {error}", path.display()))?;
            return TlsMode::verify_full(&pem)
                .map_err(|error| format!("ca_file {}: {error}", path.display()));
        }
        let is_required = mode == tokio_postgres::config::SslMode::Require;
        Ok(if is_required { TlsMode::Require } else { TlsMode::Disable })
    }
}

/// As the contract writes it down for `sources/{source}`.
pub(crate) fn is_source_name(name: &str) -> bool {
    name.len() <= 48
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
}

/// Postgres's own rule; servers do not agree on the error for a name outside it.
fn is_slot_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Replaces `${NAME}` in every text of the value.
fn substitute(
    value: &mut toml::Value,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    match value {
        toml::Value::String(text) => {
            let mut filled = String::with_capacity(text.len());
            let mut rest = text.as_str();
            while let Some((before, from_name)) = rest.split_once("${") {
                let (name, after) = from_name
                    .split_once('}')
                    .ok_or_else(|| ConfigError("a ${ in a value has no closing brace".into()))?;
                let found = variable(name).ok_or_else(|| {
                    ConfigError(format!("the environment variable {} is not set", name.escape_debug()))
                })?;
                filled.push_str(before);
                filled.push_str(&found);
                rest = after;
            }
            filled.push_str(rest);
            *text = filled;
        }
        toml::Value::Array(values) => {
            for value in values {
                substitute(value, variable)?;
            }
        }
        toml::Value::Table(table) => {
            for (_, value) in table.iter_mut() {
                substitute(value, variable)?;
            }
        }
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => {}
    }
    Ok(())
}

/// TOML's errors draw the place over several lines; ours are one.
fn one_line(error: &toml::de::Error) -> ConfigError {
    let message = error.message().lines().collect::<Vec<_>>().join(" ");
    ConfigError(message)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(D::Error::custom)
}

fn default_dead_letter_topic() -> String {
    "dead-letter".into()
}

const fn default_record_bytes_max() -> usize {
    1_000_000
}

const fn default_topic_partitions() -> i32 {
    4
}

const fn default_replication_factor() -> i32 {
    1
}

fn default_table() -> String {
    "public.outbox".into()
}

const fn default_buffer_bytes_max() -> usize {
    3 * 1024 * 1024
}

const fn default_parked_keys_max() -> usize {
    100_000
}

const fn default_idle_position_interval() -> Duration {
    Duration::from_secs(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [kafka]
        bootstrap_servers = "${BROKERS}"

        [[source]]
        name = "users"
        url = "postgres://cdc_relay@127.0.0.1:15432/users"
        password = "${SECRET}"
        slot = "tailrace_users"
        publication = "tailrace_outbox"

        [[route]]
        event_type = "users.*"
        topic = "{event_name}"
    "#;

    fn variables(name: &str) -> Option<String> {
        match name {
            "BROKERS" => Some("127.0.0.1:19092".into()),
            "SECRET" => Some("hunter2".into()),
            _ => None,
        }
    }

    #[track_caller]
    fn check_refused(text: &str, words: &str) {
        let error = Config::parse(text, variables).expect_err("it cannot be used").to_string();
        assert!(error.contains(words), "{error:?} does not say {words:?}");
        assert!(!error.contains('\n'), "{error:?} is more than one line");
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = Config::parse(GOOD, variables).expect("a good file");
        assert_eq!(config.kafka.bootstrap_servers, "127.0.0.1:19092");
        let source = &config.sources[0];
        assert_eq!((source.table.schema.as_str(), source.table.name.as_str()), ("public", "outbox"));
        assert_eq!(source.connection.password.as_ref().map(Secret::expose), Some("hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"), "a secret is not printed");
    }

    #[test]
    fn headers_are_chosen_for_all_and_by_route() {
        let text = GOOD.replace("[[source]]", "headers = \"debezium\"\n[[source]]")
            + "[[route]]\nevent_type = \"orders.*\"\ntopic = \"orders\"\nheaders = \"minimal\"\n";
        let routes = Config::parse(&text, variables).expect("a good file").routes;
        let expected = [
            Route::new("users.*", "{event_name}").with_headers(HeaderSet::Debezium),
            Route::new("orders.*", "orders").with_headers(HeaderSet::Minimal),
        ];
        assert_eq!(routes, expected);
        check_refused(&text.replace("minimal", "all"), "minimal");
    }

    #[test]
    fn the_topic_of_a_route_is_made_with_its_properties() {
        let text = GOOD.to_owned() + "topic_properties = { \"retention.ms\" = \"-1\" }\n";
        let routes = Config::parse(&text, variables).expect("a good file").routes;
        let expected = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
        assert_eq!(routes[0].topic_properties(), &expected);
    }

    #[test]
    fn a_half_written_file_is_refused_in_one_line() {
        check_refused("", "kafka");
        check_refused("[kafka\n", "");
        check_refused("[kafka]\nbootstrap_servers = \"a:1\"\n", "no [[source]]");
        check_refused(&GOOD.replace("[[route]]", "[[rout]]"), "rout");
        check_refused(&GOOD.replace("slot = \"tailrace_users\"", ""), "slot");
        check_refused(&GOOD.replace("tailrace_users", "Tailrace users"), "slot is 1 to 63 of");
        check_refused(&GOOD.replace("tailrace_users", ""), "slot is 1 to 63 of");
        check_refused(&GOOD.replace("${SECRET}", "${ABSENT}"), "ABSENT is not set");
        check_refused(&GOOD.replace("\"users\"\n        url", "\"Users!\"\n        url"), "a name is");
        check_refused(&GOOD.replace("postgres://", "mysql://"), "source users: url");
        check_refused(&GOOD.replace("15432/users", "15432/users?channel_binding=require"), "which needs TLS");
        let (head, tail) = GOOD.split_once("[[route]]").expect("a route");
        let source = &head[head.find("[[source]]").expect("a source")..];
        check_refused(&format!("{head}{source}[[route]]{tail}"), "two sources are named users");
    }
}
