//! A snapshot out of a server, in one of two ways.
//!
//! By **replication**: the container's client asks for what a new replica is sent. Nothing is written on the
//! server's disk and no file is left; it needs the rights to synchronise.
//!
//! By **saving**: `BGSAVE`, then the finished file is read. It needs room on the server's disk and replaces the
//! file of `dbfilename`; where it fails, a server with `stop-writes-on-bgsave-error` refuses writes. So it comes
//! second, for users who may not synchronise and for clients that cannot send a snapshot to a pipe.

use super::rdb::{MarkStripper, RdbFacts, RdbInspector};
use super::server::Server;
use super::survey::Survey;
use super::version::release;
use crate::docker::exec::{Producer, Transport};
use crate::error::{Error, Result};
use crate::pipeline::{Incoming, Inspector};
use crate::proof::Proof;
use crate::source::Capability;
use crate::source::capability::incoming;
use crate::stack::{ArtifactName, Compress};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// A snapshot that gets no further for so long hangs.
const IDLE_LIMIT: Duration = Duration::from_mins(30);

/// The media type of a snapshot.
pub const RDB_MEDIA_TYPE: &str = "application/vnd.redis.rdb";

/// What is known of a snapshot: `facts.json`, under its artifact's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// What it holds, counted from its own bytes.
    pub snapshot: RdbFacts,
}

/// A backup's facts of a snapshot.
pub fn snapshot_facts(value: &serde_json::Value) -> Result<SnapshotFacts> {
    serde_json::from_value(value.clone())
        .map_err(|error| Error::damaged("the facts of a snapshot cannot be read").caused_by(error))
}

/// A running capture of one server.
pub struct Capture {
    /// The artifact.
    pub name: ArtifactName,
    /// How its bytes arrive.
    pub incoming: Incoming,
    /// Which way was taken, and why.
    pub method: String,
    /// What the person should know.
    pub notes: Vec<String>,
    producer: Producer,
    mark: Option<MarkStripper>,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl Capture {
    /// The inspector for its raw bytes.
    pub fn inspector(&self) -> Box<dyn Inspector> {
        Box::new(RdbInspector::new())
    }

    /// The next bytes as they arrive; `None` at the proven end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            if self.ended {
                return Ok(None);
            }
            let Some(bytes) = self.producer.next().await? else {
                self.ended = true;
                if let Some(mark) = self.mark.take() {
                    self.ready.extend(mark.finish());
                }
                continue;
            };
            match &mut self.mark {
                Some(mark) => self.ready.extend(mark.push(bytes)),
                None => return Ok(Some(bytes)),
            }
        }
    }

    /// Evidence that the client ended well and every byte was read, and what the facts shall say of it.
    ///
    /// # Errors
    /// With the client's own last words where it failed.
    pub async fn finish(self, inspected: serde_json::Value) -> Result<(Proof, serde_json::Value)> {
        let proof = self.producer.finish().await.map_err(explained)?;
        Ok((proof, serde_json::json!({ "snapshot": inspected })))
    }
}

/// Whether a way is closed to this user, or to everybody: a command may be renamed.
fn is_closed(error: &Error) -> bool {
    let said = error.chain();
    said.contains("NOPERM") || said.contains("unknown command")
}

/// What is to be done about a client's last words.
fn explained(error: Error) -> Error {
    let said = error.chain();
    if said.contains("NOPERM") {
        error.hint("a backup's user needs +ping +sync +psync +replconf, or +bgsave +info")
    } else if said.contains("NOAUTH") || said.contains("WRONGPASS") {
        error.hint(
            "give the service's user and password in lifeboat.toml: [stack.NAME.redis.SERVICE]",
        )
    } else {
        error
    }
}

