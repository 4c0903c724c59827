//! The real binary: command line, exit codes, logs, readiness, drain.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Instant,
};

use serde_json::Value;
use tailrace::order::v1::order_service_client::OrderServiceClient;
use tokio::task::spawn_blocking;
use tonic::transport::Channel;

use crate::support::{ADA, DEADLINE, Database, NO_KAFKA, by, free_address, know_users, lamp, publish_keys};

const BINARY: &str = env!("CARGO_BIN_EXE_order-service");

/// The binary without the settings of whoever runs the tests.
fn binary() -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear();
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// One line, which is all that a failure may print.
pub(crate) fn only_line(output: &Output) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    stderr.trim_end().to_owned()
}

#[test]
fn help_names_every_setting_with_its_default() {
    let help = text(&run(&["--help"]).stdout);
    for expected in [
        "TAILRACE_LISTEN=",
        "[default: 127.0.0.1:5002]",
        "TAILRACE_OPS_LISTEN=",
        "[default: 127.0.0.1:9102]",
        "TAILRACE_DATABASE_URL",
        "[default: postgres://orders_service@127.0.0.1:15432/orders]",
        "TAILRACE_AUTH_KEYS_URL=",
        "[default: http://127.0.0.1:5001]",
        "TAILRACE_DRAIN_TIMEOUT=",
        "TAILRACE_RATE_PER_PRINCIPAL=",
        "TAILRACE_RATE_PER_ADDRESS=",
        "TAILRACE_TRUSTED_PROXIES=",
        "[default: x-forwarded-for]",
        "[default: 10s]",
        "TAILRACE_CORS_ORIGINS=",
        "[default: http://localhost:3000,http://127.0.0.1:3000]",
        "TAILRACE_LOG=",
        "TAILRACE_OTLP_ENDPOINT=",
        "TAILRACE_REFLECTION=",
        "TAILRACE_MIGRATE=",
        "TAILRACE_OWNER_DATABASE_URL",
        "TAILRACE_OUTBOX_RETENTION=",
        "[default: 7d]",
        "TAILRACE_DATABASE_PASSWORD_FILE=",
        "TAILRACE_DATABASE_CA_FILE=",
        "TAILRACE_DATABASE_CONNECTIONS_MAX=",
        "Exit codes:",
        "TAILRACE_KAFKA_BROKERS=",
        "[default: 127.0.0.1:19092]",
        "TAILRACE_USER_TOPICS=",
        "[default: users.created,users.updated,users.deleted]",
        "migrate",
        "rebuild-projection",
        "probe",
    ] {
        assert!(help.contains(expected), "{expected} is missing in\n{help}");
    }
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    assert_eq!(run(&["--no-such-flag"]).status.code(), Some(2));
    assert_eq!(run(&["--drain-timeout", "soon"]).status.code(), Some(2));
}

#[test]
fn check_config_accepts_good_settings_and_names_the_bad_one() {
    let good = run(&["--check-config"]);
    assert_eq!((good.status.code(), text(&good.stdout).as_str()), (Some(0), "configuration ok\n"));
    for (flag, value, named) in [
        ("--cors-origins", "*", "TAILRACE_CORS_ORIGINS"),
        ("--database-url", "postgres://x:secret@h:p/d", "TAILRACE_DATABASE_URL"),
        ("--database-password-file", "/no/such/file", "TAILRACE_DATABASE_PASSWORD_FILE"),
        ("--auth-keys-url", "5001", "TAILRACE_AUTH_KEYS_URL"),
        ("--kafka-brokers", "", "TAILRACE_KAFKA_BROKERS"),
        ("--user-topics", "users created", "TAILRACE_USER_TOPICS"),
    ] {
        let bad = run(&["--check-config", flag, value]);
        let line = only_line(&bad);
        assert_eq!(bad.status.code(), Some(2), "{line}");
        assert!(line.contains(named) && !line.contains("secret"), "{line}");
    }
}

