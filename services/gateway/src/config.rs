//! The settings of the gateway.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use tailrace_runtime::{
    auth::Verifier,
    grpc,
    process::Misconfigured,
    settings::{AuthSettings, GrpcSettings, ProcessSettings},
};
use tailrace_topics::is_topic;

/// What differs from process to process: the ports.
pub const DEFAULTS: [(&str, &str); 2] = [("listen", "127.0.0.1:5005"), ("ops_listen", "127.0.0.1:9105")];

/// Streams the topics to subscribers over gRPC and gRPC-Web, and serves the page.
#[derive(Debug, Parser)]
#[command(name = "gateway", version)]
pub struct Cli {
    /// The settings.
    #[command(flatten)]
    pub settings: Settings,

    /// Check the settings, print `configuration ok` and stop.
    #[arg(long)]
    pub check_config: bool,

    /// None: run the gateway.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do in place of running.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Ask the running gateway's ops port whether it is ready; exit code 0 or 1.
    Probe,
}

/// All settings.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The process.
    #[command(flatten)]
    pub process: ProcessSettings,
    /// The gRPC port.
    #[command(flatten)]
    pub grpc: GrpcSettings,
    /// Tokens.
    #[command(flatten)]
    pub auth: AuthSettings,
    /// The topics.
    #[command(flatten)]
    pub topics: TopicSettings,
    /// The streams.
    #[command(flatten)]
    pub streams: StreamSettings,
    /// The page.
    #[command(flatten)]
    pub web: WebSettings,
}

/// Which topics are read, and how much of them is held.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Topics")]
pub struct TopicSettings {
    /// Kafka brokers to begin with, separated by commas.
    #[arg(
        long,
        env = "TAILRACE_KAFKA_BROKERS",
        value_name = "HOST:PORT,…",
        default_value = "127.0.0.1:19092"
    )]
    pub kafka_brokers: String,

    /// Topics to serve, separated by commas.
    #[arg(
        long,
        env = "TAILRACE_TOPICS",
        value_name = "TOPICS",
        value_delimiter = ',',
        default_value = "users.created,users.updated,users.deleted,orders.created,orders.cancelled"
    )]
    pub topics: Vec<String>,

    /// The topic of dead letters, served to operators.
    #[arg(long, env = "TAILRACE_DEAD_LETTER_TOPIC", value_name = "TOPIC", default_value = "dead-letter")]
    pub dead_letter_topic: String,

    /// How far before its end each partition is read from at the start, in offsets.
    #[arg(long, env = "TAILRACE_LOOK_BACK_OFFSETS", value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(0..))]
    pub look_back_offsets: i64,

    /// How much the events in memory may take, in bytes. Older ones are read from Kafka.
    #[arg(long, env = "TAILRACE_FEED_BYTES_MAX", value_name = "BYTES", default_value_t = 67_108_864)]
    pub feed_bytes_max: usize,

    /// How many subscribers may be brought older events from Kafka at a time; further ones wait.
    #[arg(long, env = "TAILRACE_REPLAYS_MAX", value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub replays_max: u16,
}

/// The limits of the streams.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streams")]
pub struct StreamSettings {
    /// Streams that the process serves at a time.
    #[arg(long, env = "TAILRACE_STREAMS_MAX", value_name = "COUNT", default_value_t = 10_000)]
    pub streams_max: usize,

    /// Streams that one user may have open at a time.
    #[arg(long, env = "TAILRACE_STREAMS_PER_PRINCIPAL_MAX", value_name = "COUNT", default_value_t = 100)]
    pub streams_per_principal_max: usize,

    /// After how long without another response a heartbeat is sent, with unit.
    #[arg(long, env = "TAILRACE_HEARTBEAT_INTERVAL", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub heartbeat_interval: Duration,

    /// How long a subscriber may take nothing while responses wait, until its stream is ended; with unit.
    #[arg(long, env = "TAILRACE_SEND_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub send_timeout: Duration,

    /// How much may wait for one subscriber, in bytes.
    #[arg(long, env = "TAILRACE_MAILBOX_BYTES_MAX", value_name = "BYTES", default_value_t = 262_144)]
    pub mailbox_bytes_max: usize,
}

/// The page and what it is told.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Page")]
pub struct WebSettings {
    /// Address of the page. Empty: it is not served.
    #[arg(long, env = "TAILRACE_WEB_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
    pub web_listen: String,

