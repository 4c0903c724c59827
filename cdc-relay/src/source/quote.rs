//! Names inside replication commands, which take no parameters.
//!
//! Their grammar is not SQL's: there is no `E'…'`, and a backslash is a backslash.

/// A quoted identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted string.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::{identifier, literal};

    #[test]
    fn a_quote_inside_a_name_is_doubled() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's \\ so"), "'it''s \\ so'");
        assert_eq!(literal(&identifier("p'\"q")), "'\"p''\"\"q\"'");
    }
}
