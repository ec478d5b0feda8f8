//! A running capture of one artifact, whatever it is of.

use super::{postgres, redis};
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
}

impl Capture {
    /// The artifact.
    pub fn name(&self) -> &ArtifactName {
        match self {
            Self::Postgres(capture) => &capture.name,
            Self::Redis(capture) => &capture.name,
        }
    }

    /// What its plain bytes are.
    pub fn media_type(&self) -> &'static str {
        match self {
            Self::Postgres(capture) => capture.media_type,
            Self::Redis(_) => redis::RDB_MEDIA_TYPE,
        }
    }

    /// How its bytes arrive.
    pub fn incoming(&self) -> Incoming {
        match self {
            Self::Postgres(capture) => capture.incoming,
            Self::Redis(capture) => capture.incoming,
        }
    }

    /// Which of several ways was taken, and why, where there are several.
    pub fn method(&self) -> Option<&str> {
        match self {
            Self::Postgres(_) => None,
            Self::Redis(capture) => Some(&capture.method),
        }
    }

    /// What could not be learned, for the manifest's notes.
    pub fn notes(&self) -> &[String] {
        match self {
            Self::Postgres(capture) => &capture.notes,
            Self::Redis(capture) => &capture.notes,
        }
    }

    /// The inspector for its raw bytes.
    pub fn inspector(&self) -> Box<dyn Inspector> {
        match self {
            Self::Postgres(capture) => capture.inspector(),
            Self::Redis(capture) => capture.inspector(),
        }
    }

    /// The next bytes as they arrive; `None` at the proven end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match self {
            Self::Postgres(capture) => capture.next().await,
            Self::Redis(capture) => capture.next().await,
        }
    }

    /// Evidence that the program ended well and every byte was read, and what the facts shall say of it.
    ///
    /// # Errors
    /// With the program's own last words where it failed.
    pub async fn finish(self, inspected: serde_json::Value) -> Result<(Proof, serde_json::Value)> {
        match self {
            Self::Postgres(capture) => capture.finish(inspected).await,
            Self::Redis(capture) => capture.finish(inspected).await,
        }
    }
}
