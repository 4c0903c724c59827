//! Applies `deploy/postgres/init.sql` without `psql`, which the npm package does not bring.
//!
//! Of psql's own commands it knows `\getenv`, `\connect` and `:'name'`; a statement ends with `;` at the end of a line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tokio_postgres::NoTls;

use super::Postgres;
use crate::settings::Settings;
use crate::workspace;

/// Makes the databases `users` and `orders` and their roles, with the passwords of `.env`.
///
/// # Errors
///
/// When the server refuses a statement: the databases may exist already.
pub fn dev_database(postgres: &Postgres) -> Result<()> {
    let path = path();
    let text = script()?;
    let script = parse(&text, |name| Settings::get().value(name))?;
    // A thread of its own: the caller may be inside a runtime, which must not be entered twice.
    std::thread::scope(|scope| {
        scope.spawn(|| apply(postgres, &script)).join().expect("applying does not panic")
    })
    .with_context(|| format!("cannot apply {}", path.display()))
}

/// The script, to tell whether a cluster was made by another.
///
/// # Errors
///
/// When it cannot be read.
pub fn script() -> Result<String> {
    let path = path();
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn path() -> PathBuf {
    workspace::root().join("deploy/postgres/init.sql")
}

/// The statements for one database.
#[derive(Debug, PartialEq, Eq)]
struct Section {
    database: String,
    statements: Vec<String>,
}

fn parse(text: &str, variable: impl Fn(&str) -> Result<String>) -> Result<Vec<Section>> {
    let mut values = BTreeMap::new();
    let mut sections = vec![Section { database: "postgres".into(), statements: Vec::new() }];
    let mut statement = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("--")) {
        if let Some(command) = line.strip_prefix('\\') {
            match command.split_whitespace().collect::<Vec<_>>()[..] {
                ["getenv", name, from] => drop(values.insert(name.to_owned(), variable(from)?)),
                ["connect", database] => {
                    sections.push(Section { database: database.into(), statements: Vec::new() });
                }
                _ => bail!("cannot run \\{command} without psql"),
            }
            continue;
        }
        statement.push_str(line);
        statement.push(if line.ends_with(';') { ' ' } else { '\n' });
        if line.ends_with(';')
            && let Some(section) = sections.last_mut()
        {
            section.statements.push(substitute(statement.trim(), &values));
            statement.clear();
        }
    }
    Ok(sections)
}

fn substitute(statement: &str, values: &BTreeMap<String, String>) -> String {
    values.iter().fold(statement.to_owned(), |text, (name, value)| {
        text.replace(&format!(":'{name}'"), &format!("'{}'", value.replace('\'', "''")))
    })
}

fn apply(postgres: &Postgres, script: &[Section]) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    runtime.block_on(async {
        for section in script {
            let url = postgres.superuser_url(&section.database);
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
            let statements = async {
                for statement in &section.statements {
                    client.batch_execute(statement).await.with_context(|| first_words(statement))?;
                }
                anyhow::Ok(())
            };
            tokio::select! {
                done = statements => done?,
                ended = connection => bail!("the connection ended: {ended:?}"),
            }
        }
        Ok(())
    })
}

/// Enough of a statement to find it, without the password at its end.
fn first_words(statement: &str) -> String {
    statement.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_sections_of_statements_with_quoted_values() {
        let script =
            "-- roles\n\\getenv pw PW\nCREATE ROLE a\n  PASSWORD :'pw';\n\n\\connect users\nSELECT 1;\n";
        let sections = parse(script, |name| Ok(format!("{name}'s"))).unwrap();
        let expected = [("postgres", "CREATE ROLE a\nPASSWORD 'PW''s';"), ("users", "SELECT 1;")];
        let found: Vec<_> =
            sections.iter().map(|s| (s.database.as_str(), s.statements[0].as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_command_only_psql_knows_is_refused() {
        let error = parse("SELECT 1 \\gexec;\n\\include other.sql\n", |_| Ok(String::new())).unwrap_err();
        assert_eq!(error.to_string(), "cannot run \\include other.sql without psql");
    }
}
