//! What nobody must find in logs, metrics and process lists. A system lives through everything that is said about users with marked
//! secrets, is broken on the way, and then all that it has written down is searched.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use regex::Regex;
use serde_json::Value;
use tailrace::auth::v1::{
    ChangePasswordRequest, LoginRequest, LoginResponse, LogoutRequest, RefreshTokenRequest,
};
use tailrace::order::v1::{CancelOrderRequest, ListOrdersRequest};
use tailrace::user::v1::{CreateUserRequest, DeleteUserRequest, GetUserRequest, UpdateUserRequest, User};
use tokio::task::{JoinSet, block_in_place};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use uuid::Uuid;
use xtask::settings::Settings;

use crate::support::caller::{Caller, new_order};
use crate::support::subscriber::{Subscriber, earliest};
use crate::support::system::{Service, System};

/// What breaks out of a line of log, if anything does. All else of it is marked.
const BREAKERS: &str = "\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}\u{1b}[31m\u{0}\"}";
/// What no secret of ours, but its kind, looks like.
const KINDS: &[(&str, &str)] = &[
    ("a token", r"eyJ[A-Za-z0-9_-]{8,}\."),
    ("credentials in a header", r"(?i)\b(bearer|basic) [A-Za-z0-9._~+/-]{8,}"),
    ("a password in a URL", r"[a-z]+://[^/@\s]*:[^/@\s]+@"),
    ("a hash of a password", r"\$argon2"),
    ("a private key", r"-----BEGIN"),
    ("an address of e-mail", r"[A-Za-z0-9._-]+@[a-z0-9.-]*tailrace\.localhost"),
    ("a forged line", r#"(?m)^\{"level":"ERROR","message":"forged""#),
];
/// Passwords of `.env`.
const PASSWORDS: &[&str] = &[
    "POSTGRES_PASSWORD",
    "USERS_OWNER_PASSWORD",
    "USERS_SERVICE_PASSWORD",
    "ORDERS_OWNER_PASSWORD",
    "ORDERS_SERVICE_PASSWORD",
    "CDC_RELAY_PASSWORD",
    "TAILRACE_DEMO_PASSWORD",
    "TAILRACE_DEMO_EMAIL",
];

/// Texts that must be found nowhere, each with what it is.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    /// Makes a text that stands nowhere else.
    fn mark(&mut self, what: &str) -> String {
        let text = format!("{what}-{}", Uuid::new_v4().simple());
        self.add(what, &text);
        text
    }

    /// Adds a text, and how it looks in base64.
    fn add(&mut self, what: &str, text: &str) {
        self.0.push((what.to_owned(), text.to_owned()));
        for engine in [&STANDARD, &URL_SAFE_NO_PAD] {
            self.0.push((format!("{what} in base64"), engine.encode(text)));
        }
    }

    /// What of them stands in a text, in so many words.
    fn find(&self, text: &str) -> Vec<String> {
        let kinds = KINDS.iter().filter_map(|(what, pattern)| {
            let found = Regex::new(pattern).expect("a pattern").find(text)?;
            Some(format!("{what}: {}", found.as_str()))
        });
        let marked = self.0.iter().filter(|(_, secret)| text.contains(secret)).map(|(what, _)| what.clone());
        marked.chain(kinds).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_nothing_personal_is_written_down() {
    let system = System::start();
    let mut secrets = Secrets::default();
    for variable in PASSWORDS {
        secrets.add(variable, &Settings::get().value(variable).expect("a development password"));
    }
    for line in fs::read_to_string(system.stack.dir().join("signing-key.pem")).expect("the key").lines() {
        secrets.add("the signing key", line);
    }
    let ada = live(&system, &mut secrets).await;
    break_everything(&system, &ada, &mut secrets).await;

    for (what, secret) in &secrets.0 {
        assert!(!secrets.find(&format!("before{secret}after")).is_empty(), "a search for {what} finds it");
    }
    let (mut bytes, mut lines) = (0, 0);
    let written = written(&system);
    for (name, text) in &written {
        assert_eq!(secrets.find(text), Vec::<String>::new(), "in {name}");
        bytes += text.len();
    }
    for process in system.stack.processes() {
        lines += check_lines(process.name(), &fs::read_to_string(process.log()).expect("a log"));
    }
    eprintln!(
        "{} secrets and {} kinds of them looked for in {} places of {bytes} bytes; {lines} lines of log are one record each",
        secrets.0.len(),
        KINDS.len(),
        written.len()
    );
}

/// Everything that a user does, well and badly.
async fn live(system: &System, secrets: &mut Secrets) -> Account {
    let anyone = system.anyone();
    let mut ada = Account::new(secrets);
    ada.name = anyone.create_user(anyone.request(ada.creation())).await.expect("a user").name;
    let taken = anyone.create_user(anyone.request(ada.creation())).await;
    assert_eq!(taken.expect_err("taken").code(), Code::AlreadyExists);
    for (email, password) in [
        (&ada.email, secrets.mark("wrong password")),
        (&format!("{}@nobody.tailrace.localhost", secrets.mark("unknown")), ada.password.clone()),
        (&secrets.mark("no address"), ada.password.clone()),
        (&ada.email, format!("{}{BREAKERS}", secrets.mark("hostile password"))),
    ] {
        login(&anyone, email, &password).await.expect_err("refused");
    }
    let first = login(&anyone, &ada.email, &ada.password).await.expect("signed in");
    let signed_in = refresh(&anyone, &first.refresh_token).await.expect("refreshed");
    secrets.add("access token", &signed_in.0);
    for token in [&first.access_token, &first.refresh_token, &signed_in.1] {
        secrets.add("token", token);
    }
    // A token that was spent ends the sign-in, and that is logged.
    refresh(&anyone, &first.refresh_token).await.expect_err("used twice");
    let logout = LogoutRequest { refresh_token: signed_in.1 };
    anyone.auth.clone().logout(logout).await.expect("signed out");
    ada.token = signed_in.0;

    let caller = anyone.with_token(&ada.token);
    act(&caller, &mut ada, secrets).await;
    intrude(system, &caller, secrets).await;
    ada
}

/// An order and its end, a change of name and of password.
async fn act(caller: &Caller, ada: &mut Account, secrets: &mut Secrets) {
    let order = new_order(&secrets.mark("product"), 1);
    let order = caller.create_order(caller.request(order)).await.expect("an order");
    let hostile = new_order(&format!("{}{BREAKERS}", secrets.mark("hostile product")), 1);
    caller.create_order(caller.request(hostile)).await.expect_err("refused");
    let cancel = CancelOrderRequest { name: order.name, ..CancelOrderRequest::default() };
    caller.orders.clone().cancel_order(caller.request(cancel)).await.expect("cancelled");
    let list = ListOrdersRequest { page_token: secrets.mark("page token"), ..ListOrdersRequest::default() };
    caller.orders.clone().list_orders(caller.request(list)).await.expect_err("no page");

    let listed = ListOrdersRequest { filter: secrets.mark("filter"), ..ListOrdersRequest::default() };
    caller.orders.clone().list_orders(caller.request(listed)).await.expect_err("no filter");
    let next = secrets.mark("next password");
    for (current, is_right) in [(secrets.mark("wrong current password"), false), (ada.password.clone(), true)]
    {
        let change = ChangePasswordRequest { current_password: current, new_password: next.clone() };
        let changed = caller.auth.clone().change_password(caller.request(change)).await;
        assert_eq!(changed.is_ok(), is_right, "{changed:?}");
    }
    ada.password = next;
    let user = User { name: ada.name.clone(), display_name: secrets.mark("next name"), ..User::default() };
    let update = UpdateUserRequest { user: Some(user), ..UpdateUserRequest::default() };
    caller.users.clone().update_user(caller.request(update)).await.expect("changed");
}

/// What only somebody hostile sends, and an event that cannot be published.
async fn intrude(system: &System, caller: &Caller, secrets: &mut Secrets) {
    for header in
        ["authorization", "x-request-id", "user-agent", "traceparent", "tracestate", "grpc-timeout", "cookie"]
    {
        for value in [
            format!("Bearer {}", secrets.mark("token of nobody")),
            format!("Basic {}", secrets.mark("credentials")),
            format!("{}\",\"level\":\"ERROR", secrets.mark("header")),
        ] {
            let mut request = Request::new(GetUserRequest { name: secrets.mark("name") });
            request.metadata_mut().insert(header, value.parse().expect("ASCII"));
            caller.users.clone().get_user(request).await.expect_err("refused");
        }
    }
    for path in [
        format!("/{}/Get", secrets.mark("service")),
        format!("/tailrace.user.v1.UserService/{}", secrets.mark("Method")),
    ] {
        let users = Endpoint::from_shared(system.stack.urls().user.clone()).expect("a URL").connect_lazy();
        let mut client = Grpc::new(users);
        client.ready().await.expect("a connection");
        let path: PathAndQuery = path.parse().expect("a path");
        client
            .unary(Request::new(()), path, ProstCodec::<(), ()>::default())
            .await
            .expect_err("no such method");
    }
    let mut connections = JoinSet::new();
    let database = system.database(Service::Orders, &mut connections).await;
    let payload = format!(r#"{{"secret": "{}"}}"#, secrets.mark("payload"));
    for event_type in ["orders.teleported.v1", "orders.created.v1"] {
        database
            .execute(INSERT, &[&Uuid::new_v4(), &Uuid::new_v4().to_string(), &event_type, &payload])
            .await
            .expect("a row");
    }
    let operator = system.operator().await;
    secrets.add("an operator's token", operator.token());
    let mut subscriber = Subscriber::start(&operator, &["dead-letter"], earliest()).await;
    subscriber
        .event("the dead letter", |event| String::from_utf8_lossy(&event.payload).contains("teleported"))
        .await;
}

const INSERT: &str =
    "insert into outbox (id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, headers)
    values ($1, 'orders', $2, 1, $3, $4::text::json, '{}')";

/// Calls while Postgres and Kafka are away: errors of the inside are logged.
async fn break_everything(system: &System, ada: &Account, secrets: &mut Secrets) {
    let anyone = system.anyone();
    system.stack.postgres().crash();
    system.stack.kafka().kill();
    for (process, words) in
        [("user-service", "postgres"), ("order-service", "postgres"), ("gateway", "Kafka")]
    {
        system.not_ready_because(process, words).await;
    }
    let status = login(&anyone, &ada.email, &ada.password).await.expect_err("Postgres is away");
    assert_eq!(status.code(), Code::Unavailable);
    let eve = Account::new(secrets);
    anyone.create_user(anyone.request(eve.creation())).await.expect_err("Postgres is away");
    let caller = anyone.clone().with_token(&ada.token);
    let order = new_order(&secrets.mark("product"), 1);
    caller.create_order(caller.request(order)).await.expect_err("Postgres is away");
    block_in_place(|| system.stack.postgres().restart()).expect("Postgres starts again");
    block_in_place(|| system.stack.kafka().start_again()).expect("Kafka starts again");
    for process in ["user-service", "order-service", "cdc-relay", "gateway"] {
        system.ready(process).await;
    }
    let delete = DeleteUserRequest { name: ada.name.clone(), ..DeleteUserRequest::default() };
    caller.users.clone().delete_user(caller.request(delete)).await.expect("deleted");
    login(&anyone, &ada.email, &ada.password).await.expect_err("deleted");
}

/// A user to be.
struct Account {
    /// The resource name, once it is made.
    name: String,
    email: String,
    display_name: String,
    password: String,
    token: String,
}

impl Account {
    fn new(secrets: &mut Secrets) -> Self {
        let email = format!("{}@tests.tailrace.localhost", secrets.mark("email"));
        let (display_name, password) = (secrets.mark("name"), secrets.mark("password"));
        Self { name: String::new(), email, display_name, password, token: String::new() }
    }

    fn creation(&self) -> CreateUserRequest {
        let (display_name, email) = (self.display_name.clone(), self.email.clone());
        CreateUserRequest {
            user: Some(User { display_name, email, ..User::default() }),
            password: self.password.clone(),
            ..CreateUserRequest::default()
        }
    }
}

async fn login(caller: &Caller, email: &str, password: &str) -> Result<LoginResponse, Status> {
    let request = LoginRequest { email: email.to_owned(), password: password.to_owned() };
    Ok(caller.auth.clone().login(request).await?.into_inner())
}

/// Access and refresh token.
async fn refresh(caller: &Caller, token: &str) -> Result<(String, String), Status> {
    let request = RefreshTokenRequest { refresh_token: token.to_owned() };
    let answer = caller.auth.clone().refresh_token(request).await?.into_inner();
    Ok((answer.access_token, answer.refresh_token))
}

/// All that others may read: logs, metrics, readiness, and what `ps` shows.
fn written(system: &System) -> Vec<(String, String)> {
    let mut written = vec![
        ("the log of Kafka".to_owned(), read(&system.stack.kafka().log())),
        ("the log of Postgres".to_owned(), read(system.stack.postgres().log())),
    ];
    for process in system.stack.processes() {
        let name = process.name();
        let (pid, port) = (process.pid().expect("it runs"), process.ops_port().expect("an ops port"));
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).expect("it runs");
        written.push((format!("the log of {name}"), read(process.log())));
        written.push((
            format!("the command line of {name}"),
            String::from_utf8_lossy(&command_line).into_owned(),
        ));
        for path in ["/metrics", "/readyz", "/livez"] {
            written.push((format!("{path} of {name}"), get(port, path)));
        }
    }
    written.iter().for_each(|(name, text)| assert!(!text.is_empty(), "{name} is there"));
    written
}

fn read(path: &std::path::Path) -> String {
    String::from_utf8_lossy(&fs::read(path).expect("a log")).into_owned()
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("an ops port");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer
}

/// Every line since the start is one record, whatever was said to the process. Before it commands have written there.
fn check_lines(name: &str, log: &str) -> usize {
    let lines = || log.lines().skip_while(|line| !line.contains(r#""message":"started""#));
    for line in lines() {
        let record: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
        assert!(record["timestamp"].is_string() && record["message"].is_string(), "{name}: {line}");
        assert!(!line.chars().any(char::is_control), "{name}: {line:?}");
    }
    lines().count()
}
