//! An operator: publishes a key, signs a token with it, and runs `cdc-relay dead-letters`.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::thread;

use service_testing::Authority;
use tailrace_runtime::auth::OPERATOR_ROLE;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::support::{Relay, relay_command};

const ADA: &str = "users/ada";

static SERVED: LazyLock<Served> = LazyLock::new(Served::start);

/// The authority, and where it publishes its key.
struct Served {
    keys_url: String,
    authority: Authority,
}

/// Where the relay gets its keys from.
pub(crate) fn keys_url() -> &'static str {
    &SERVED.keys_url
}

impl Served {
    /// On a thread of its own: it outlives the runtime of each test.
    fn start() -> Self {
        let authority = Authority::generate();
        let publisher = authority.publisher();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                listener.set_nonblocking(true).expect("a listener for tokio");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener for tokio");
                let server = Server::builder().add_service(publisher);
                server.serve_with_incoming(TcpIncoming::from(listener)).await
            })
        });
        Self { keys_url: format!("http://{address}"), authority }
    }
}

/// What the command said, and whether it succeeded.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) is_success: bool,
    pub(crate) text: String,
}

/// Runs `cdc-relay dead-letters` as an operator.
pub(crate) async fn dead_letters(relay: &Relay, arguments: &[&str]) -> Said {
    ask(command(relay, arguments, Some(SERVED.authority.token(ADA, &[OPERATOR_ROLE])))).await
}

/// The same, as anyone else.
pub(crate) async fn dead_letters_as_plain_user(relay: &Relay, arguments: &[&str]) -> Said {
    ask(command(relay, arguments, Some(SERVED.authority.token(ADA, &[])))).await
}

/// The same, without a token.
pub(crate) async fn dead_letters_without_token(relay: &Relay, arguments: &[&str]) -> Said {
    ask(command(relay, arguments, None)).await
}

/// The same over TLS, with these files.
pub(crate) async fn dead_letters_over_tls(relay: &Relay, files: &[(&str, &Path)]) -> Said {
    let mut command = command(relay, &["list"], Some(SERVED.authority.token(ADA, &[OPERATOR_ROLE])));
    command.args(["--relay", &format!("https://{}", relay.admin())]).envs(files.iter().copied());
    ask(command).await
}

fn command(relay: &Relay, arguments: &[&str], token: Option<String>) -> Command {
    let mut command = relay_command("none.toml".as_ref());
    command.arg("dead-letters").args(arguments).env("TAILRACE_RELAY", format!("http://{}", relay.admin()));
    command.env_remove("TAILRACE_TOKEN").envs(token.map(|token| ("TAILRACE_TOKEN", token)));
    command
}

async fn ask(mut command: Command) -> Said {
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("the binary");
    let text = [output.stdout, output.stderr].concat();
    Said { is_success: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
}
