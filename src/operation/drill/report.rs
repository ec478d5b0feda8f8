//! What came of a drill, and what of it is kept beside the backup.

use super::DrillRequest;
use super::plan::Planned;
use crate::error::{Error, Kind, Result};
use crate::manifest::{BackupId, Consistency};
use crate::operation::Context;
use crate::operation::plan::Plan;
use crate::repository::Backup;
use crate::schedule::DrillCheck;
use crate::stack::ArtifactName;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The format of a proof.
const PROOF_FORMAT: u32 = 1;
/// How many reasons an error names.
const NAMED: usize = 5;

/// What came of a drill.
#[derive(Debug, Clone, Serialize)]
pub struct DrillReport {
    /// What was done, or would be.
    #[serde(skip)]
    pub plan: Plan,
    /// The drill's run.
    pub run: String,
    /// The stack.
    pub stack: String,
    /// The backup.
    pub backup: BackupId,
    /// The repository's address.
    pub repository: String,
    /// SHA-256 of the backup's `SHA256SUMS`: what was proven are these bytes.
    pub sha256sums: String,
    /// The machine that ran lifeboat.
    pub host: String,
    /// The version of the engine that it ran on.
    pub engine: String,
    /// The lifeboat that ran it.
    pub lifeboat_version: String,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it ended; as `started` until then.
    pub finished: DateTime<Utc>,
    /// Whether all of it was restored and is as it was.
    pub proven: bool,
    /// Seconds from the first byte that was read until everything was restored, served again and was compared.
    pub recovery_seconds: f64,
    /// How old the data were when the drill began, in seconds: what a disaster at that time would have lost.
    pub data_age_seconds: i64,
    /// What the servers were started from.
    pub images: Vec<ImageUsed>,
    /// Each artifact, in the order of the manifest.
    pub artifacts: Vec<ArtifactResult>,
    /// The person's own checks.
    pub checks: Vec<CheckResult>,
    /// What to know of it that is no failure.
    pub notes: Vec<String>,
    /// What was done, and how long each took.
    pub steps: Vec<Timed>,
    /// When the proof beside the backup says that it was proven; `None` where there is none.
    pub proof: Option<DateTime<Utc>>,
    /// Why there is none, where all was proven.
    pub proof_failed: Option<String>,
    /// The names that the artifacts have in the repository, in their order.
    #[serde(skip)]
    pub(super) stored_names: Vec<ArtifactName>,
    /// Whether the backup keeps counts and names to those with a key.
    #[serde(skip)]
    pub(super) discreet: bool,
}

/// What a server was started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageUsed {
    /// The service.
    pub service: String,
    /// The image's name.
    pub image: String,
    /// Its id on the engine.
    pub id: String,
    /// Whether it is the very image that the backup was made from.
    pub exact: bool,
}

/// What came of one artifact.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArtifactResult {
    /// Its name.
    pub artifact: ArtifactName,
    /// Plain bytes.
    pub raw_size: u64,
    /// Bytes as stored.
    pub stored_size: u64,
    /// Seconds that restoring and comparing it took, its server's start not counted.
    pub seconds: f64,
    /// What of it was found as it was.
    pub compared: Vec<Counted>,
    /// What of it could not be compared, and why.
    pub not_compared: Vec<String>,
    /// Why it is not proven; `None` where it is.
    pub failed: Option<String>,
}

/// So many of something were found as they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// What: `rows`, `keys in database 0`.
    pub what: String,
    /// How many.
    pub count: u64,
}

impl Counted {
    pub(super) fn new(what: impl Into<String>, count: u64) -> Self {
        Self {
            what: what.into(),
            count,
        }
    }
}

/// What came of one of the person's checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// The check.
    pub check: DrillCheck,
    /// What was asked.
    pub artifact: ArtifactName,
    /// The answer, where there was one.
    pub answer: Option<String>,
    /// Why it does not hold; `None` where it does.
    pub failed: Option<String>,
}

/// A step, and when it was done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timed {
    /// What was done.
    pub step: String,
    /// Seconds from the drill's begin to the step's.
    pub begun_seconds: f64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Whether it belongs to the recovery whose time is measured.
    pub recovery: bool,
}

