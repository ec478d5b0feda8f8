//! A cluster's globals (roles, memberships): the one stream that is SQL text, replayed statement by
//! statement. What exists on the target is kept as it is; what is missing is made.

use super::quote::identifier;
use super::session::{Session, describe};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// One statement of a globals script that lifeboat replays.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Statement<'a> {
    /// `CREATE ROLE x;`
    CreateRole(String),
    /// Anything about one role: `ALTER ROLE x …`, `COMMENT ON ROLE x …`.
    AboutRole(String, &'a str),
    /// `GRANT a TO b …`.
    Membership(String, String, &'a str),
    /// `GRANT SET ON PARAMETER p TO x;`; to everybody where no role is named.
    Parameter(Option<String>, &'a str),
    /// `CREATE TABLESPACE x …` and what is said about it.
    Tablespace(String),
    /// Session settings, comments, psql's own commands: not for replay.
    Other,
}

/// What a replay did.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// Roles that were made.
    pub created: Vec<String>,
    /// Roles that existed and were left as they were.
    pub kept: Vec<String>,
    /// Statements that could not be replayed, and why; they name no secret.
    pub skipped: Vec<String>,
}

/// Replays `script`. Only roles in `wanted` are made, where it is given: a restore of one database
/// makes the roles that this database needs and no others.
///
/// # Errors
/// Where the server refuses to make a role. Statements about tablespaces are skipped and reported: their
/// directories belong to the old machine.
pub(super) async fn replay(
    session: &Session,
    script: &str,
    wanted: Option<&BTreeSet<String>>,
) -> Result<Replay> {
    let existing: BTreeSet<String> = session
        .query("select rolname::text from pg_roles", &[])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect();
    let makes =
        |role: &str| !existing.contains(role) && wanted.is_none_or(|wanted| wanted.contains(role));
    let mut done = Replay::default();
    for text in split(script) {
        match classify(text) {
            Statement::CreateRole(role) if existing.contains(&role) => done.kept.push(role),
            Statement::CreateRole(role) if makes(&role) => {
                session.execute(text).await?;
                done.created.push(role);
            }
            Statement::AboutRole(role, text) if makes(&role) => session.execute(text).await?,
            Statement::Membership(role, member, text) if makes(&role) || makes(&member) => {
                // The other side may be a role that nobody wanted, or the grantor may be missing here.
                if let Err(error) = session.try_execute(text).await {
                    done.skipped.push(format!(
                        "membership of {member} in {role}: {}",
                        describe(&error)
                    ));
                }
            }
            Statement::Parameter(Some(role), text) if makes(&role) => session.execute(text).await?,
            Statement::Parameter(None, text) if wanted.is_none() => session.execute(text).await?,
            Statement::Tablespace(name) if wanted.is_none() => {
                done.skipped.push(format!(
                    "tablespace {name}: its directory belongs to the old machine"
                ));
            }
            _ => {}
        }
    }
    if let Some(wanted) = wanted {
        let missing: Vec<&str> = wanted
            .iter()
            .filter(|role| !existing.contains(*role) && !done.created.contains(role))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            return Err(missing_roles(&missing));
        }
    }
    Ok(done)
}

/// What a globals script says about one role: attributes, password, settings, comment, parameters, memberships.
pub fn about_role<'s>(script: &'s str, wanted: &str) -> Vec<&'s str> {
    let is_about = |text: &&str| match classify(text) {
        Statement::AboutRole(role, _)
        | Statement::Parameter(Some(role), _)
        | Statement::Membership(_, role, _) => role == wanted,
        _ => false,
    };
    split(script).into_iter().filter(is_about).collect()
}

/// The error for roles that are neither on the server nor in the backup.
pub fn missing_roles<S: AsRef<str>>(missing: &[S]) -> Error {
    let names: Vec<&str> = missing.iter().map(AsRef::as_ref).collect();
    let statements: Vec<String> = names
        .iter()
        .map(|role| format!("create role {};", identifier(role)))
        .collect();
    Error::failed(format!(
        "the backup needs roles that the target server does not have: {}",
        names.join(", ")
    ))
    .hint(format!("create them first: {}", statements.join(" ")))
}

