//! A tree out of a volume, as a compressed archive.

use super::inspector::TarInspector;
use super::session::Session;
use crate::archive::TreeFacts;
use crate::error::{Error, Result};
use crate::helper::protocol::{Archived, Request};
use crate::pipeline::{Incoming, Inspector, RawInspector, TRANSPORT_LEVEL};
use crate::proof::Proof;
use crate::source::capture::Ended;
use crate::stack::ArtifactName;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Threads that compress beside the volume.
const THREADS: u32 = 2;
/// A tree of which nothing comes for so long hangs.
const IDLE_LIMIT: Duration = Duration::from_mins(30);
/// How many names a note has at the most.
const SHOWN: usize = 5;

/// What is known of a volume's archive: `facts.json`, under its artifact's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// What it holds.
    pub tree: TreeFacts,
    /// Devices and sockets, which no archive holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// What changed, shrank or vanished while it was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
}

/// A backup's facts of a volume.
pub fn volume_facts(value: &serde_json::Value) -> Result<VolumeFacts> {
    serde_json::from_value(value.clone())
        .map_err(|error| Error::damaged("the facts of a volume cannot be read").caused_by(error))
}

/// A running capture of one tree.
pub struct Capture {
    /// The artifact.
    pub name: ArtifactName,
    /// How its bytes arrive.
    pub incoming: Incoming,
    session: Session,
}

impl Capture {
    /// Starts to read the tree that is mounted at `root` of the helper. `live` says that somebody may be writing to it.
    pub async fn start(
        name: ArtifactName,
        mut session: Session,
        root: &str,
        level: u8,
        live: bool,
    ) -> Result<Self> {
        session
            .ask(Request::Archive {
                root: root.to_owned(),
                level: level.min(TRANSPORT_LEVEL),
                threads: THREADS,
                live,
            })
            .await?;
        Ok(Self {
            name,
            incoming: match level > TRANSPORT_LEVEL {
                true => Incoming::Zstd,
                false => Incoming::Proven,
            },
            session,
        })
    }

    /// The inspector for its raw bytes, where they pass.
    pub fn inspector(&self) -> Box<dyn Inspector> {
        match self.incoming {
            Incoming::Zstd => Box::new(TarInspector::new()),
            Incoming::Raw | Incoming::Proven => Box::new(RawInspector::new()),
        }
    }

    /// The next bytes as they arrive; `None` at the proven end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        tokio::time::timeout(IDLE_LIMIT, self.session.data())
            .await
            .map_err(|_| {
                let minutes = IDLE_LIMIT.as_secs() / 60;
                Error::failed(format!(
                    "nothing came from the volume for {minutes} minutes"
                ))
            })?
    }

    /// Evidence that the helper came to its end and every byte was read, and what the facts shall say of it.
    pub async fn finish(mut self, inspected: serde_json::Value) -> Result<Ended> {
        let finished = self.session.finish_with_proof::<Archived>().await;
        let closed = self.session.close().await;
        let (proof, archived): (Proof, Archived) = finished?;
        closed?;
        let said = serde_json::to_value(&archived.tree).unwrap_or_default();
        if self.incoming == Incoming::Zstd && inspected != said {
            return Err(Error::failed(
                "what arrived is not what lifeboat's helper has read",
            ));
        }
        let mut notes = Vec::new();
        let irregular = archived.irregular;
        note(&mut notes, &self.name, "not archived", &irregular.skipped);
        note(
            &mut notes,
            &self.name,
            "changed while it was read",
            &irregular.changed,
        );
        let facts = VolumeFacts {
            tree: archived.tree,
            skipped: irregular.skipped,
            changed: irregular.changed,
        };
        Ok(Ended {
            proof,
            facts: serde_json::to_value(&facts).unwrap_or_default(),
            raw_size: Some(archived.raw_size),
            notes,
        })
    }

    /// Ends the helper, whatever it is doing.
    pub async fn abort(self) {
        let _ = self.session.close().await;
    }
}

/// Adds a note on what a tree's archive does not hold.
pub(in crate::source) fn note(
    notes: &mut Vec<String>,
    name: &ArtifactName,
    what: &str,
    paths: &[String],
) {
    if paths.is_empty() {
        return;
    }
    let mut shown = paths[..paths.len().min(SHOWN)].join(", ");
    if paths.len() > SHOWN {
        shown = format!("{shown} and {} more", paths.len() - SHOWN);
    }
    notes.push(format!("{name}: {what}: {shown}"));
}