impl DrillReport {
    /// Of a drill that begins now.
    pub(super) fn begin(
        context: &Context,
        request: &DrillRequest,
        backup: &Backup,
        planned: &Planned,
    ) -> Self {
        let manifest = backup.manifest();
        let now = context.now();
        let oldest = manifest.artifacts.iter().map(|artifact| artifact.started);
        let oldest = oldest.min().unwrap_or(manifest.started);
        let images = planned.images();
        let mut notes: Vec<String> = images
            .iter()
            .filter(|image| !image.exact)
            .map(|image| {
                format!(
                    "the server for service {} was of {} ({}), which is not the image that the backup was made from",
                    image.service, image.image, image.id
                )
            })
            .collect();
        if !manifest.complete || !manifest.only.is_empty() {
            notes.push("the backup holds a part of the stack only".to_owned());
        }
        Self {
            plan: planned.plan.clone(),
            run: planned.plan.run.clone(),
            stack: request.entry.stack.clone(),
            backup: request.entry.id.clone(),
            repository: request.repository.location().to_string(),
            sha256sums: backup.commit().sha256sums.clone(),
            host: context.host.clone(),
            engine: String::new(),
            lifeboat_version: env!("CARGO_PKG_VERSION").to_owned(),
            started: now,
            finished: now,
            proven: false,
            recovery_seconds: 0.0,
            data_age_seconds: (now - oldest).max(TimeDelta::zero()).num_seconds(),
            images,
            artifacts: manifest
                .artifacts
                .iter()
                .map(|artifact| ArtifactResult {
                    artifact: artifact.name.clone(),
                    raw_size: artifact.raw_size,
                    stored_size: artifact.stored_size,
                    seconds: 0.0,
                    compared: Vec::new(),
                    not_compared: match artifact.consistency {
                        Consistency::Live => vec![
                            "it was archived while it may have been written to: what is compared is what was read then"
                                .to_owned(),
                        ],
                        _ => Vec::new(),
                    },
                    failed: None,
                })
                .collect(),
            checks: Vec::new(),
            notes,
            steps: Vec::new(),
            proof: None,
            proof_failed: None,
            stored_names: backup.commit().artifacts.clone(),
            discreet: backup.is_encrypted(),
        }
    }

    /// `STACK/ID`.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.stack, self.backup)
    }

    /// Everything that keeps the backup from being proven: an artifact or a check, and the reason.
    pub fn failures(&self) -> Vec<String> {
        let artifacts = self.artifacts.iter().filter_map(|one| {
            let reason = one.failed.as_ref()?;
            Some(format!("{}: {reason}", one.artifact))
        });
        let checks = self.checks.iter().filter_map(|one| {
            let reason = one.failed.as_ref()?;
            Some(format!(
                "check of {}: {}: {reason}",
                one.artifact, one.check
            ))
        });
        // All artifacts of a service fail together where its server does: the reason is told once.
        let mut seen = BTreeSet::new();
        let mut reasons: Vec<String> = artifacts.collect();
        reasons.retain(|text| {
            let reason = text
                .split_once(": ")
                .map_or(&text[..], |(_, reason)| reason);
            seen.insert(reason.to_owned())
        });
        reasons.extend(checks);
        reasons
    }

    /// Whether the backup was proven.
    ///
    /// # Errors
    /// Not proven, naming what is not as it was, and why; failed where the proof could not be written.
    pub fn verdict(&self) -> Result<()> {
        let failures = self.failures();
        if !failures.is_empty() {
            let mut named = failures[..failures.len().min(NAMED)].join("; ");
            if failures.len() > NAMED {
                named = format!("{named}; and {} more", failures.len() - NAMED);
            }
            return Err(Error::new(
                Kind::NotProven,
                format!("{} is not proven: {named}", self.reference()),
            )
            .hint(
                "until a drill passes, do not rely on this backup; lifeboat drill --report FILE.html tells all of it",
            ));
        }
        match &self.proof_failed {
            None => Ok(()),
            Some(reason) => Err(Error::failed(format!(
                "{} was restored and is as it was, and the proof could not be written beside it: {reason}",
                self.reference()
            ))
            .hint("the credentials may be allowed to read only; --report FILE keeps what came of it")),
        }
    }

    /// What is kept beside the backup. Where the backup is encrypted it says no name that is hidden, no count and
    /// no check: everybody can read it who can read the repository.
    pub(super) fn proof(&self) -> Value {
        let artifacts = self.artifacts.iter().zip(&self.stored_names);
        let artifacts: Vec<Value> = artifacts
            .map(|(one, stored)| {
                let mut value = json!({
                    "name": stored,
                    "raw_size": one.raw_size,
                    "stored_size": one.stored_size,
                    "seconds": one.seconds,
                });
                if !self.discreet {
                    value["compared"] = json!(one.compared);
                    value["not_compared"] = json!(one.not_compared);
                }
                value
            })
            .collect();
        let mut proof = json!({
            "format": PROOF_FORMAT,
            "backup": self.backup,
            "stack": self.stack,
            "sha256sums": self.sha256sums,
            "drill": self.run,
            "host": self.host,
            "engine": self.engine,
            "lifeboat_version": self.lifeboat_version,
            "started": self.started,
            "finished": self.finished,
            "recovery_seconds": self.recovery_seconds,
            "data_age_seconds": self.data_age_seconds,
            "images": self.images,
            "artifacts": artifacts,
        });
        if !self.discreet {
            // Not the answers: they are of the data itself.
            let checks = self
                .checks
                .iter()
                .map(|one| json!({ "check": one.check, "artifact": one.artifact }));
            proof["checks"] = checks.collect();
            proof["notes"] = json!(self.notes);
        }
        proof
    }
}