/// The roles that a globals script makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptRoles {
    /// All of them.
    pub all: BTreeSet<String>,
    /// Those that are superusers.
    pub superusers: BTreeSet<String>,
}

impl ScriptRoles {
    /// Reads a script.
    pub fn of(script: &str) -> Self {
        let mut roles = Self::default();
        for text in split(script) {
            match classify(text) {
                Statement::CreateRole(role) => {
                    roles.all.insert(role);
                }
                Statement::AboutRole(role, text) => {
                    // The password comes last, and may hold anything.
                    let attributes = text.split(" PASSWORD ").next().unwrap_or_default();
                    let words = attributes.strip_suffix(';').unwrap_or(attributes);
                    if words.split(' ').any(|word| word == "SUPERUSER") {
                        roles.superusers.insert(role);
                    }
                }
                _ => {}
            }
        }
        roles
    }

    /// Who the superuser of a new cluster has to be, so that what the script says about the old one's holds: the
    /// owner of the database `postgres`, which is the role that `initdb` made, else one of that usual name, else any.
    pub fn first_superuser<'a>(&'a self, owner_of_postgres: Option<&'a str>) -> Option<&'a str> {
        let known = |name: &&'a str| self.superusers.contains(*name);
        owner_of_postgres
            .filter(known)
            .or_else(|| Some("postgres").filter(known))
            .or_else(|| self.superusers.first().map(String::as_str))
    }
}

/// Cuts a script into statements at the semicolons outside quotes. Lines of comments and psql's
/// backslash commands (`\restrict` since CVE-2025-8714) come out as statements of their own.
fn split(script: &str) -> Vec<&str> {
    let bytes = script.as_bytes();
    let mut statements = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < bytes.len() {
        let fresh = script[start..at].trim().is_empty();
        match bytes[at] {
            b'\\' if fresh => at = line_end(bytes, at),
            b'-' if bytes.get(at + 1) == Some(&b'-') => at = line_end(bytes, at),
            b'\'' => {
                let escapes = at > 0 && matches!(bytes[at - 1], b'E' | b'e');
                at = quote_end(bytes, at, escapes);
                continue;
            }
            b'"' => {
                at = quote_end(bytes, at, false);
                continue;
            }
            b';' => {}
            _ => {
                at += 1;
                continue;
            }
        }
        // Here stands the end of a statement: a semicolon, or the end of a line that is one.
        at = (at + 1).min(bytes.len());
        let statement = script[start..at].trim();
        if !statement.is_empty() {
            statements.push(statement);
        }
        start = at;
    }
    statements
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    memchr::memchr(b'\n', &bytes[from..]).map_or(bytes.len(), |offset| from + offset)
}

/// Behind the quote that closes the one at `open`.
fn quote_end(bytes: &[u8], open: usize, escapes: bool) -> usize {
    let quote = bytes[open];
    let mut at = open + 1;
    while at < bytes.len() {
        if escapes && bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at] != quote {
            at += 1;
        } else if bytes.get(at + 1) == Some(&quote) {
            at += 2;
        } else {
            return at + 1;
        }
    }
    bytes.len()
}

fn classify(statement: &str) -> Statement<'_> {
    let keywords = |words: &str| statement.strip_prefix(words);
    if let Some((role, _)) = keywords("CREATE ROLE ").and_then(name) {
        return Statement::CreateRole(role);
    }
    for words in ["ALTER ROLE ", "COMMENT ON ROLE "] {
        if let Some((role, _)) = keywords(words).and_then(name) {
            return Statement::AboutRole(role, statement);
        }
    }
    if let Some((role, rest)) = keywords("GRANT ").and_then(name)
        && let Some((member, _)) = rest.trim_start().strip_prefix("TO ").and_then(name)
    {
        return Statement::Membership(role, member, statement);
    }
    if keywords("GRANT ").is_some()
        && let Some((_, grantee)) = statement
            .split_once(" ON PARAMETER ")
            .and_then(|(_, parameter)| parameter.split_once(" TO "))
    {
        let role = name(grantee).map(|(role, _)| role);
        let everybody = grantee.starts_with("PUBLIC");
        return Statement::Parameter(role.filter(|_| !everybody), statement);
    }
    match keywords("CREATE TABLESPACE ").and_then(name) {
        Some((tablespace, _)) => Statement::Tablespace(tablespace),
        None => Statement::Other,
    }
}

