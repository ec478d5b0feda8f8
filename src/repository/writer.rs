//! Writing one backup, in the order that makes it absent or complete and never half.

use super::Repository;
use super::check::check_artifacts;
use super::folder::{Published, is_unfinished};
use super::layout::{
    FACTS, MANIFEST, RECIPE, SIGNATURE, STACK, SUMS, backup_folder, commit_key, either,
    stack_folder,
};
use super::lease::Lease;
use super::sums::{Sums, digest};
use super::upload::{Keys, OBJECT_LIMIT, Target, Upload};
use crate::error::{Error, OrFail, Result};
use crate::manifest::{BackupId, Commit, Encoding, Facts, Manifest, Sealed};
use crate::stack::ArtifactName;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// How long [`BackupWriter::abandon`] waits for uploads to take themselves back.
const PATIENCE: Duration = Duration::from_secs(10);

/// Level 3 is zstd's own default; these objects are small.
const LEVEL: i32 = 3;

/// A backup that is being written. It does not exist before [`BackupWriter::commit`] returns.
///
/// Dropped without a commit or an [`abandon`](BackupWriter::abandon) it leaves a folder that
/// nothing lists, and that a sweep removes once it is a day old.
#[derive(Debug)]
pub struct BackupWriter {
    repository: Repository,
    stack: String,
    id: BackupId,
    folder: String,
    object_limit: u64,
    workers: TaskTracker,
    _lease: Lease,
}

impl Repository {
    /// Begins a backup of `stack`.
    ///
    /// # Errors
    /// Busy while the repository is being pruned; failed where that backup exists already.
    pub async fn begin(&self, stack: &str, id: &BackupId) -> Result<BackupWriter> {
        if stack.is_empty() {
            return Err(Error::usage("the stack has no name"));
        }
        let lease = self.store.share().await?;
        let folder = backup_folder(stack, id);
        let free = self.store.make_new_folder(&folder).await?;
        if !free || self.store.get(&commit_key(stack, id)).await?.is_some() {
            return Err(Error::failed(format!(
                "{} exists already",
                self.store.shown(&folder)
            )));
        }
        Ok(BackupWriter {
            repository: self.clone(),
            stack: stack.to_owned(),
            id: id.clone(),
            folder,
            object_limit: OBJECT_LIMIT,
            workers: TaskTracker::new(),
            _lease: lease,
        })
    }
}

/// A commit that is not there after all, or one whose fate is unknown.
struct Undone {
    error: Error,
    /// Whether the commit may stand, so that it has to go before anything else does.
    began: bool,
}

impl From<Error> for Undone {
    fn from(error: Error) -> Self {
        Self {
            error,
            began: false,
        }
    }
}

impl BackupWriter {
    /// Rolls over to an artifact's next object at `bytes` rather than at 64 GiB.
    #[must_use]
    pub fn with_object_limit(mut self, bytes: u64) -> Self {
        self.object_limit = bytes;
        self
    }

    /// The backup's id.
    pub fn id(&self) -> &BackupId {
        &self.id
    }

    /// Begins an artifact. Several may be on their way at once.
    ///
    /// # Errors
    /// Failed where the artifact's name makes a key that not every store takes.
    pub fn upload(&self, artifact: &ArtifactName, encodings: &[Encoding]) -> Result<Upload> {
        let target = Target {
            backup: self.folder.clone(),
            keys: Keys::Of(artifact.clone(), encodings.to_vec()),
            object_limit: self.object_limit,
        };
        Upload::start(&self.repository.store, target, &self.workers)
    }

    /// Makes the backup exist. `manifest` gets its artifacts from `sealed` and from nowhere else.
    ///
    /// # Errors
    /// Failed where something was written that is not sealed, or the other way round, and where
    /// the disk fails. Then the backup does not exist, and what was written is removed.
    pub async fn commit(
        self,
        mut manifest: Manifest,
        sealed: Vec<Sealed>,
        facts: &Facts,
        stack_json: &serde_json::Value,
        restore_md: &str,
    ) -> Result<Commit> {
        manifest.artifacts = sealed.iter().map(|s| s.artifact().clone()).collect();
        manifest
            .artifacts
            .sort_by_key(|artifact| artifact.name.to_string());
        let described = [
            self.confidential(FACTS, &to_json(facts)?)?,
            self.confidential(STACK, &to_json(stack_json)?)?,
            (MANIFEST.to_owned(), to_json(&manifest)?),
            (RECIPE.to_owned(), restore_md.as_bytes().to_vec()),
        ];
        match self.try_commit(&manifest, described).await {
            Ok(commit) => Ok(commit),
            Err(undone) => {
                // The reverse order of writing: what is left of this backup must not be listed.
                let key = commit_key(&self.stack, &self.id);
                let gone = !undone.began || self.repository.store.remove(&key).await.is_ok();
                if gone {
                    // The first error matters more; what stays is swept after a day.
                    let _ = self.abandon().await;
                }
                Err(undone.error)
            }
        }
    }

