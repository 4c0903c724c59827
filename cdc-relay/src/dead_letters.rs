//! `cdc-relay dead-letters`: asks the running relay what is parked, and to release it.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use tailrace::relay::v1::relay_service_client::RelayServiceClient;
use tailrace::relay::v1::{
    DeadLetter, DiscardDeadLetterRequest, ListDeadLettersRequest, ListSourcesRequest,
    RedriveDeadLetterRequest,
};
use tailrace_runtime::tls::Trust;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Whom to ask, and what.
#[derive(Args, Debug)]
pub struct DeadLetters {
    /// The running relay.
    #[arg(
        long,
        env = "TAILRACE_RELAY",
        value_name = "URL",
        default_value = "http://127.0.0.1:5003",
        global = true
    )]
    relay: String,

    /// A PEM file with the authorities to trust there. Needed by an https URL.
    #[arg(long, env = "TAILRACE_RELAY_CA_FILE", value_name = "FILE", global = true)]
    relay_ca_file: Option<PathBuf>,

    /// A PEM file with the certificate to show there, if one is required.
    #[arg(long, env = "TAILRACE_RELAY_CERT_FILE", value_name = "FILE", global = true)]
    relay_cert_file: Option<PathBuf>,

    /// A PEM file with that certificate's private key.
    #[arg(long, env = "TAILRACE_RELAY_KEY_FILE", value_name = "FILE", global = true)]
    relay_key_file: Option<PathBuf>,

    /// A file with an operator's token; without it the environment variable TAILRACE_TOKEN is read.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the dead letters that hold their keys, oldest first.
    List {
        /// Only of this source.
        #[arg(long, value_name = "NAME")]
        source: Option<String>,
    },
    /// Tries dead letters again under the rules of now, and publishes what waits behind them, in order and exactly once.
    Redrive(Which),
    /// Gives dead letters up, and publishes what waits behind them, in order and exactly once.
    Discard(Which),
}

#[derive(Args, Debug)]
struct Which {
    /// As `list` shows them: sources/SOURCE/deadLetters/POSITION.
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "NAME")]
    names: Vec<String>,

    /// Every dead letter there is now.
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy)]
enum Action {
    Redrive,
    Discard,
}

/// Carries out the command; `variable` looks up environment variables.
///
/// # Errors
/// If the relay cannot be asked, or refuses; what it said is the text.
pub async fn run(asked: DeadLetters, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<()> {
    let token = token(asked.token_file.as_ref(), variable)?;
    let channel = connect(&asked).await?;
    let mut relay = Relay { client: RelayServiceClient::new(channel), token };
    match asked.command {
        Command::List { source } => relay.print_all(source).await,
        Command::Redrive(which) => relay.release(which, Action::Redrive).await,
        Command::Discard(which) => relay.release(which, Action::Discard).await,
    }
}

async fn connect(asked: &DeadLetters) -> anyhow::Result<Channel> {
    let url = &asked.relay;
    let endpoint = Channel::from_shared(url.clone()).with_context(|| format!("--relay {url} is no URL"))?;
    let connected = match endpoint.uri().scheme_str() {
        Some("https") => {
            let trust = Trust::from_files(
                ("TAILRACE_RELAY_CA_FILE", &asked.relay_ca_file),
                ("TAILRACE_RELAY_CERT_FILE", &asked.relay_cert_file),
                ("TAILRACE_RELAY_KEY_FILE", &asked.relay_key_file),
            )?;
            trust.connect(&endpoint).await
        }
        _ => endpoint.connect().await,
    };
    connected.with_context(|| format!("no relay answers at {url}"))
}

fn token(
    file: Option<&PathBuf>,
    variable: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<MetadataValue<Ascii>> {
    let token = match file {
        Some(path) => fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => variable("TAILRACE_TOKEN")
            .context("no token: set TAILRACE_TOKEN or --token-file to an operator's")?,
    };
    format!("Bearer {}", token.trim()).parse().context("the token is not one")
}

struct Relay {
    client: RelayServiceClient<Channel>,
    token: MetadataValue<Ascii>,
}

impl Relay {
    async fn print_all(&mut self, source: Option<String>) -> anyhow::Result<()> {
        let letters = self.list(source).await?;
        let mut out = io::stdout().lock();
        for letter in &letters {
            writeln!(
                out,
                "{}  {}  {}  {} waiting  {}",
                letter.name, letter.subject, letter.event_type, letter.waiting_events, letter.message
            )?;
        }
        if letters.is_empty() {
            writeln!(out, "no key is parked")?;
        }
        Ok(())
    }

    /// Each by itself: one that is still refused does not keep the others back.
    async fn release(&mut self, which: Which, action: Action) -> anyhow::Result<()> {
        let names = if which.all {
            self.list(None).await?.into_iter().map(|letter| letter.name).collect()
        } else {
            which.names
        };
        let mut refused = 0;
        for name in &names {
            let line = match self.release_one(name, action).await {
                Ok((published, None)) => format!("{name}  {published} published, the key is free"),
                Ok((published, Some(next))) => {
                    format!(
                        "{name}  {published} published, the key is held by {}: {}",
                        next.name, next.message
                    )
                }
                Err(status) => {
                    refused += 1;
                    format!("{name}  {}", status.message())
                }
            };
            writeln!(io::stdout(), "{line}")?;
        }
        match refused {
            0 => Ok(()),
            _ => bail!("{refused} of {} could not be released", names.len()),
        }
    }

    async fn release_one(&mut self, name: &str, action: Action) -> Result<(i64, Option<DeadLetter>), Status> {
        let name = name.to_owned();
        match action {
            Action::Redrive => {
                let request = self.signed(RedriveDeadLetterRequest { name });
                let done = self.client.redrive_dead_letter(request).await?.into_inner();
                Ok((done.published_events, done.next))
            }
            Action::Discard => {
                let request = self.signed(DiscardDeadLetterRequest { name });
                let done = self.client.discard_dead_letter(request).await?.into_inner();
                Ok((done.published_events, done.next))
            }
        }
    }

    async fn list(&mut self, source: Option<String>) -> anyhow::Result<Vec<DeadLetter>> {
        let parents = match source {
            Some(name) => vec![format!("sources/{name}")],
            None => self.sources().await?,
        };
        let mut letters = Vec::new();
        for parent in parents {
            let mut page_token = String::new();
            loop {
                let request = ListDeadLettersRequest { parent: parent.clone(), page_size: 1000, page_token };
                let request = self.signed(request);
                let page =
                    self.client.list_dead_letters(request).await.map_err(|status| said(&parent, &status))?;
                let page = page.into_inner();
                letters.extend(page.dead_letters);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
        }
        Ok(letters)
    }

    async fn sources(&mut self) -> anyhow::Result<Vec<String>> {
        let request = self.signed(ListSourcesRequest { page_size: 1000, page_token: String::new() });
        let sources = self.client.list_sources(request).await.map_err(|status| said("the relay", &status))?;
        Ok(sources.into_inner().sources.into_iter().map(|source| source.name).collect())
    }

    fn signed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }
}

/// What the relay said; what broke the connection, if it could say nothing.
fn said(whom: &str, status: &Status) -> anyhow::Error {
    match anyhow::Chain::new(status).skip(1).last() {
        Some(cause) => anyhow::anyhow!("{whom}: {cause}"),
        None => anyhow::anyhow!("{whom}: {}", status.message()),
    }
}
