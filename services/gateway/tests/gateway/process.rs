//! The real binary: help, configuration check, probe, exit codes, signals, memory.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{BOB, DEADLINE, Topics, Writer, numbered};

const BINARY: &str = env!("CARGO_BIN_EXE_gateway");

/// An answer over HTTP/1.1.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    head: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> String {
        let of_name = |line: &str| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        self.head.lines().find_map(of_name).unwrap_or_default()
    }
}

/// Asks for `path`. Blocks.
pub(crate) fn get(address: &str, path: &str) -> io::Result<Answer> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(DEADLINE))?;
    write!(connection, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Answer { status, body: body.to_owned(), head: head.to_owned() })
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

fn output(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running gateway.
struct Running {
    child: Child,
    ops: String,
    settings: Vec<String>,
}

impl Running {
    fn start(topics: &Topics, arguments: &[&str]) -> Self {
        let address = || format!("127.0.0.1:{}", free_port());
        let ops = address();
        let served = format!("{},{}", topics.users, topics.orders);
        let settings: Vec<String> = [
            ("--ops-listen", ops.clone()),
            ("--listen", address()),
            ("--web-listen", address()),
            ("--kafka-brokers", topics.brokers.clone()),
            ("--topics", served),
            ("--dead-letter-topic", topics.dead_letter.clone()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .chain(arguments.iter().map(|argument| (*argument).to_owned()))
        .collect();
        let child = Command::new(BINARY).args(&settings).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        Self { child: child.expect("it starts"), ops, settings }
    }

    fn probe(&self) -> Output {
        Command::new(BINARY).args(&self.settings).arg("probe").output().expect("it runs")
    }

    fn until<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            if let Some(found) = condition() {
                return found;
            }
            thread::yield_now();
        }
        panic!("{what} did not happen");
    }

    fn metric(&self, name: &str) -> Option<f64> {
        let metrics = get(&self.ops, "/metrics").ok()?.body;
        metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// Its exit code after SIGTERM, and how long it took.
    fn terminate(mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        let killed =
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(killed.success());
        let status = self.child.wait().expect("it ends");
        (status.code(), began.elapsed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already over when the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_explains_every_setting_and_the_exit_codes() {
    let help = text(&output(&["--help"]).stdout);
    for setting in [
        "TAILRACE_LISTEN",
        "TAILRACE_OPS_LISTEN",
        "TAILRACE_KAFKA_BROKERS",
        "TAILRACE_TOPICS",
        "TAILRACE_DEAD_LETTER_TOPIC",
        "TAILRACE_FEED_BYTES_MAX",
        "TAILRACE_HEARTBEAT_INTERVAL",
        "TAILRACE_STREAMS_MAX",
        "TAILRACE_WEB_LISTEN",
        "TAILRACE_WEB_ROOT",
    ] {
        assert!(help.contains(setting), "{setting} in {help}");
    }
    assert!(help.contains("Exit codes:"));
    assert!(help.contains("127.0.0.1:5005"));
}

#[test]
fn check_config_says_what_is_wrong_in_one_line() {
    let good = output(&["--check-config"]);
    assert_eq!((good.status.code(), text(&good.stdout).as_str()), (Some(0), "configuration ok\n"));
    let wrong = output(&["--check-config", "--topics", "not a topic"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("TAILRACE_TOPICS: \"not a topic\" is not a name of a Kafka topic"));
}

#[test]
fn a_taken_port_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let ops = format!("127.0.0.1:{}", free_port());
    let failed = output(&["--listen", &address, "--ops-listen", &ops, "--web-listen", ""]);
    assert_eq!(failed.status.code(), Some(1));
    let line = text(&failed.stderr);
    assert!(line.contains(&address) && line.contains("TAILRACE_LISTEN"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probe_follows_readiness_and_sigterm_ends_it_well() {
    let topics = Topics::unmade();
    let running = Running::start(&topics, &[]);
    let reason = running.until("a reason", || {
        Some(text(&running.probe().stderr)).filter(|reason| reason.contains("cdc-relay init"))
    });
    assert!(reason.contains("not ready"), "{reason}");
    assert_eq!(running.probe().status.code(), Some(1));
    topics.create().await;
    running.until("readiness", || running.probe().status.success().then_some(()));
    assert_eq!(get(&running.ops, "/livez").expect("an answer").status, 200);
    let (code, took) = running.terminate();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_within_its_limit() {
    const LIMIT_BYTES: f64 = 1_000_000.0;
    const EVENTS: usize = 500;
    let topics = Topics::make().await;
    let running = Running::start(&topics, &["--feed-bytes-max", "1000000"]);
    running.until("readiness", || running.probe().status.success().then_some(()));
    let writer = Writer::new(&topics);
    for payload in numbered("event", EVENTS) {
        writer.commit(&topics.users, &[("key".to_owned(), format!("{payload:-<10000}"), BOB)]);
    }
    let counter = format!("tailrace_gateway_events_total{{topic=\"{}\"}}", topics.users);
    running.until("every event read", || running.metric(&counter).filter(|count| *count >= EVENTS as f64));
    let bytes = running.metric("tailrace_gateway_memory_bytes").expect("a metric");
    assert!((LIMIT_BYTES / 2.0..=LIMIT_BYTES).contains(&bytes), "{bytes} bytes");
    assert_eq!(running.terminate().0, Some(0));
}
