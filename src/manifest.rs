//! What a backup says about itself: [`Manifest`], the [`Commit`] that makes it count, and [`Facts`].
//!
//! The fields are described for readers in docs/format.md. Sizes are bytes, times are UTC.

use crate::error::{Error, Result};
use crate::proof::Proof;
use crate::stack::{ArtifactName, SourceKind};
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// A backup's id: its UTC start and four random letters or digits, `20261122T020000Z-k3f9`.
/// Ids sort by time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackupId(String);

/// How the time stands in an id.
const ID_TIME: &str = "%Y%m%dT%H%M%SZ";

impl BackupId {
    /// The id of a run that started at `started`, told from others by four bytes of `entropy`.
    pub fn new(started: DateTime<Utc>, entropy: [u8; 4]) -> Self {
        const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let suffix: String = entropy
            .iter()
            .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
            .collect();
        Self(format!("{}-{suffix}", started.format(ID_TIME)))
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When the run started, to the second.
    pub fn started(&self) -> DateTime<Utc> {
        let (time, _) = self.0.split_once('-').unwrap_or((&self.0, ""));
        NaiveDateTime::parse_from_str(time, ID_TIME)
            .map_or(DateTime::UNIX_EPOCH, |time| time.and_utc())
    }
}

impl FromStr for BackupId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::usage(format!("{text:?} is not a backup's id"));
        let (time, suffix) = text.split_once('-').ok_or_else(invalid)?;
        let parsed = NaiveDateTime::parse_from_str(time, ID_TIME).map_err(|_| invalid())?;
        let canonical = parsed.format(ID_TIME).to_string() == time;
        let plain = suffix.len() == 4
            && suffix
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if canonical && plain {
            Ok(Self(text.to_owned()))
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

impl Serialize for BackupId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for BackupId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// `manifest.json`: what a backup holds and how it was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// The repository format it was written in.
    pub format: u32,
    /// The backup's id, equal to the one in its key.
    pub backup: BackupId,
    /// The stack, equal to the one in its key.
    pub stack: String,
    /// The host that ran lifeboat.
    pub host: String,
    /// The lifeboat that wrote it.
    pub lifeboat_version: String,
    /// When the run started.
    pub started: DateTime<Utc>,
    /// When the last artifact had landed.
    pub finished: DateTime<Utc>,
    /// Why it ran: `manual`, a schedule's name, `guard`.
    pub trigger: String,
    /// The person's own marks.
    pub tags: BTreeMap<String, String>,
    /// Whether all that was asked for is in it.
    pub complete: bool,
    /// Where not all of the stack was asked for: what was. Such a backup may be complete, and yet is not one of
    /// the whole stack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Where it is not complete: what is missing, and why.
    pub reasons: Vec<String>,
    /// What could not be learned or was left out, without making the backup partial.
    pub notes: Vec<String>,
    /// Whether names of databases and volumes are hidden: the facts, which are encrypted, say what they stand for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden_names: bool,
    /// The stored streams, in the order of their names.
    pub artifacts: Vec<Artifact>,
}

/// One stored stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name.
    pub name: ArtifactName,
    /// Which kind of store it came from.
    pub source: SourceKind,
    /// The container that it was read from.
    pub container_id: String,
    /// The image as the container names it: `postgres:17`.
    pub image: String,
    /// The image's repository digest, or its id on the engine where it has none.
    pub image_digest: String,
    /// The version of the server: `17.5`.
    pub engine_version: String,
    /// What the plain bytes are: `application/vnd.postgresql.custom-dump`, `application/sql`.
    pub media_type: String,
    /// What was done to the plain bytes, in order.
    pub encoding: Vec<Encoding>,
    /// Plain bytes.
    pub raw_size: u64,
    /// Bytes as stored: the sum of the objects' sizes.
    pub stored_size: u64,
    /// The objects whose concatenation is the stored stream.
    pub objects: Vec<ObjectRef>,
    /// When its capture started.
    pub started: DateTime<Utc>,
    /// When its capture ended.
    pub finished: DateTime<Utc>,
    /// How consistent it is.
    pub consistency: Consistency,
    /// Which of several ways of capturing it was taken, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// One step between plain and stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Zstandard, one or more frames.
    Zstd,
    /// age.
    Age,
}

