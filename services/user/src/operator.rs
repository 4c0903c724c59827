//! The `operator` command: decides who is an operator.

use std::io::{self, Write as _};

use anyhow::{Context as _, bail};
use tailrace_runtime::{postgres::Database, process::Misconfigured};

use crate::{config::Config, store::Store, user::Email};

/// Makes the user with this address an operator.
pub async fn grant(config: &Config, email: String) -> anyhow::Result<()> {
    let email = Email::new(email).map_err(|invalid| Misconfigured::new(format!("EMAIL {invalid}")))?;
    let database = Database::from_settings(&config.database, env!("CARGO_PKG_NAME"))?;
    if !Store::new(database).make_operator(&email).await.context("the user could not be changed")? {
        bail!("no user has this e-mail address; create him first");
    }
    // A closed stdout changes nothing of what was done.
    let _ = writeln!(io::stdout(), "granted; it holds from the next sign-in on");
    Ok(())
}