#[test]
fn a_taken_port_is_one_line_that_names_the_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let output = run(&["--ops-listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let line = only_line(&output);
    assert!(line.contains("TAILRACE_OPS_LISTEN") && line.contains("in use"), "{line}");
}

#[tokio::test]
async fn a_wrong_password_ends_the_start_with_one_line() {
    let database = Database::new().await;
    let client = database.connect().await;
    client
        .batch_execute("DO $$ BEGIN CREATE ROLE locked_out LOGIN PASSWORD 'right'; END $$")
        .await
        .expect("a role");
    let url = database.url().replace("postgres:", "postgresql:");
    let (_, server) = url.rsplit_once('@').expect("a URL with a password");
    let output = run(&[
        "--database-url",
        &format!("postgres://locked_out:wrong@{server}"),
        "--ops-listen",
        &free_address().to_string(),
        "--listen",
        &free_address().to_string(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let line = only_line(&output);
    assert!(
        line.contains("TAILRACE_DATABASE_URL") && line.contains("password authentication failed"),
        "{line}"
    );
    assert!(!line.contains("wrong@"), "{line}");
}

/// The real binary, serving; killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    listen: SocketAddr,
    ops: SocketAddr,
    logs: thread::JoinHandle<Vec<String>>,
}

impl Running {
    fn start(database_url: &str, keys_url: &str, arguments: &[String]) -> Self {
        let (listen, ops) = (free_address(), free_address());
        let mut child = binary()
            .args(arguments)
            .env("TAILRACE_DATABASE_URL", database_url)
            .env("TAILRACE_AUTH_KEYS_URL", keys_url)
            .env("TAILRACE_LISTEN", listen.to_string())
            .env("TAILRACE_OPS_LISTEN", ops.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let logs = thread::spawn(move || stdout.lines().map_while(Result::ok).collect());
        Self { child, listen, ops, logs }
    }

    /// Starts it, and returns when it is ready.
    pub(crate) async fn ready(database_url: &str, keys_url: &str) -> Self {
        let running = Self::ready_with(database_url, keys_url, &NO_KAFKA.map(str::to_owned)).await;
        know_users(database_url).await;
        running
    }

    /// The same with topics to learn of users from: nobody is known yet.
    pub(crate) async fn ready_with(database_url: &str, keys_url: &str, arguments: &[String]) -> Self {
        let running = Self::start(database_url, keys_url, arguments);
        let wait = move || {
            running.wait_for_probe(0);
            running
        };
        spawn_blocking(wait).await.expect("ready")
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.listen)).expect("a URL").connect_lazy()
    }

    /// Its gRPC port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listen
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn probe(&self) -> Output {
        run(&["--ops-listen", &self.ops.to_string(), "probe"])
    }

    /// Asks again until the probe has this exit code.
    fn wait_for_probe(&self, code: i32) -> Output {
        let started = Instant::now();
        loop {
            let output = self.probe();
            if output.status.code() == Some(code) {
                return output;
            }
            assert!(started.elapsed() < DEADLINE, "{}", text(&output.stderr));
            thread::yield_now();
        }
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    }

    fn wait(mut self) -> (Option<i32>, Vec<Value>) {
        let status = self.child.wait().expect("it ends");
        let lines = std::mem::replace(&mut self.logs, thread::spawn(Vec::new)).join().expect("no panic");
        let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        (status.code(), lines.iter().map(parse).collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn it_serves_logs_json_and_stops_with_0_on_sigterm() {
    let database = Database::new().await;
    let keys_url = publish_keys().await;
    let running = Running::ready(&database.url(), &keys_url).await;
    let mut orders =
        OrderServiceClient::connect(format!("http://{}", running.listen)).await.expect("it listens");
    orders
        .create_order(by(ADA, lamp()))
        .await
        .expect("an order, with a token that the published keys verify");
    // An idle connection must not hold up the drain, so `orders` stays open.
    running.terminate();
    let (code, logs) = spawn_blocking(move || running.wait()).await.expect("it ends");
    assert_eq!(code, Some(0));

    let call = logs.iter().find(|line| line["message"] == "call").expect("an access line");
    assert_eq!(call["rpc.method"], "tailrace.order.v1.OrderService/CreateOrder");
    assert_eq!(call["rpc.grpc.status"], "OK");
    assert!(call["duration_ms"].is_f64() && call["http.request_id"].is_string(), "{call}");
    assert!(logs.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()));
    let everything = format!("{logs:?}");
    assert!(!everything.contains("Lamp") && !everything.contains("eyJ"), "{everything}");
    drop(orders);
}

#[tokio::test]
async fn without_postgres_it_waits_and_says_so() {
    let nowhere = format!("postgres://nobody@{}/orders", free_address());
    let output = spawn_blocking(move || {
        let running = Running::start(&nowhere, "http://127.0.0.1:1", &NO_KAFKA.map(str::to_owned));
        let started = Instant::now();
        let reason = loop {
            let reason = text(&running.probe().stderr);
            if reason.contains("refused (os error") && reason.contains("postgres") {
                break reason;
            }
            assert!(started.elapsed() < DEADLINE, "{reason}");
        };
        running.terminate();
        let (code, logs) = running.wait();
        (reason, code, logs)
    });
    let (reason, code, logs) = output.await.expect("no panic");
    assert!(reason.contains("not ready: postgres:"), "{reason}");
    assert_eq!(code, Some(0), "a process that waits still stops as asked");
    let said = logs.iter().filter(|line| line["level"] == "WARN").count();
    assert_eq!(said, 1, "once, not at every attempt: {logs:?}");
}
