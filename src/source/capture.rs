//! A running capture of one artifact, whatever it is of.

use super::{files, postgres, redis, volume};
use crate::error::Result;
use crate::pipeline::{Incoming, Inspector};
use crate::proof::Proof;
use crate::stack::ArtifactName;
use bytes::Bytes;

/// A running capture of one artifact.
pub enum Capture {
    /// A database, or a cluster's globals.
    Postgres(Box<postgres::Capture>),
    /// A snapshot.
    Redis(Box<redis::Capture>),
    /// A volume's archive.
    Volume(Box<volume::Capture>),
    /// The archive of a project's files.
    Files(Box<files::Capture>),
}

/// What is known at the proven end of a capture.
pub struct Ended {
    /// Evidence that every byte was read.
    pub proof: Proof,
    /// What the facts shall say.
    pub facts: serde_json::Value,
    /// How long the stream is uncompressed, in bytes, where its producer counted.
    pub raw_size: Option<u64>,
    /// What the person should know, for the manifest's notes.
    pub notes: Vec<String>,
}

impl Capture {
    /// The artifact.
    pub fn name(&self) -> &ArtifactName {
        match self {
            Self::Postgres(capture) => &capture.name,
            Self::Redis(capture) => &capture.name,
            Self::Volume(capture) => &capture.name,
            Self::Files(_) => &ArtifactName::Files,
        }
    }

    /// What its plain bytes are.
    pub fn media_type(&self) -> &'static str {
        match self {
            Self::Postgres(capture) => capture.media_type,
            Self::Redis(_) => redis::RDB_MEDIA_TYPE,
            Self::Volume(_) | Self::Files(_) => crate::archive::MEDIA_TYPE,
        }
    }

    /// How its bytes arrive.
    pub fn incoming(&self) -> Incoming {
        match self {
            Self::Postgres(capture) => capture.incoming,
            Self::Redis(capture) => capture.incoming,
            Self::Volume(capture) => capture.incoming,
            Self::Files(_) => Incoming::Raw,
        }
    }

    /// Which of several ways was taken, and why, where there are several.
    pub fn method(&self) -> Option<&str> {
        match self {
            Self::Postgres(_) | Self::Volume(_) | Self::Files(_) => None,
            Self::Redis(capture) => Some(&capture.method),
        }
    }

    /// The inspector for its raw bytes.
    pub fn inspector(&self) -> Box<dyn Inspector> {
        match self {
            Self::Postgres(capture) => capture.inspector(),
            Self::Redis(capture) => capture.inspector(),
            Self::Volume(capture) => capture.inspector(),
            Self::Files(_) => Box::new(volume::TarInspector::new()),
        }
    }

    /// The next bytes as they arrive; `None` at the proven end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Postgres(capture) => capture.next().await,
            Self::Redis(capture) => capture.next().await,
            Self::Volume(capture) => capture.next().await,
            Self::Files(capture) => Ok(capture.next().await),
        }
    }

    /// Evidence that the program ended well and every byte was read, and what the facts shall say of it.
    ///
    /// # Errors
    /// With the program's own last words where it failed.
    pub async fn finish(self, inspected: serde_json::Value) -> Result<Ended> {
        let (notes, ended) = match self {
            Self::Postgres(capture) => (capture.notes.clone(), capture.finish(inspected).await?),
            Self::Redis(capture) => (capture.notes.clone(), capture.finish(inspected).await?),
            Self::Volume(capture) => return capture.finish(inspected).await,
            Self::Files(capture) => return capture.finish(inspected).await,
        };
        let (proof, facts) = ended;
        Ok(Ended {
            proof,
            facts,
            raw_size: None,
            notes,
        })
    }

    /// Gives the capture up; what still runs in a container under the run's name is ended by its source.
    pub async fn abort(self) {
        if let Self::Volume(capture) = self {
            capture.abort().await;
        }
    }
}
