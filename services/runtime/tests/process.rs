//! Exit codes and drain of a process that does not finish when asked. This test is its own harness: it starts itself
//! again as that process.

use std::{
    env,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use clap::Parser;
use tailrace_runtime::{process, settings};

const DEADLINE: Duration = Duration::from_secs(30);
type Test = fn() -> anyhow::Result<()>;

/// A process with one job: to end in a given way.
#[derive(Parser)]
struct Cli {
    /// `stubborn` never finishes, `failing` fails, `misconfigured` finds a bad setting, `obedient` ends when asked.
    #[arg(long)]
    way: String,
    #[command(flatten)]
    process: settings::ProcessSettings,
}

fn main() -> ExitCode {
    // Whatever else the arguments are, they are for a harness.
    if !env::args().any(|argument| argument == "--way") {
        return check_all();
    }
    let cli: Cli = settings::parse(&[("ops_listen", "127.0.0.1:0")]);
    process::main("way", &cli.process, |context| live(cli.way, context))
}

async fn live(way: String, context: process::Context) -> anyhow::Result<()> {
    context.readiness.condition("way").ok();
    match way.as_str() {
        "failing" => bail!("it broke"),
        "misconfigured" => Err(process::Misconfigured::new("SETTING: no good").into()),
        "obedient" => {
            context.shutdown.wait().await;
            Ok(())
        }
        _ => {
            std::future::pending::<()>().await;
            Ok(())
        }
    }
}

fn check_all() -> ExitCode {
    let tests: [(&str, Test); 6] = [
        ("a failure exits with 1 and one line", || check_failure("failing", 1, "way: it broke\n")),
        ("a bad setting exits with 2 and one line", || {
            check_failure("misconfigured", 2, "way: SETTING: no good\n")
        }),
        ("a process that obeys exits with 0", || check_signals("obedient", "1h", &["TERM"], 0)),
        ("an interrupt is a request too", || check_signals("obedient", "1h", &["INT"], 0)),
        ("a passed drain deadline exits with 3", || check_signals("stubborn", "100ms", &["TERM"], 3)),
        ("a second signal exits at once", || check_signals("stubborn", "1h", &["TERM", "INT"], 3)),
    ];
    let mut code = ExitCode::SUCCESS;
    for (name, test) in tests {
        let outcome = test();
        let _ = writeln!(io::stderr(), "test {name} ... {outcome:?}");
        if outcome.is_err() {
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn start(way: &str, ops: SocketAddr, drain_timeout: &str) -> anyhow::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--way", way, "--drain-timeout", drain_timeout, "--ops-listen", &ops.to_string()]);
    Ok(command.env_clear().stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?)
}

fn check_failure(way: &str, code: i32, line: &str) -> anyhow::Result<()> {
    let output = start(way, free_address()?, "1s")?.wait_with_output()?;
    ensure!(output.status.code() == Some(code), "{:?}", output.status);
    ensure!(output.stderr == line.as_bytes(), "{:?}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn check_signals(way: &str, drain_timeout: &str, signals: &[&str], code: i32) -> anyhow::Result<()> {
    let ops = free_address()?;
    let mut child = start(way, ops, drain_timeout)?;
    let outcome = signalled(&mut child, ops, signals, code);
    let _ = child.kill();
    outcome
}

fn signalled(child: &mut Child, ops: SocketAddr, signals: &[&str], code: i32) -> anyhow::Result<()> {
    wait_until(|| Ok(readyz(ops).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))))?;
    for (index, signal) in signals.iter().enumerate() {
        if index > 0 {
            // The first one has arrived once the process says so; until then a second would be merged with it.
            wait_until(|| Ok(readyz(ops)?.contains("process: stopping")))?;
        }
        let killed = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status()?;
        ensure!(killed.success(), "kill -{signal}");
    }
    let mut ended = None;
    wait_until(|| {
        ended = child.try_wait()?;
        Ok(ended.is_some())
    })?;
    ensure!(ended.and_then(|status| status.code()) == Some(code), "{ended:?}");
    Ok(())
}

fn readyz(ops: SocketAddr) -> io::Result<String> {
    let mut connection = TcpStream::connect(ops)?;
    write!(connection, "GET /readyz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

fn wait_until(mut condition: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let started = Instant::now();
    while !condition()? {
        ensure!(started.elapsed() < DEADLINE, "the condition did not come true in time");
        thread::yield_now();
    }
    Ok(())
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
