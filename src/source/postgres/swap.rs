//! Exchanging a live database for one that was restored beside it, and back again.
//!
//! Both renames happen in one transaction, so a restore that dies leaves either the old database or the
//! new one serving, never neither. `ALTER DATABASE … RENAME` takes an exclusive lock on the
//! database's entry, which holds up new connections, and then waits up to five seconds for the
//! sessions that are left (`CountOtherDBBackends` in procarray.c): a second session ends those
//! meanwhile. An application therefore sees the old database, a broken connection, and at its next
//! try the new one.
//!
//! What a kept database was called is written on itself, as a setting of the prefix `lifeboat.`, in the same
//! transaction: the way back needs neither a file of ours nor the machine that made the swap.

use super::properties::MARK_PREFIX;
use super::quote::{identifier, literal};
use super::server::Server;
use super::session::{Session, Told, describe};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// PostgreSQL's limit for a name, in bytes (`NAMEDATALEN` - 1).
const LONGEST_NAME: usize = 63;
/// How often a swap is tried when sessions come back faster than they can be ended.
const ATTEMPTS: u32 = 5;

/// Why lifeboat keeps or made a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It served before a restore; `rollback` brings it back.
    Kept,
    /// It served between a restore and its rollback.
    Undone,
    /// It is being restored into. With no run at work it is a leftover.
    Side,
}

impl Role {
    fn setting(self) -> &'static str {
        match self {
            Self::Kept => "kept_as_old_of",
            Self::Undone => "undone_of",
            Self::Side => "side_of",
        }
    }
}

/// A database that lifeboat has marked.
#[derive(Debug, Clone)]
pub struct Marked {
    /// Its present name.
    pub name: String,
    /// Why it is there.
    pub role: Role,
    /// The name of the database that it belongs to.
    pub of: String,
    /// The run that marked it.
    pub run: String,
}

