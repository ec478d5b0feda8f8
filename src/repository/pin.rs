//! What is written beside a backup later: pins and proofs.

use super::Repository;
use super::bucket::Removal;
use super::catalog::Entry;
use super::folder::Published;
use super::layout::{commit_key, pin_key, proof_key};
use crate::error::{Error, OrFail, Result};
use crate::manifest::BackupId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A mark that exempts a backup from pruning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Why, in the words of whoever pinned it.
    #[serde(default)]
    pub reason: String,
    /// When; `None` where the pin cannot be read, which still pins.
    #[serde(default)]
    pub created: Option<DateTime<Utc>>,
}

impl Repository {
    /// Pins a backup; an older pin of it stays as it is.
    ///
    /// # Errors
    /// Not found where the backup has been removed.
    pub async fn pin(&self, entry: &Entry, reason: &str, now: DateTime<Utc>) -> Result<()> {
        let pin = Pin {
            reason: reason.to_owned(),
            created: Some(now),
        };
        let bytes = serde_json::to_vec_pretty(&pin).or_fail(|| "cannot write the pin")?;
        self.put_beside(entry, &pin_key(&entry.stack, &entry.id), bytes)
            .await
            .map(|_| ())
    }

    /// Removes a backup's pin, if it has one.
    ///
    /// # Errors
    /// What the disk said.
    pub async fn unpin(&self, entry: &Entry) -> Result<()> {
        match self.store.remove(&pin_key(&entry.stack, &entry.id)).await? {
            Removal::Gone => Ok(()),
            Removal::Kept => Err(Error::failed(format!(
                "the store keeps the pin of {}",
                entry.reference()
            ))
            .hint("these credentials may not remove, or the bucket's objects are locked")),
        }
    }

    /// Keeps the record of a drill that passed at `time`.
    ///
    /// # Errors
    /// Not found where the backup has been removed; failed where that second has a record already.
    pub async fn record_proof(
        &self,
        entry: &Entry,
        time: DateTime<Utc>,
        record: &serde_json::Value,
    ) -> Result<()> {
        let key = proof_key(&entry.stack, &entry.id, time);
        let bytes = serde_json::to_vec_pretty(record).or_fail(|| "cannot write the proof")?;
        match self.put_beside(entry, &key, bytes).await? {
            Published::Created => Ok(()),
            Published::Existed => Err(Error::failed(format!("{key} exists already"))),
        }
    }

    /// Writes beside a backup that exists and keeps existing meanwhile.
    async fn put_beside(&self, entry: &Entry, key: &str, bytes: Vec<u8>) -> Result<Published> {
        let _lease = self.store.share().await?;
        let commit = commit_key(&entry.stack, &entry.id);
        if self.store.get(&commit).await?.is_none() {
            return Err(Error::not_found(format!(
                "{} has been removed",
                entry.reference()
            )));
        }
        self.store.put_new(key, bytes).await
    }

    /// The pin of a backup that has one: a pin that cannot be read is still a pin.
    pub(super) async fn read_pin(&self, stack: &str, id: &BackupId) -> Pin {
        let bytes = self.store.get(&pin_key(stack, id)).await;
        bytes
            .ok()
            .flatten()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }
}
