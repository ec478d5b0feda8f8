//! Quoting of names and values for SQL and for connection strings.
//!
//! A database may be called `dbname=postgres`, and a plain argument would make `pg_dump` dump another
//! one; names with quotes, newlines and leading dashes are just as normal.

/// A name as an SQL identifier: always quoted, quotes doubled.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as an SQL string literal, whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A connection string that names a database (and a role) whatever characters they hold.
pub(crate) fn conninfo(database: &str, user: &str) -> String {
    let value = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    format!("dbname={} user={}", value(database), value(user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_backslashes_escaped() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
        assert_eq!(
            conninfo("dbname=x", "o'k\\"),
            "dbname='dbname=x' user='o\\'k\\\\'"
        );
    }
}