/// How consistent a captured stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// The state of one moment, kept by the server.
    Snapshot,
    /// Nothing ran that could change it.
    Stopped,
    /// What could change it was paused.
    Paused,
    /// It may have changed while it was read.
    Live,
}

/// One object of a backup: its key below the backup's folder, its size in bytes and its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// The key, relative to the backup's folder: `postgres/postgres/db/app.dump.zst`.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Lowercase hex SHA-256 of the stored bytes.
    pub sha256: String,
}

/// `<id>.backup.json`, written last: a backup exists because this does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The repository format it was written in.
    pub format: u32,
    /// The backup's id.
    pub backup: BackupId,
    /// The stack.
    pub stack: String,
    /// Lowercase hex SHA-256 of `SHA256SUMS`.
    pub sha256sums: String,
    /// When the run started.
    pub started: DateTime<Utc>,
    /// When the last artifact had landed.
    pub finished: DateTime<Utc>,
    /// Why it ran.
    pub trigger: String,
    /// Whether all that was asked for is in it.
    pub complete: bool,
    /// What was asked for, where that is not the whole stack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// The artifacts' names.
    pub artifacts: Vec<ArtifactName>,
    /// Plain bytes of all artifacts.
    pub raw_size: u64,
    /// Stored bytes of all artifacts.
    pub stored_size: u64,
}

/// An artifact whose every byte has landed and whose producer is proven to have ended well. The
/// only thing that a repository commits.
#[derive(Debug, Clone)]
pub struct Sealed {
    artifact: Artifact,
}

impl Sealed {
    /// Seals `artifact` on the evidence of `proof`.
    ///
    /// # Errors
    /// Where the objects do not add up to the stored size: a stored stream with a gap is no artifact.
    pub fn new(_proof: &Proof, artifact: Artifact) -> Result<Self> {
        let landed: u64 = artifact.objects.iter().map(|object| object.size).sum();
        if landed != artifact.stored_size || artifact.objects.is_empty() {
            return Err(Error::failed(format!(
                "{}: {} bytes were sent to the repository and {landed} landed",
                artifact.name, artifact.stored_size
            )));
        }
        Ok(Self { artifact })
    }

    /// What the manifest will say of it.
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }
}

/// `facts.json`: what was counted while the bytes passed, one object a source (its key is the
/// artifact's name), opaque to everything but the source that wrote it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts(pub BTreeMap<String, serde_json::Value>);

impl Facts {
    /// Where what hidden names stand for is kept: real names by hidden ones. No artifact is called so.
    pub const NAMES: &'static str = "names";
    /// Where the manifest's notes and reasons are kept, where it is not to say them. No artifact is called so.
    pub const REMARKS: &'static str = "remarks";
}

/// What [`Facts::REMARKS`] holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remarks {
    /// As in the manifest.
    pub only: Vec<String>,
    /// As in the manifest.
    pub reasons: Vec<String>,
    /// As in the manifest.
    pub notes: Vec<String>,
}

impl Commit {
    /// The commit of the backup that `manifest` describes, whose `SHA256SUMS` has this digest.
    /// Nothing else makes one: a reader derives it again and compares.
    pub fn of(manifest: &Manifest, sha256sums: String) -> Self {
        let sum = |size: fn(&Artifact) -> u64| {
            manifest
                .artifacts
                .iter()
                .map(size)
                .fold(0, u64::saturating_add)
        };
        Self {
            format: manifest.format,
            backup: manifest.backup.clone(),
            stack: manifest.stack.clone(),
            only: manifest.only.clone(),
            sha256sums,
            started: manifest.started,
            finished: manifest.finished,
            trigger: manifest.trigger.clone(),
            complete: manifest.complete,
            artifacts: manifest
                .artifacts
                .iter()
                .map(|artifact| artifact.name.clone())
                .collect(),
            raw_size: sum(|artifact| artifact.raw_size),
            stored_size: sum(|artifact| artifact.stored_size),
        }
    }
}
