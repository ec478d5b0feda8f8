//! Capturing: each database in a snapshot of its own, and the cluster's globals.

use super::archive::{ArchiveInspector, DumpFacts};
use super::properties::{self, Properties};
use super::quote::conninfo;
use super::server::{Database, Server};
use super::session::{Session, is_refusal};
use crate::docker::exec::{Producer, Transport};
use crate::error::{Error, Result};
use crate::pipeline::{Incoming, Inspector, RawInspector};
use crate::proof::Proof;
use crate::source::capability::incoming;
use crate::stack::ArtifactName;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A dump that prints nothing for so long hangs: a lock wait ends by itself long before.
const IDLE_LIMIT: Duration = Duration::from_mins(30);
/// Milliseconds that `pg_dump` waits for a table that somebody has locked.
const LOCK_WAIT: &str = "--lock-wait-timeout=60000";

/// The media type of `pg_dump --format=custom`.
pub const DUMP_MEDIA_TYPE: &str = "application/vnd.postgresql.custom-dump";
/// The media type of `pg_dumpall --globals-only`.
pub const GLOBALS_MEDIA_TYPE: &str = "application/sql";

/// What is known of a dumped database: `facts.json`, under its artifact's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// What belongs to the database and not to its contents; `None` where SQL could not reach it.
    pub properties: Option<Properties>,
    /// What the dump holds, counted from its own bytes.
    pub dump: DumpFacts,
}

/// A running capture of one artifact.
pub struct Capture {
    /// The artifact.
    pub name: ArtifactName,
    /// What its plain bytes are.
    pub media_type: &'static str,
    /// How its bytes arrive.
    pub incoming: Incoming,
    /// What could not be learned, for the manifest's notes.
    pub notes: Vec<String>,
    properties: Option<Properties>,
    producer: Producer,
    /// Holds the snapshot open until the dump has ended.
    snapshot: Option<Session>,
}

impl Capture {
    /// The inspector for its raw bytes.
    pub fn inspector(&self) -> Box<dyn Inspector> {
        if self.media_type == DUMP_MEDIA_TYPE {
            Box::new(ArchiveInspector::new())
        } else {
            Box::new(RawInspector::with_magic("--"))
        }
    }

    /// The next bytes as they arrive; `None` at the proven end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.producer.next().await
    }

    /// Evidence that the program ended well and every byte was read, and what the facts shall say of it.
    ///
    /// # Errors
    /// With the program's own last words where it failed.
    pub async fn finish(self, inspected: serde_json::Value) -> Result<(Proof, serde_json::Value)> {
        let proof = self.producer.finish().await?;
        if let Some(snapshot) = self.snapshot {
            // A session that just goes away is a line in the server's log. The dump has ended: that
            // this one's end may fail changes nothing.
            let _ = snapshot.execute("commit").await;
        }
        let facts = if self.media_type == DUMP_MEDIA_TYPE {
            serde_json::json!({ "properties": self.properties, "dump": inspected })
        } else {
            inspected
        };
        Ok((proof, facts))
    }
}

impl Server {
    /// Starts a dump of `database` in the custom format, uncompressed inside.
    pub async fn dump(&self, database: &Database, transport: Transport) -> Result<Capture> {
        let mut notes = Vec::new();
        let (snapshot, properties) = match self.connect(&database.name).await {
            Ok(session) => {
                let (id, properties) = open_snapshot(&session).await?;
                (Some((session, id)), Some(properties))
            }
            Err(error) if is_refusal(&error) => return Err(error),
            Err(error) => {
                notes.push(format!(
                    "{}: owner, settings, grants and extension versions are unavailable: {}",
                    database.name,
                    error.chain()
                ));
                (None, None)
            }
        };
        let target = conninfo(&database.name, self.user());
        let mut argv = vec![
            "pg_dump",
            "--format=custom",
            "--compress=0",
            "--no-password",
            LOCK_WAIT,
        ];
        let option = snapshot
            .as_ref()
            .and_then(|(_, id)| id.as_ref())
            .map(|id| format!("--snapshot={id}"));
        argv.extend(option.as_deref());
        argv.extend(["-d", &target]);
        let command = self.program(&argv).idle_timeout(IDLE_LIMIT);
        let producer = self
            .engine()
            .produce(&self.service().container_id, &command, transport)
            .await?;
        Ok(Capture {
            name: ArtifactName::Database {
                service: self.service().name.clone(),
                database: database.name.clone(),
            },
            media_type: DUMP_MEDIA_TYPE,
            incoming: incoming(transport),
            notes,
            properties,
            producer,
            snapshot: snapshot.map(|(session, _)| session),
        })
    }

    /// Starts a dump of roles and memberships. Without password verifiers where the role may not read
    /// them (`pg_authid` is for superusers), which the notes then say.
    pub async fn dump_globals(
        &self,
        may_read_passwords: bool,
        transport: Transport,
    ) -> Result<Capture> {
        let target = conninfo(self.maintenance_database(), self.user());
        let mut argv = vec![
            "pg_dumpall",
            "--globals-only",
            "--no-password",
            LOCK_WAIT,
            "-d",
            &target,
        ];
        let mut notes = Vec::new();
        if !may_read_passwords {
            argv.push("--no-role-passwords");
            notes.push(format!(
                "role {:?} may not read pg_authid: the globals of service {} hold no passwords",
                self.user(),
                self.service().name
            ));
        }
        let command = self.program(&argv).idle_timeout(IDLE_LIMIT);
        let producer = self
            .engine()
            .produce(&self.service().container_id, &command, transport)
            .await?;
        Ok(Capture {
            name: ArtifactName::Globals {
                service: self.service().name.clone(),
            },
            media_type: GLOBALS_MEDIA_TYPE,
            incoming: incoming(transport),
            notes,
            properties: None,
            producer,
            snapshot: None,
        })
    }
}

/// Opens a read-only snapshot, reads the database's properties in it and gives its id for `pg_dump`.
/// On a standby a snapshot can't be exported; the dump then takes its own.
async fn open_snapshot(session: &Session) -> Result<(Option<String>, Properties)> {
    session
        .execute(
            "begin isolation level repeatable read read only; \
             set local lock_timeout to '60s'; set local statement_timeout to 0; \
             set local idle_in_transaction_session_timeout to 0",
        )
        .await?;
    let properties = properties::read(session).await?;
    let standby: bool = session
        .query_one("select pg_is_in_recovery()", &[])
        .await?
        .get(0);
    if standby {
        return Ok((None, properties));
    }
    let id: String = session
        .query_one("select pg_export_snapshot()", &[])
        .await?
        .get(0);
    Ok((Some(id), properties))
}

/// Whether a backup's facts of a database can be read as such.
pub fn database_facts(value: &serde_json::Value) -> Result<DatabaseFacts> {
    serde_json::from_value(value.clone())
        .map_err(|error| Error::damaged("the facts of a database cannot be read").caused_by(error))
}
