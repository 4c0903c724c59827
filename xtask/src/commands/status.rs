//! `cargo xtask status`: the table of what runs, as text, JSON, or variables for a shell.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::stack::lock::Lock;
use crate::stack::state::State;
use crate::workspace;

/// The options of `status`.
#[derive(Debug, Args)]
pub struct Options {
    /// How it is written.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,

    /// The folder of the stack.
    #[arg(long, value_name = "FOLDER", default_value_os_t = workspace::data())]
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
    Env,
}

/// Says what runs. Exit code 1 when nothing does, or not everything is healthy.
///
/// # Errors
///
/// Never, so far.
pub fn run(options: &Options) -> Result<ExitCode> {
    let Some(state) = State::load(&options.dir) else {
        match Lock::holder(&options.dir) {
            Some(pid) => eprintln!("Tailrace is starting (process {pid})"),
            None => eprintln!("Tailrace does not run: `cargo xtask up` starts it"),
        }
        return Ok(ExitCode::FAILURE);
    };
    match options.output {
        Format::Table => println!("{}\n{}", table(&state), try_this(&state)),
        Format::Json => println!("{:#}", as_json(&state)),
        Format::Env => print!("{}", as_variables(&state)),
    }
    let healthy = state.entries.iter().all(|entry| ["ready", "running"].contains(&entry.health().as_str()));
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What, URL, account, health: a line each.
pub fn table(state: &State) -> String {
    let head = ["what", "URL", "account", "health"].map(str::to_owned);
    let body = state.entries.iter().map(|e| [e.name.clone(), e.url.clone(), e.account.clone(), e.health()]);
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(body).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let line = |[what, url, account, health]: &[String; 4]| {
        let [a, b, c] = widths;
        format!("  {what:a$}  {url:b$}  {account:c$}  {health}\n")
    };
    format!("\n{}", rows.iter().map(line).collect::<String>())
}

/// One thing to try.
pub fn try_this(state: &State) -> String {
    let address = find(state, "user-service").trim_start_matches("http://").to_owned();
    let request =
        r#"{"user": {"display_name": "Ada", "email": "ada@example.com"}, "password": "a long password"}"#;
    format!(
        "Open {} and use the demo account, then create a user and watch it arrive:\n\n  \
         grpcurl -plaintext -d '{request}' {address} tailrace.user.v1.UserService/CreateUser\n",
        find(state, "web page"),
    )
}

fn find<'a>(state: &'a State, name: &str) -> &'a str {
    state.entries.iter().find(|entry| entry.name == name).map_or("", |entry| entry.url.as_str())
}

fn as_json(state: &State) -> serde_json::Value {
    let entry = |entry: &crate::stack::state::Entry| {
        json!({
            "name": entry.name, "url": entry.url, "health": entry.health(), "pid": entry.pid,
            "ops_port": entry.ops_port, "log": entry.log,
        })
    };
    json!({
        "runner_pid": state.runner_pid,
        "demo_account": { "email": state.demo_email, "password": state.demo_password },
        "processes": state.entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

fn as_variables(state: &State) -> String {
    let name = |name: &str| name.to_uppercase().replace(['-', ' '], "_");
    let urls =
        state.entries.iter().map(|entry| format!("TAILRACE_{}_URL='{}'\n", name(&entry.name), entry.url));
    let account = [("EMAIL", &state.demo_email), ("PASSWORD", &state.demo_password)];
    let account = account.map(|(name, value)| format!("TAILRACE_DEMO_{name}='{value}'\n"));
    urls.chain(account).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::state::Entry;

    fn state() -> State {
        let entry = |name: &str, url: &str| Entry {
            name: name.into(),
            url: url.into(),
            account: String::new(),
            pid: None,
            ops_port: None,
            log: "x.log".into(),
        };
        State {
            runner_pid: 1,
            entries: vec![
                entry("web page", "http://localhost:3000"),
                entry("user-service", "http://127.0.0.1:5001"),
            ],
            demo_email: "demo@tailrace.localhost".into(),
            demo_password: "secret".into(),
        }
    }

    #[test]
    fn columns_of_the_table_are_aligned() {
        let table = table(&state());
        let starts: Vec<_> = table.lines().filter_map(|line| line.find("http")).collect();
        assert_eq!(starts.len(), 2);
        assert_eq!(starts[0], starts[1]);
        assert!(table.contains("does not run"));
    }

    #[test]
    fn variables_can_be_read_by_a_shell() {
        let variables = as_variables(&state());
        assert!(variables.starts_with("TAILRACE_WEB_PAGE_URL='http://localhost:3000'\n"), "{variables}");
        assert!(variables.contains("TAILRACE_DEMO_PASSWORD='secret'\n"));
    }
}
