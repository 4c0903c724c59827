//! What the role of a service may do: read and write the rows that it needs, and nothing else.
//!
//! The role that owns the tables gives it, each time it brings the schema up to date; what was given otherwise is taken
//! back.

use std::fmt::Write as _;

use tokio_postgres::{Client, Error, types::Type};

/// What a role may do with a table, in the words of GRANT: (table, privileges).
pub type Right<'a> = (&'a str, &'a str);

/// Of every service. An event can be written and never read, changed or taken away.
const OUTBOX_RIGHTS: &[Right<'_>] = &[
    ("outbox", "INSERT"),
    ("carried_out_request", "SELECT, INSERT, DELETE"),
    ("outbox_migration", "SELECT"),
    ("migration", "SELECT"),
];

/// Gives `role` the `rights` of its service and those of the outbox, and no other; nothing when it is the owner itself.
pub(crate) async fn grant(client: &Client, role: &str, rights: &[Right<'_>]) -> Result<(), Error> {
    let same = client.query_typed_one("SELECT current_user = $1", &[(&role, Type::TEXT)]).await?;
    if same.try_get(0)? {
        return Ok(());
    }
    client.batch_execute(&statements(role, rights)).await
}

/// One message, and so one transaction: nobody sees the moment between taking and giving.
fn statements(role: &str, rights: &[Right<'_>]) -> String {
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    let mut statements = format!("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}");
    for (table, privileges) in OUTBOX_RIGHTS.iter().chain(rights) {
        let _ = write!(statements, "; GRANT {privileges} ON \"{table}\" TO {role}");
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_gets_the_rights_of_its_service_and_cannot_break_out_of_its_name() {
        let statements = statements("a\"b", &[("things", "SELECT")]);
        assert!(statements.starts_with(
            r#"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "a""b"; GRANT INSERT ON "outbox" TO "a""b""#
        ));
        assert!(statements.ends_with(r#"; GRANT SELECT ON "things" TO "a""b""#));
    }
}