    /// The key and the bytes of an object that not everybody may read.
    fn confidential(&self, key: &str, bytes: &[u8]) -> Result<(String, Vec<u8>)> {
        let packed = compressed(bytes)?;
        let [plain, encrypted] = either(key);
        match &self.repository.protection.recipients {
            None => Ok((plain, packed)),
            Some(recipients) => Ok((encrypted, recipients.encrypt(&packed)?)),
        }
    }

    async fn try_commit(
        &self,
        manifest: &Manifest,
        described: [(String, Vec<u8>); 4],
    ) -> Result<Commit, Undone> {
        if manifest.stack != self.stack || manifest.backup != self.id {
            return Err(Error::failed("the manifest is that of another backup").into());
        }
        let mut sums = Sums::default();
        self.check_landed(manifest, &mut sums).await?;
        for (key, bytes) in described {
            sums.add(&key, &digest(&bytes));
            self.put_small(&key, bytes).await?;
        }
        let text = sums.to_text();
        let commit = Commit::of(manifest, digest(text.as_bytes()));
        let signature = match &self.repository.protection.signer {
            Some(signer) => Some(signer.sign(text.as_bytes(), &self.stack, self.id.as_str())?),
            None => None,
        };
        self.put_small(SUMS, text.into_bytes()).await?;
        if let Some(signature) = signature {
            self.put_small(SIGNATURE, signature).await?;
        }
        self.put_commit(&commit).await?;
        Ok(commit)
    }

    /// That the folder holds the sealed artifacts and nothing else; collects their digests.
    async fn check_landed(&self, manifest: &Manifest, sums: &mut Sums) -> Result<()> {
        check_artifacts(&self.folder, &manifest.artifacts)
            .map_err(|error| error.with_kind(crate::error::Kind::Failed))?;
        let found = self.repository.store.tree(&self.folder).await?;
        let mut sizes: BTreeMap<&str, u64> = found
            .iter()
            .filter(|found| !found.is_folder)
            .map(|found| (found.key.as_str(), found.size))
            .collect();
        for object in manifest.artifacts.iter().flat_map(|a| &a.objects) {
            if sizes.remove(object.key.as_str()) != Some(object.size) {
                return Err(Error::failed(format!(
                    "{}/{} did not land whole",
                    self.folder, object.key
                )));
            }
            sums.add(&object.key, &object.sha256);
        }
        match sizes.keys().next() {
            None => Ok(()),
            Some(key) if is_unfinished(key) => Err(Error::failed(format!(
                "{}/{key} is still being written",
                self.folder
            ))),
            Some(key) => Err(Error::failed(format!(
                "{}/{key} was written and not sealed",
                self.folder
            ))),
        }
    }

    async fn put_small(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        let key = format!("{}/{key}", self.folder);
        match self.repository.store.put_new(&key, bytes).await? {
            Published::Created => Ok(()),
            Published::Existed => Err(Error::failed(format!("{key} exists already"))),
        }
    }

    /// The one step that makes the backup exist.
    async fn put_commit(&self, commit: &Commit) -> Result<(), Undone> {
        let key = commit_key(&self.stack, &self.id);
        let bytes = to_json(commit)?;
        let began = |error| Undone { error, began: true };
        let put = self.repository.store.put_new(&key, bytes.clone()).await;
        if put.map_err(began)? == Published::Created {
            return Ok(());
        }
        // A store may say "exists" about the very object that a lost answer was about.
        let stands = self.repository.store.get(&key).await?;
        if stands.is_some_and(|stands| stands == bytes) {
            return Ok(());
        }
        Err(Error::failed(format!("{key} was written by another run")).into())
    }

    /// Gives the backup up and removes everything that was written for it.
    ///
    /// # Errors
    /// What the disk said. What stays is swept once it is a day old.
    pub async fn abandon(self) -> Result<()> {
        self.workers.close();
        // An upload that someone still holds, unfinished, would keep this waiting for ever.
        let _ = tokio::time::timeout(PATIENCE, self.workers.wait()).await;
        let store = &self.repository.store;
        store.remove_tree(&self.folder).await?;
        store.remove_if_empty(&stack_folder(&self.stack)).await
    }
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value).or_fail(|| "cannot write JSON")?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    zstd::encode_all(bytes, LEVEL).or_fail(|| "cannot compress")
}
