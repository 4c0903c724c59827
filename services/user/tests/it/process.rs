//! The real binary: command line, exit codes, logs, readiness, drain.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Instant,
};

use serde_json::Value;
use tailrace::{auth::v1::LoginRequest, user::v1::user_service_client::UserServiceClient};
use tokio::task::spawn_blocking;

use crate::support::{DEADLINE, Database, PASSWORD, Service, free_address, new_user, signing_key};

const BINARY: &str = env!("CARGO_BIN_EXE_user-service");

/// The binary without the settings of whoever runs the tests.
fn binary() -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear();
    command
}

fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// One line, which is all that a failure may print.
fn only_line(output: &Output) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    stderr.trim_end().to_owned()
}

#[test]
fn help_names_every_setting_with_its_default() {
    let help = text(&run(&["--help"]).stdout);
    for expected in [
        "TAILRACE_LISTEN=",
        "[default: 127.0.0.1:5001]",
        "TAILRACE_OPS_LISTEN=",
        "[default: 127.0.0.1:9101]",
        "TAILRACE_DATABASE_URL",
        "[default: postgres://users_service@127.0.0.1:15432/users]",
        "TAILRACE_SIGNING_KEY_FILE=",
        "TAILRACE_TOKEN_TTL=",
        "TAILRACE_REFRESH_TTL=",
        "[default: 30d]",
        "[default: 1h]",
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
        "migrate",
        "probe",
        "keygen",
        "operator",
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
    let (_folder, key) = signing_key();
    let key = key.to_str().expect("UTF-8");
    let good = run(&["--check-config", "--signing-key-file", key]);
    assert_eq!((good.status.code(), text(&good.stdout).as_str()), (Some(0), "configuration ok\n"));

    let missing = run(&["--check-config", "--signing-key-file", "/no/such/file"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(only_line(&missing).contains("keygen --out /no/such/file"), "{}", only_line(&missing));
    for (flag, value, named) in [
        ("--cors-origins", "*", "TAILRACE_CORS_ORIGINS"),
        ("--database-url", "postgres://x:secret@h:p/d", "TAILRACE_DATABASE_URL"),
        ("--database-password-file", "/no/such/file", "TAILRACE_DATABASE_PASSWORD_FILE"),
    ] {
        let bad = run(&["--check-config", "--signing-key-file", key, flag, value]);
        let line = only_line(&bad);
        assert_eq!(bad.status.code(), Some(2), "{line}");
        assert!(line.contains(named) && !line.contains("secret"), "{line}");
    }
}

#[test]
fn keygen_makes_a_key_for_its_owner_only_and_never_replaces_one() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key.pem");
    let arguments = ["keygen", "--out", path.to_str().expect("UTF-8")];
    assert!(run(&arguments).status.success());
    let first = std::fs::read(&path).expect("a key");
    assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(run(&arguments).status.code(), Some(1));
    assert_eq!(std::fs::read(&path).expect("the same key"), first);
}

#[test]
fn a_taken_port_is_one_line_that_names_the_setting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (_folder, key) = signing_key();
    let address = taken.local_addr().expect("its address").to_string();
    let output = run(&["--ops-listen", &address, "--signing-key-file", key.to_str().expect("UTF-8")]);
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
    let (_folder, key) = signing_key();
    let output = run(&[
        "--database-url",
        &format!("postgres://locked_out:wrong@{server}"),
        "--ops-listen",
        &free_address().to_string(),
        "--listen",
        &free_address().to_string(),
        "--signing-key-file",
        key.to_str().expect("UTF-8"),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let line = only_line(&output);
    assert!(
        line.contains("TAILRACE_DATABASE_URL") && line.contains("password authentication failed"),
        "{line}"
    );
    assert!(!line.contains("wrong@"), "{line}");
}

/// The real binary, serving; killed when a test fails.
struct Running {
    child: Child,
    listen: SocketAddr,
    ops: SocketAddr,
    logs: thread::JoinHandle<Vec<String>>,
}

impl Running {
    fn start(database_url: &str, key: &Path) -> Self {
        Self::start_with(database_url, key, &[])
    }

    fn start_with(database_url: &str, key: &Path, settings: &[(&str, &str)]) -> Self {
        let (listen, ops) = (free_address(), free_address());
        let mut child = binary()
            .env("TAILRACE_DATABASE_URL", database_url)
            .env("TAILRACE_SIGNING_KEY_FILE", key)
            .env("TAILRACE_LISTEN", listen.to_string())
            .env("TAILRACE_OPS_LISTEN", ops.to_string())
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let logs = thread::spawn(move || stdout.lines().map_while(Result::ok).collect());
        Self { child, listen, ops, logs }
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
    let (_folder, key) = signing_key();
    let running = Running::start(&database.url(), &key);
    let running = spawn_blocking(move || {
        running.wait_for_probe(0);
        running
    })
    .await
    .expect("ready");
    let mut users =
        UserServiceClient::connect(format!("http://{}", running.listen)).await.expect("it listens");
    users.create_user(new_user("Ada", "ada@example.org")).await.expect("a user");
    // An idle connection must not hold up the drain, so `users` stays open.
    running.terminate();
    let (code, logs) = spawn_blocking(move || running.wait()).await.expect("it ends");
    assert_eq!(code, Some(0));

    let call = logs.iter().find(|line| line["message"] == "call").expect("an access line");
    assert_eq!(call["rpc.method"], "tailrace.user.v1.UserService/CreateUser");
    assert_eq!(call["rpc.grpc.status"], "OK");
    assert!(call["duration_ms"].is_f64() && call["http.request_id"].is_string(), "{call}");
    assert!(logs.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()));
    let everything = format!("{logs:?}");
    assert!(!everything.contains("ada@example.org") && !everything.contains("correct horse"), "{everything}");
    drop(users);
}

#[tokio::test]
async fn without_postgres_it_waits_and_says_so() {
    let (_folder, key) = signing_key();
    let nowhere = format!("postgres://nobody@{}/users", free_address());
    let output = spawn_blocking(move || {
        let running = Running::start(&nowhere, &key);
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

#[tokio::test]
async fn the_command_migrates_for_a_service_that_may_not() {
    let database = Database::new().await;
    let (_folder, key) = signing_key();
    let url = database.url();
    let outcome = spawn_blocking(move || {
        let running = Running::start_with(&url, &key, &[("TAILRACE_MIGRATE", "false")]);
        let started = Instant::now();
        while !text(&running.probe().stderr).contains("run `user-service migrate`") {
            assert!(started.elapsed() < DEADLINE, "{}", text(&running.probe().stderr));
        }
        let migrated = run(&["--database-url", &url, "migrate"]);
        running.wait_for_probe(0);
        let again = run(&["--database-url", &url, "migrate"]);
        running.terminate();
        (migrated.status.code(), again.status.code(), running.wait().0)
    });
    assert_eq!(outcome.await.expect("no panic"), (Some(0), Some(0), Some(0)));
}

#[tokio::test]
async fn the_command_makes_an_existing_user_an_operator() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    service.create("ada@example.org").await;
    let url = database.url();
    let grant = async |email: &'static str| {
        let url = url.clone();
        let run = spawn_blocking(move || run(&["--database-url", &url, "operator", "grant", email]));
        run.await.expect("no panic")
    };
    let granted = grant("Ada@example.org").await;
    assert_eq!(granted.status.code(), Some(0), "{}", text(&granted.stderr));
    let unknown = grant("eve@example.org").await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(only_line(&unknown).contains("no user has this e-mail address"), "{}", only_line(&unknown));
    assert_eq!(grant("nobody").await.status.code(), Some(2));

    let request = LoginRequest { email: "ada@example.org".to_owned(), password: PASSWORD.to_owned() };
    assert!(service.auth().login(request).await.expect("signed in").into_inner().operator);
    service.stop().await;
}

#[tokio::test]
async fn with_a_collector_the_outbox_carries_the_spans_own_context() {
    let database = Database::new().await;
    let (_folder, key) = signing_key();
    // Nobody listens there: a collector that is gone must hold up neither calls nor the stop.
    let settings = [("TAILRACE_OTLP_ENDPOINT", "http://127.0.0.1:1")];
    let running = Running::start_with(&database.url(), &key, &settings);
    let running = spawn_blocking(move || {
        running.wait_for_probe(0);
        running
    })
    .await
    .expect("ready");
    let mut users =
        UserServiceClient::connect(format!("http://{}", running.listen)).await.expect("it listens");
    let mut request = tonic::Request::new(new_user("Ada", "ada@example.org"));
    let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request.metadata_mut().insert("traceparent", sent.parse().expect("a value"));
    users.create_user(request).await.expect("a user");
    let client = database.connect().await;
    let row = client.query_one("SELECT headers->>'traceparent' FROM outbox", &[]).await.expect("an event");
    let stored: String = row.get(0);
    let (trace, span) = (sent.split_at("00-4bf92f3577b34da6a3ce929d0e0e4736".len()).0, "00f067aa0ba902b7");
    assert!(stored.starts_with(trace) && !stored.contains(span), "{stored}");
    running.terminate();
    let (code, _) = spawn_blocking(move || running.wait()).await.expect("it ends");
    assert_eq!(code, Some(0));
}