impl Server {
    /// Starts a capture the way that fits the server. The label `lifeboat.redis-capture` (`replication` or
    /// `save`) says otherwise.
    ///
    /// Returns once the first bytes are there: what a server can refuse, it has refused by then.
    pub async fn capture(
        &self,
        survey: &Survey,
        capability: Capability,
        compress: Compress,
        level: u8,
    ) -> Result<Capture> {
        let transport = capability.capture_transport(compress, level);
        let label = self.service().labels.get("lifeboat.redis-capture");
        match label.map(String::as_str) {
            Some("save") => {
                return self
                    .by_saving(
                        survey,
                        transport,
                        "the label lifeboat.redis-capture asks for it",
                    )
                    .await;
            }
            Some("replication") => return self.by_replication(survey, transport).await,
            Some(other) => {
                return Err(Error::usage(format!(
                    "service {}: the label lifeboat.redis-capture is {other:?}",
                    self.service().name
                ))
                .hint("it is replication or save"));
            }
            None => {}
        }
        // Before 7.0 the client fails on a pipe at its end (redis#9135).
        if !survey.valkey && release(&survey.version).is_some_and(|release| release < (7, 0)) {
            let why = "clients before 7.0 cannot send a snapshot to a pipe";
            return self.by_saving(survey, transport, why).await;
        }
        match self.by_replication(survey, transport).await {
            Err(error) if is_closed(&error) => {
                let why = "the user may not synchronise as a replica does";
                // Where neither way is open, the better one's refusal is the one to read.
                match self.by_saving(survey, transport, why).await {
                    Err(second) if is_closed(&second) => Err(error),
                    capture => capture,
                }
            }
            capture => capture,
        }
    }

    /// What a new replica is sent, through the container's client.
    async fn by_replication(&self, survey: &Survey, transport: Transport) -> Result<Capture> {
        // Behind a synchronisation without a file comes a mark, and a snapshot with a mark in it is none: the
        // raw bytes have to pass through here.
        let transport = match survey.diskless {
            Some(false) => transport,
            _ => Transport::Raw,
        };
        let producer = self.produce(&["--rdb", "-"], transport, IDLE_LIMIT).await?;
        let method = match survey.diskless_delay {
            seconds if survey.diskless == Some(true) && seconds > 0 => format!(
                "replication: a replica's synchronisation; the server waits {seconds} s before it starts \
                 (repl-diskless-sync-delay)"
            ),
            _ => "replication: a replica's synchronisation".to_owned(),
        };
        let mark = matches!(transport, Transport::Raw).then(MarkStripper::new);
        self.started(producer, transport, method, mark).await
    }

    /// `BGSAVE`, and the file that it wrote.
    async fn by_saving(&self, survey: &Survey, transport: Transport, why: &str) -> Result<Capture> {
        let layout = survey.layout.as_ref().map_err(|said| {
            Error::failed(format!(
                "service {}: the server does not tell where it saves its snapshot: {said}",
                self.service().name
            ))
            .hint("a user needs +config|get, or +sync +psync +replconf")
        })?;
        self.save().await?;
        let path = format!("{}/{}", layout.dir.trim_end_matches('/'), layout.dbfilename);
        let command = self.command("cat", &[&path]).idle_timeout(IDLE_LIMIT);
        let producer = self
            .engine()
            .produce(&self.service().container_id, &command, transport)
            .await?;
        let method = format!("save: BGSAVE and its file {path}; {why}");
        self.started(producer, transport, method, None).await
    }

    /// Waits for the first bytes.
    async fn started(
        &self,
        mut producer: Producer,
        transport: Transport,
        method: String,
        mut mark: Option<MarkStripper>,
    ) -> Result<Capture> {
        let mut ready = VecDeque::new();
        let Some(bytes) = producer.next().await? else {
            // Nothing at all: the client's status and last words say why.
            return Err(match producer.finish().await {
                Err(error) => explained(error),
                Ok(_) => Error::failed(format!(
                    "the client of service {} ended well and sent nothing",
                    self.service().name
                )),
            });
        };
        match &mut mark {
            Some(mark) => ready.extend(mark.push(bytes)),
            None => ready.push_back(bytes),
        }
        Ok(Capture {
            name: ArtifactName::Redis {
                service: self.service().name.clone(),
            },
            incoming: incoming(transport),
            method,
            notes: Vec::new(),
            producer,
            mark,
            ready,
            ended: false,
        })
    }
}
