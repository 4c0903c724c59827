//! The native servers themselves: they start, survive what tests do to them, and die with the one who started them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio_postgres::NoTls;
use xtask::native::child::{Launch, is_alive};
use xtask::native::{Kafka, KafkaOptions, Postgres, PostgresOptions, Scratch, dev_database};

fn quick() -> PostgresOptions {
    PostgresOptions { without_fsync: true, ..PostgresOptions::default() }
}

async fn ask(url: &str, question: &str) -> Result<String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::select! {
        row = client.query_one(question, &[]) => Ok(row?.get(0)),
        _ = connection => anyhow::bail!("the connection ended"),
    }
}

#[tokio::test]
async fn postgres_keeps_its_data_and_port_over_a_restart_and_a_crash() -> Result<()> {
    let scratch = Scratch::new()?;
    let postgres = Postgres::start(&scratch.path().join("postgres"), quick())?;
    dev_database(&postgres)?;
    let url = postgres.url("users_owner", "users-owner-dev", "users");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::select! {
        done = client.batch_execute("CREATE TABLE kept (value text); INSERT INTO kept VALUES ('yes')") => done?,
        _ = connection => anyhow::bail!("the connection ended"),
    }
    postgres.restart()?;
    assert_eq!(ask(&url, "SELECT value FROM kept").await?, "yes");
    postgres.crash();
    assert!(ask(&url, "SELECT value FROM kept").await.is_err(), "nobody answers after a crash");
    postgres.restart()?;
    assert_eq!(ask(&url, "SELECT value FROM kept").await?, "yes");
    assert_eq!(ask(&url, "SHOW wal_level").await?, "logical");
    Ok(())
}

#[tokio::test]
async fn the_roles_of_the_services_cannot_replicate_or_see_each_other() -> Result<()> {
    let scratch = Scratch::new()?;
    let postgres = Postgres::start(&scratch.path().join("postgres"), quick())?;
    dev_database(&postgres)?;
    let replication =
        "SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolreplication AND rolname <> 'postgres'";
    assert_eq!(ask(&postgres.superuser_url("postgres"), replication).await?, "cdc_relay");
    assert!(ask(&postgres.url("users_service", "users-dev", "orders"), "SELECT ''").await.is_err());
    assert!(ask(&postgres.url("users_service", "wrong", "users"), "SELECT ''").await.is_err());
    Ok(())
}

#[test]
fn a_setting_of_a_test_wins_over_ours() -> Result<()> {
    let scratch = Scratch::new()?;
    let settings = vec![("wal_level".to_owned(), "replica".to_owned())];
    let postgres =
        Postgres::start(&scratch.path().join("postgres"), PostgresOptions { settings, ..quick() })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let level = runtime.block_on(ask(&postgres.superuser_url("postgres"), "SHOW wal_level"))?;
    assert_eq!(level, "replica");
    Ok(())
}

#[test]
fn kafka_answers_after_a_kill_on_the_same_port() -> Result<()> {
    let scratch = Scratch::new()?;
    let kafka = Kafka::start(&scratch.path().join("kafka"), KafkaOptions::default())?;
    let bootstrap = kafka.bootstrap();
    let topic = ["--bootstrap-server", &bootstrap, "--create", "--topic", "kept"];
    kafka.run_tool("org.apache.kafka.tools.TopicCommand", &topic)?;
    kafka.kill();
    assert!(!kafka.is_running());
    kafka.start_again()?;
    assert_eq!(kafka.bootstrap(), bootstrap);
    let describe = ["--bootstrap-server", &bootstrap, "--describe", "--topic", "kept"];
    kafka.run_tool("org.apache.kafka.tools.TopicCommand", &describe)
}

#[test]
fn a_child_outlives_the_thread_that_started_it() -> Result<()> {
    let scratch = Scratch::new()?;
    let log = scratch.path().join("sleep.log");
    let starter = std::thread::spawn(move || Launch::new("sleep", "sleep", log).arg("600").start());
    let child = starter.join().expect("the thread ends well")?;
    assert!(child.wait(Duration::from_millis(300)).is_none(), "it still runs");
    child.kill();
    assert!(child.ended().is_some());
    Ok(())
}

/// This test binary, started again, stands for the runner: its ignored test starts a child and waits.
#[test]
fn a_child_dies_with_its_runner_even_when_that_is_killed() -> Result<()> {
    let scratch = Scratch::new()?;
    let note = scratch.path().join("pid");
    let mut runner = Launch::new("runner", std::env::current_exe()?, scratch.path().join("runner.log"))
        .args(["--exact", "native::runner_that_waits_to_be_killed", "--ignored", "--nocapture"]);
    runner.folder = Some(scratch.path().to_owned());
    let runner = runner.start()?;
    let pid = eventually(|| std::fs::read_to_string(&note).ok().filter(|pid| !pid.is_empty()))
        .with_context(|| runner.last_line())?;
    let child = pid.parse()?;
    assert!(is_alive(child), "the child runs while its runner does");
    runner.kill();
    eventually(|| (!is_alive(child)).then_some(())).context("the child outlived its runner")
}

#[test]
#[ignore = "started by a_child_dies_with_its_runner_even_when_that_is_killed"]
fn runner_that_waits_to_be_killed() -> Result<()> {
    let child = Launch::new("sleep", "sleep", "sleep.log").arg("600").start()?;
    // Until `setpriv` has become `sleep`, the signal may not be set yet.
    let name = format!("/proc/{}/comm", child.pid());
    eventually(|| std::fs::read_to_string(&name).ok().filter(|name| name == "sleep\n"))
        .context("no sleep")?;
    std::fs::write("pid.new", child.pid().to_string())?;
    std::fs::rename("pid.new", "pid")?;
    child.wait(Duration::from_secs(600));
    Ok(())
}

fn eventually<T>(mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match condition() {
            Some(value) => return Some(value),
            None if Instant::now() > deadline => return None,
            None => std::thread::yield_now(),
        }
    }
}
