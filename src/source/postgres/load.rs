//! Restoring: a dump is loaded into a new database beside the live one, compared with its facts, and
//! only then given a name that somebody uses.

use super::dump::DatabaseFacts;
use super::globals::{self, Replay};
use super::parallel::List;
use super::properties::Properties;
use super::quote::{conninfo, identifier};
use super::server::Server;
use super::session::Session;
use super::swap::{self, Role};
use crate::docker::exec::{Consumer, Transport};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// Sort memory for index builds where the container has no limit, in MB.
const SORT_MEMORY: i64 = 256;

/// Runs the program with the list of `$LIFEBOAT_LIST` as a file, and the archive as its standard
/// input: no file is left in the container, and a read-only one will do.
const WITH_LIST: &str =
    r#"exec 6<&0; printf '%s' "$LIFEBOAT_LIST" | "$0" "$@" -L /dev/fd/5 5<&0 <&6"#;

/// What of an archive a `pg_restore` restores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it, in its order.
    Whole,
    /// What comes before data: schemas, types, tables. Needs the archive's table of contents only.
    Definitions,
    /// These entries.
    Entries(List),
}

impl Server {
    /// Refuses before anything is made where this server can't take the dump: an older major
    /// version, a missing extension, an unknown collation. Names both sides.
    pub async fn preflight(&self, session: &Session, facts: &DatabaseFacts) -> Result<()> {
        let here: String = session.query_one("show server_version", &[]).await?.get(0);
        let there = &facts.dump.archive.server_version;
        if let (Some(here_major), Some(there_major)) = (major(&here), major(there))
            && here_major < there_major
        {
            return Err(Error::failed(format!(
                "the dump is of PostgreSQL {there}, and service {} runs the older {here}",
                self.service().name
            ))
            .hint("restore into a server of the same or a newer major version"));
        }
        let available: BTreeSet<String> = session
            .query("select name::text from pg_available_extensions", &[])
            .await?
            .iter()
            .map(|row| row.get(0))
            .collect();
        let missing: Vec<&str> = facts
            .dump
            .extensions
            .keys()
            .map(String::as_str)
            .filter(|name| !available.contains(*name))
            .collect();
        if !missing.is_empty() {
            return Err(Error::failed(format!(
                "the dump needs extensions that the image {} of service {} does not have: {}",
                self.service().image,
                self.service().name,
                missing.join(", ")
            ))
            .hint("use an image that has them, as the one that the backup was made from"));
        }
        Ok(())
    }

    /// Replays the roles of a globals script that the server lacks. With `facts`, only those that
    /// this database needs.
    pub async fn replay_globals(
        &self,
        session: &Session,
        script: &str,
        wanted: Option<&BTreeSet<String>>,
    ) -> Result<Replay> {
        globals::replay(session, script, wanted).await
    }

    /// The roles that the database needs and the server lacks.
    pub async fn missing_roles(
        &self,
        session: &Session,
        wanted: &BTreeSet<String>,
    ) -> Result<Vec<String>> {
        let rows = session
            .query("select rolname::text from pg_roles", &[])
            .await?;
        let existing: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
        Ok(wanted.difference(&existing).cloned().collect())
    }

    /// Makes the empty side database `side` for `live`, marked so that a run that dies leaves
    /// something that is known to be a leftover.
    pub async fn create_side(
        &self,
        session: &Session,
        side: &str,
        live: &str,
        run: &str,
        properties: Option<&Properties>,
    ) -> Result<()> {
        let statement = match properties {
            Some(properties) => properties.create_statement(side),
            None => format!("create database {} template template0", identifier(side)),
        };
        session.execute(&statement).await.map_err(|error| {
            error.hint(format!(
                "role {:?} needs CREATEDB and membership in the owner's role; encoding and collation are those of the dumped database, which the server must know",
                self.user()
            ))
        })?;
        session
            .execute(&swap::mark(side, Role::Side, live, run))
            .await
    }

    /// Starts `pg_restore` of `part` of an archive into `database`. The caller writes the archive as
    /// `transport` says.
    pub async fn load(
        &self,
        database: &str,
        part: &Part,
        transport: Transport,
    ) -> Result<Consumer> {
        let target = conninfo(database, self.user());
        // No single transaction: a side database that fails is simply dropped, and one transaction
        // over thousands of tables or large objects runs out of locks.
        let plain = [
            "pg_restore",
            "--exit-on-error",
            "--no-password",
            "-d",
            &target,
        ];
        let command = match part {
            Part::Whole => self.program(&plain),
            Part::Definitions => self.program(&[&plain[..], &["--section=pre-data"]].concat()),
            Part::Entries(list) => self
                .program(&[&["sh", "-c", WITH_LIST], &plain[..]].concat())
                .env("LIFEBOAT_LIST", list.to_text()),
        };
        let command = command.env("PGOPTIONS", self.load_options());
        self.engine()
            .consume(&self.service().container_id, &command, transport)
            .await
    }

    /// Settings of a session that loads. Nothing waits for the disk at each commit: the swap's own
    /// commit does, and with it everything that was written before. Sorting for indexes gets memory
    /// within the container's limit.
    fn load_options(&self) -> String {
        let memory = match self.service().memory {
            0 => SORT_MEMORY,
            limit => (limit / (8 << 20)).clamp(16, SORT_MEMORY),
        };
        format!(
            "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 \
             -c synchronous_commit=off -c maintenance_work_mem={memory}MB"
        )
    }

    /// What the load left to do: planner statistics, and the properties that no dump replays.
    pub async fn settle(&self, database: &str, properties: Option<&Properties>) -> Result<()> {
        let session = self.connect(database).await?;
        session.execute("analyze").await?;
        for statement in properties
            .iter()
            .flat_map(|properties| properties.apply_statements(database))
        {
            session.execute(&statement).await?;
        }
        Ok(())
    }
}

/// The major version of `17.5 (Debian 17.5-1)`.
fn major(version: &str) -> Option<u32> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .and_then(|digits| digits.parse().ok())
}