    /// The folder of the built page.
    #[arg(long, env = "TAILRACE_WEB_ROOT", value_name = "FOLDER", default_value = "web/dist")]
    pub web_root: PathBuf,

    /// Where the browser reaches the user service.
    #[arg(
        long,
        env = "TAILRACE_USER_SERVICE_URL",
        value_name = "URL",
        default_value = "http://localhost:5001"
    )]
    pub user_service_url: String,

    /// Where the browser reaches the order service.
    #[arg(
        long,
        env = "TAILRACE_ORDER_SERVICE_URL",
        value_name = "URL",
        default_value = "http://localhost:5002"
    )]
    pub order_service_url: String,

    /// Where the browser reaches the relay's admin API.
    #[arg(long, env = "TAILRACE_RELAY_URL", value_name = "URL", default_value = "http://localhost:5003")]
    pub relay_url: String,

    /// Where the browser reaches this gateway.
    #[arg(long, env = "TAILRACE_GATEWAY_URL", value_name = "URL", default_value = "http://localhost:5005")]
    pub gateway_url: String,

    /// E-mail of the demo account that the sign-in page offers to everybody. Empty: none. For demonstrations only.
    #[arg(
        long,
        env = "TAILRACE_DEMO_EMAIL",
        value_name = "EMAIL",
        default_value = "",
        hide_env_values = true
    )]
    pub demo_email: String,

    /// Password of the demo account; published like its e-mail.
    #[arg(
        long,
        env = "TAILRACE_DEMO_PASSWORD",
        value_name = "PASSWORD",
        default_value = "",
        hide_env_values = true
    )]
    pub demo_password: String,
}

/// What the page reads from `/config.json`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PageConfig<'a> {
    user_service_url: &'a str,
    order_service_url: &'a str,
    relay_url: &'a str,
    gateway_url: &'a str,
    demo: Option<DemoAccount<'a>>,
}

#[derive(Clone, Debug, Serialize)]
struct DemoAccount<'a> {
    email: &'a str,
    password: &'a str,
}

impl Settings {
    /// Checks what the parser cannot.
    pub fn check(&self) -> Result<(), Misconfigured> {
        grpc::check(&self.grpc)?;
        origin(&self.auth.auth_keys_url)
            .ok_or_else(|| not_a_url("TAILRACE_AUTH_KEYS_URL", &self.auth.auth_keys_url))?;
        Verifier::check(&self.auth)?;
        self.topics.check()?;
        self.streams.check()?;
        self.web.listen()?;
        self.web.origins().map(drop)
    }
}

impl StreamSettings {
    fn check(&self) -> Result<(), Misconfigured> {
        for (name, duration) in [
            ("TAILRACE_HEARTBEAT_INTERVAL", self.heartbeat_interval),
            ("TAILRACE_SEND_TIMEOUT", self.send_timeout),
        ] {
            if duration.is_zero() {
                return Err(Misconfigured::new(format!("{name}: set more than 0s, for example 10s")));
            }
        }
        Ok(())
    }
}

impl TopicSettings {
    fn check(&self) -> Result<(), Misconfigured> {
        if self.kafka_brokers.is_empty() {
            return Err(Misconfigured::new("TAILRACE_KAFKA_BROKERS: name at least one `host:port`"));
        }
        for topic in self.topics.iter().chain([&self.dead_letter_topic]) {
            if !is_topic(topic) {
                return Err(Misconfigured::new(format!(
                    "TAILRACE_TOPICS: {topic:?} is not a name of a Kafka topic"
                )));
            }
        }
        if self.topics.contains(&self.dead_letter_topic) {
            return Err(Misconfigured::new(format!(
                "TAILRACE_TOPICS: {:?} is the topic of dead letters, which is served to operators alone; leave it out",
                self.dead_letter_topic
            )));
        }
        Ok(())
    }
}

impl WebSettings {
    /// Where to serve the page, if at all.
    pub fn listen(&self) -> Result<Option<SocketAddr>, Misconfigured> {
        if self.web_listen.is_empty() {
            return Ok(None);
        }
        let refused = |_| {
            Misconfigured::new(format!(
                "TAILRACE_WEB_LISTEN: {:?} is not like 127.0.0.1:3000, or empty",
                self.web_listen
            ))
        };
        self.web_listen.parse().map(Some).map_err(refused)
    }