/// `<name>_<what>_<run>`. Where that is too long for PostgreSQL, the name is cut at a character and a digest of
/// the whole stands for the rest, because another database may have the same beginning.
pub fn derived_name(name: &str, what: &str, run: &str) -> String {
    let suffix = format!("_{what}_{run}");
    if name.len() + suffix.len() <= LONGEST_NAME {
        return format!("{name}{suffix}");
    }
    let digest = hex::encode(&Sha256::digest(name)[..3]);
    let mut end = LONGEST_NAME.saturating_sub(suffix.len() + 1 + digest.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{digest}{suffix}", &name[..end])
}

/// The statements that mark a database.
pub(super) fn mark(name: &str, role: Role, of: &str, run: &str) -> String {
    let database = identifier(name);
    format!(
        "alter database {database} set {MARK_PREFIX}{} to {}; alter database {database} set {MARK_PREFIX}run to {}",
        role.setting(),
        literal(of),
        literal(run),
    )
}

/// The statements that take all marks off a database.
pub(super) fn unmark(name: &str) -> String {
    let database = identifier(name);
    [
        Role::Kept.setting(),
        Role::Undone.setting(),
        Role::Side.setting(),
        "run",
    ]
    .map(|setting| format!("alter database {database} reset {MARK_PREFIX}{setting}"))
    .join("; ")
}

/// Every database of the server that carries a mark, newest run first.
pub async fn marked(session: &Session) -> Result<Vec<Marked>> {
    let rows = session
        .query(
            "select d.datname::text, s.setconfig from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase \
             where s.setrole = 0",
            &[],
        )
        .await?;
    let mut found = Vec::new();
    for row in &rows {
        let entries: Vec<String> = row.get(1);
        let value = |setting: &str| {
            let prefix = format!("{MARK_PREFIX}{setting}=");
            entries
                .iter()
                .find_map(|entry| entry.strip_prefix(&prefix))
                .map(str::to_owned)
        };
        for role in [Role::Kept, Role::Undone, Role::Side] {
            if let (Some(of), Some(run)) = (value(role.setting()), value("run")) {
                found.push(Marked {
                    name: row.get(0),
                    role,
                    of,
                    run,
                });
            }
        }
    }
    found.sort_by(|a, b| b.run.cmp(&a.run));
    Ok(found)
}

/// Makes `incoming` serve under the name `live`, in one transaction: the database that serves now, if
/// there is one, becomes `aside` and is marked with `aside_role`.
pub async fn swap(
    server: &Server,
    live: &str,
    incoming: &str,
    aside: Option<(&str, Role)>,
    run: &str,
) -> Result<()> {
    let mut statements = Vec::new();
    if let Some((aside, role)) = aside {
        statements.extend(setting_aside(live, aside, role, run));
    }
    statements.push(renaming(incoming, live));
    statements.push(unmark(live));
    exchange(server, live, incoming, &statements).await
}

/// Takes `live` out of service, in one transaction: it becomes `aside` and is marked with `role`; nothing serves under
/// its name then.
pub async fn set_aside(
    server: &Server,
    live: &str,
    aside: &str,
    role: Role,
    run: &str,
) -> Result<()> {
    let statements = setting_aside(live, aside, role, run);
    exchange(server, live, aside, &statements).await
}

fn renaming(from: &str, to: &str) -> String {
    format!(
        "alter database {} rename to {}",
        identifier(from),
        identifier(to)
    )
}

fn setting_aside(live: &str, aside: &str, role: Role, run: &str) -> [String; 3] {
    [
        renaming(live, aside),
        unmark(aside),
        mark(aside, role, live, run),
    ]
}

/// Runs the statements of a swap in one transaction, while the sessions of both databases are ended.
async fn exchange(
    server: &Server,
    live: &str,
    incoming: &str,
    statements: &[String],
) -> Result<()> {
    let renaming = server.maintenance(&[live, incoming]).await?;
    let ending = server.maintenance(&[live, incoming]).await?;
    let transaction = format!(
        "begin; set local lock_timeout to '60s'; {}; commit",
        statements.join("; ")
    );
    let databases = [live, incoming];
    let mut attempt = 1;
    loop {
        let exchange = renaming.try_execute(&transaction);
        let result = tokio::select! {
            result = exchange => result,
            error = keep_ending_sessions(&ending, &databases) => return Err(error),
        };
        match result {
            Ok(()) => return Ok(()),
            // 55006, object in use: somebody got in between the first rename and its lock.
            Err(error)
                if error.code().is_some_and(|code| code.code() == "55006")
                    && attempt < ATTEMPTS =>
            {
                renaming.execute("rollback").await?;
                attempt += 1;
            }
            Err(error) => {
                let failed = Error::failed(format!(
                    "the swap of {live:?} was rolled back, the old database still serves: {}",
                    describe(&error)
                ));
                return Err(failed.caused_by(Told(error)));
            }
        }
    }
}

/// Ends every session of the named databases until dropped; returns only where that fails.
async fn keep_ending_sessions(session: &Session, databases: &[&str]) -> Error {
    let names: Vec<String> = databases.iter().map(|name| literal(name)).collect();
    let sql = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname in ({}) and pid <> pg_backend_pid()",
        names.join(", ")
    );
    loop {
        if let Err(error) = session.query(&sql, &[]).await {
            return error.while_doing("cannot end the sessions of the live database");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Drops a database that lifeboat made, ending whatever still uses it.
pub async fn drop_database(session: &Session, name: &str) -> Result<()> {
    let terminate = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = {} and pid <> pg_backend_pid()",
        literal(name)
    );
    session.query(&terminate, &[]).await?;
    session
        .execute(&format!("drop database if exists {}", identifier(name)))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_names_fit_differ_and_stay_whole_characters() {
        assert_eq!(derived_name("app", "before", "x"), "app_before_x");
        let name = derived_name(&"é".repeat(31), "before", "20261122T020000Z-k3f9");
        assert!(
            name.len() <= 63 && name.ends_with("_before_20261122T020000Z-k3f9"),
            "{name}"
        );
        let other = derived_name(
            &format!("{}x", "é".repeat(30)),
            "before",
            "20261122T020000Z-k3f9",
        );
        assert_ne!(name, other);
    }
}
