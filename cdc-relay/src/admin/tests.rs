//! The service over the wire: it agrees with every rule of the contract, and answers what is hostile exactly.

use clap::Parser;
use replication_protocol::Lsn;
use service_testing::{
    Authority, DEADLINE, Hostile, Sample, assert_damaged, assert_hostile_texts, assert_rules, told,
    with_token,
};
use tailrace::relay::v1::relay_service_client::RelayServiceClient;
use tailrace::relay::v1::relay_service_server::{RelayServiceServer, SERVICE_NAME};
use tailrace_runtime::auth::OPERATOR_ROLE;
use tailrace_runtime::grpc::{self, ServeError};
use tailrace_runtime::process::Context;
use tailrace_runtime::settings::{self, GrpcSettings};
use tailrace_runtime::task;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::service::Routes;
use tonic::transport::Channel;

use super::*;
use crate::engine::Progress;
use crate::requests::{Request as Question, desk};

const SOURCE: &str = "sources/users";
const DEAD_LETTER: &str = "sources/users/deadLetters/0-16B3748-0";

const PROGRESS: Progress = Progress {
    durable: Lsn::new(1),
    received: Lsn::new(1),
    in_flight_events: 0,
    waiting_events: 0,
    oldest_committed_at_us: None,
    published_events: 0,
    dead_letters: 0,
    parked_keys: 0,
};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    grpc: GrpcSettings,
}

/// The service with one source, which does not stream, and the token of an operator.
struct Served {
    channel: Channel,
    token: String,
    context: Context,
    running: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    async fn start() -> Self {
        let context = Context::detached();
        let board = Board::new("users", context.readiness.condition("source users"));
        Self::start_with(context, Shown { board, desk: desk().0 }).await
    }

    /// The same with a source that streams, and answers so.
    async fn streaming(released: Released) -> Self {
        let context = Context::detached();
        let board = Board::new("users", context.readiness.condition("source users"));
        board.streaming(PROGRESS, 1);
        let (desk, mut requests) = desk();
        task::spawn("desk", async move {
            while let Some(request) = requests.recv().await {
                match request {
                    Question::List(answer) => drop(answer.send(Vec::new())),
                    Question::Release(_, _, answer) => drop(answer.send(released.clone())),
                }
            }
        });
        Self::start_with(context, Shown { board, desk }).await
    }

    async fn start_with(context: Context, shown: Shown) -> Self {
        let cli: Cli = settings::parse_from(["relay", "--listen", "127.0.0.1:0"], &[]).expect("settings");
        let authority = Authority::generate();
        let sources = vec![shown];
        let verifier = Verifier::fixed([authority.key()]);
        let admin = Admin::new(sources, verifier.clone());
        let listener = TcpListener::bind(cli.grpc.listen).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let served = context.clone();
        let running = task::spawn("relay", async move {
            let routes = Routes::new(RelayServiceServer::new(admin));
            grpc::serve(verifier, listener, &cli.grpc, served, routes, &[SERVICE_NAME]).await
        });
        Self {
            channel: Channel::from_shared(url).expect("a URL").connect_lazy(),
            token: authority.token("users/0198d5a5-7e0e-7b41-8d1c-1f6b1f0f9a11", &[OPERATOR_ROLE]),
            context,
            running,
        }
    }

    /// A request that breaks no rule, for each RPC.
    fn samples(&self) -> [Sample; 5] {
        let (name, parent) = (DEAD_LETTER.to_owned(), SOURCE.to_owned());
        let list = ListDeadLettersRequest { parent: parent.clone(), ..ListDeadLettersRequest::default() };
        let (redrive, discard) =
            (RedriveDeadLetterRequest { name: name.clone() }, DiscardDeadLetterRequest { name });
        [
            Sample::new(
                "tailrace.relay.v1.RelayService/ListSources",
                &self.token,
                &ListSourcesRequest::default(),
            ),
            Sample::new(
                "tailrace.relay.v1.RelayService/GetSource",
                &self.token,
                &GetSourceRequest { name: parent },
            ),
            Sample::new("tailrace.relay.v1.RelayService/ListDeadLetters", &self.token, &list),
            Sample::new("tailrace.relay.v1.RelayService/RedriveDeadLetter", &self.token, &redrive),
            Sample::new("tailrace.relay.v1.RelayService/DiscardDeadLetter", &self.token, &discard),
        ]
    }

    async fn stop(self) {
        self.context.shutdown.request();
        timeout(DEADLINE, self.running).await.expect("it drains").expect("no panic").expect("a clean end");
    }
}

#[tokio::test]
async fn the_service_agrees_with_every_rule_of_the_contract() {
    let served = Served::start().await;
    let sent = assert_rules(&served.channel, SERVICE_NAME, &served.samples()).await;
    assert!(sent > 100, "the rules were found: {sent}");
    served.stop().await;
}

#[tokio::test]
async fn hostile_texts_and_damaged_messages_get_an_exact_answer() {
    let served = Served::start().await;
    let [list, get, dead_letters, redrive, discard] = served.samples();
    let absent = Some("SOURCE_NOT_STREAMING");
    let requests = [
        Hostile::new(list, None).always("page_token", "INVALID_FIELDS"),
        Hostile::new(get, None),
        Hostile::new(dead_letters, absent)
            .always("page_token", "INVALID_FIELDS")
            .where_allowed("parent", "SOURCE_NOT_FOUND"),
        Hostile::new(redrive, absent),
        Hostile::new(discard, absent),
    ];
    let answers = assert_hostile_texts(&served.channel, SERVICE_NAME, &requests).await
        + assert_damaged(&served.channel, SERVICE_NAME, &requests).await;
    assert!(answers > 200, "{answers}");
    served.stop().await;
}

#[tokio::test]
async fn a_release_that_fails_says_why() {
    let still = Released::StillRefused("no route matches things.made.v1".to_owned());
    let cases = [
        (still, Code::FailedPrecondition, "DEAD_LETTER_STILL_REFUSED"),
        (Released::NotFound, Code::NotFound, "DEAD_LETTER_NOT_FOUND"),
    ];
    for (released, code, reason) in cases {
        let served = Served::streaming(released).await;
        let request = RedriveDeadLetterRequest { name: DEAD_LETTER.to_owned() };
        let mut relay = RelayServiceClient::new(served.channel.clone());
        let outcome = relay.redrive_dead_letter(with_token(request, &served.token)).await;
        assert_eq!(told(&outcome.expect_err("not released")), (code, reason.to_owned()));
        served.stop().await;
    }
}

#[tokio::test]
async fn a_name_has_one_spelling() {
    for (name, is_name) in [
        (DEAD_LETTER, true),
        ("sources/users/deadLetters/0-16b3748-0", false),
        ("sources/users/deadLetters/0-16B3748-+1", false),
        ("sources/users/deadLetters/0/16B3748/0", false),
        ("sources/users/deadLetters/0-16B3748", false),
        ("sources/users/deadLetters/0-16B3748-0-0", false),
        ("sources/Users/deadLetters/0-16B3748-0", false),
        ("sources//deadLetters/0-16B3748-0", false),
    ] {
        assert_eq!(wire::parse_dead_letter_name(name).is_some(), is_name, "{name}");
    }
}