    /// The origins that the page calls.
    pub fn origins(&self) -> Result<Vec<&str>, Misconfigured> {
        [
            ("TAILRACE_USER_SERVICE_URL", &self.user_service_url),
            ("TAILRACE_ORDER_SERVICE_URL", &self.order_service_url),
            ("TAILRACE_RELAY_URL", &self.relay_url),
            ("TAILRACE_GATEWAY_URL", &self.gateway_url),
        ]
        .into_iter()
        .map(|(name, url)| {
            origin(url).ok_or_else(|| {
                Misconfigured::new(format!("{name}: {url:?} is not like http://localhost:5001"))
            })
        })
        .collect()
    }

    /// What the page is told.
    pub fn page(&self) -> PageConfig<'_> {
        let demo = (!self.demo_email.is_empty() && !self.demo_password.is_empty())
            .then_some(DemoAccount { email: &self.demo_email, password: &self.demo_password });
        PageConfig {
            user_service_url: &self.user_service_url,
            order_service_url: &self.order_service_url,
            relay_url: &self.relay_url,
            gateway_url: &self.gateway_url,
            demo,
        }
    }
}

fn not_a_url(name: &str, url: &str) -> Misconfigured {
    Misconfigured::new(format!("{name}: {url:?} is not like http://localhost:5001"))
}

/// Scheme, host and port of a URL, if they can stand in a header as they are.
fn origin(url: &str) -> Option<&str> {
    let scheme = ["http://", "https://"].into_iter().find(|scheme| url.starts_with(scheme))?;
    let authority = url[scheme.len()..].split('/').next()?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    (!authority.is_empty() && authority.chars().all(legal)).then(|| &url[..scheme.len() + authority.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(arguments: &[&str]) -> Settings {
        let arguments = ["gateway"].iter().chain(arguments);
        tailrace_runtime::settings::parse_from::<Cli>(arguments, &DEFAULTS)
            .expect("a legal command line")
            .settings
    }

    fn problem(arguments: &[&str]) -> String {
        settings(arguments).check().map_or_else(|problem| problem.to_string(), |()| "none".to_owned())
    }

    #[test]
    fn the_defaults_are_good() {
        let settings = settings(&[]);
        assert_eq!(settings.check(), Ok(()));
        let topics =
            ["users.created", "users.updated", "users.deleted", "orders.created", "orders.cancelled"];
        assert_eq!(settings.topics.topics, topics);
        assert_eq!(settings.grpc.listen.port(), 5005);
        assert_eq!(settings.web.listen(), Ok(Some(([127, 0, 0, 1], 3000).into())));
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        assert!(problem(&["--web-listen", "3000"]).starts_with("TAILRACE_WEB_LISTEN:"));
        assert!(problem(&["--topics", "a b"]).starts_with("TAILRACE_TOPICS:"));
        assert!(problem(&["--topics", "dead-letter"]).contains("operators alone"));
        assert!(problem(&["--relay-url", "http://x; script-src *"]).starts_with("TAILRACE_RELAY_URL:"));
        assert!(problem(&["--send-timeout", "0s"]).starts_with("TAILRACE_SEND_TIMEOUT:"));
    }

    #[test]
    fn the_page_is_off_when_its_address_is_empty() {
        assert_eq!(settings(&["--web-listen", ""]).web.listen(), Ok(None));
    }

    #[test]
    fn an_origin_has_no_path() {
        assert_eq!(origin("http://localhost:5001/api/"), Some("http://localhost:5001"));
        assert_eq!(origin("https://[::1]:1"), Some("https://[::1]:1"));
        for url in ["", "localhost:5001", "http://", "http:///x", "http://a b", "ftp://a"] {
            assert_eq!(origin(url), None, "{url}");
        }
    }

    #[test]
    fn the_demo_account_is_told_only_when_it_is_whole() {
        let json = |arguments: &[&str]| serde_json::to_value(settings(arguments).web.page()).expect("JSON");
        assert_eq!(json(&["--demo-email", "a@b.c"])["demo"], serde_json::Value::Null);
        let page = json(&["--demo-email", "a@b.c", "--demo-password", "secret"]);
        assert_eq!(page["demo"]["password"], "secret");
        assert_eq!(page["gatewayUrl"], "http://localhost:5005");
    }
}