/// The identifier at the start of `text`, and what follows it.
fn name(text: &str) -> Option<(String, &str)> {
    if text.starts_with('"') {
        let end = quote_end(text.as_bytes(), 0, false);
        let inner = text.get(1..end.checked_sub(1)?)?;
        return Some((inner.replace("\"\"", "\""), &text[end..]));
    }
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()))
        .unwrap_or(text.len());
    (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_cut_outside_quotes_only() {
        let script = "--\n-- Roles\n--\n\\restrict abc;d\nSET x = on;\nCREATE ROLE \"a;\"\"b\n-- c\";\n\
                      ALTER ROLE plain WITH PASSWORD 'it''s; \\';\nCOMMENT ON ROLE plain IS E'a\\';b';\n\\unrestrict abc\n";
        let statements: Vec<&str> = split(script);
        assert_eq!(
            statements,
            [
                "--",
                "-- Roles",
                "--",
                "\\restrict abc;d",
                "SET x = on;",
                "CREATE ROLE \"a;\"\"b\n-- c\";",
                "ALTER ROLE plain WITH PASSWORD 'it''s; \\';",
                "COMMENT ON ROLE plain IS E'a\\';b';",
                "\\unrestrict abc",
            ]
        );
    }

    #[test]
    fn the_superuser_of_a_new_cluster_is_the_old_ones() {
        let script = "CREATE ROLE app;\nALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'a SUPERUSER b';\n\
                      CREATE ROLE procgenie;\nALTER ROLE procgenie WITH SUPERUSER INHERIT LOGIN;\n\
                      CREATE ROLE \"z;\";\nALTER ROLE \"z;\" WITH SUPERUSER;\n";
        let roles = ScriptRoles::of(script);
        assert_eq!(roles.all.len(), 3);
        assert_eq!(roles.first_superuser(Some("z;")), Some("z;"));
        assert_eq!(roles.first_superuser(Some("app")), Some("procgenie"));
        assert_eq!(roles.first_superuser(None), Some("procgenie"));
        assert_eq!(ScriptRoles::default().first_superuser(Some("x")), None);
    }

    #[test]
    fn statements_are_told_apart_by_whom_they_are_about() {
        assert_eq!(
            classify("CREATE ROLE \"a;\"\"b\";"),
            Statement::CreateRole("a;\"b".into())
        );
        assert_eq!(
            classify("ALTER ROLE x WITH LOGIN;"),
            Statement::AboutRole("x".into(), "ALTER ROLE x WITH LOGIN;")
        );
        let grant = "GRANT \"re ader\" TO zoë WITH INHERIT TRUE GRANTED BY postgres;";
        assert_eq!(
            classify(grant),
            Statement::Membership("re ader".into(), "zoë".into(), grant)
        );
        let parameter = "GRANT SET,ALTER SYSTEM ON PARAMETER log_statement TO \"zoë schön\";";
        assert_eq!(
            classify(parameter),
            Statement::Parameter(Some("zoë schön".into()), parameter)
        );
        let everybody = "GRANT SET ON PARAMETER log_statement TO PUBLIC;";
        assert_eq!(classify(everybody), Statement::Parameter(None, everybody));
        assert_eq!(classify("\\restrict x"), Statement::Other);
        assert_eq!(
            classify("CREATE TABLESPACE fast OWNER x LOCATION '/srv';"),
            Statement::Tablespace("fast".into())
        );
    }
}
