//! One artifact on its way into a backup.

mod bucket;
mod folder;

use super::layout::object_key;
use super::store::{Store, check_length};
use crate::error::{Error, OrFail, Result};
use crate::manifest::{Encoding, ObjectRef};
use crate::stack::ArtifactName;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// An artifact rolls over to its next object at this size (64 GiB): every store takes one.
pub(super) const OBJECT_LIMIT: u64 = 64 << 30;
/// Bytes that may wait for the disk before [`Upload::write`] waits too.
const DISK_BUDGET: u32 = 8 << 20;
/// The same for a bucket, where the parts that are under way take much more.
const BUCKET_BUDGET: u32 = 2 << 20;
/// What a chunk costs of the budget however small it is, so that many small ones are bounded too.
const LEAST: u32 = 4096;

/// Takes the stored bytes of one artifact in order.
///
/// Dropping it takes everything back that it wrote; so does [`Upload::abort`], and waits for it.
#[derive(Debug)]
pub struct Upload {
    steps: Option<UnboundedSender<Step>>,
    budget: Arc<Semaphore>,
    /// The whole of `budget`.
    most: u32,
    worker: Option<JoinHandle<Result<Vec<ObjectRef>>>>,
    key: String,
}

enum Step {
    Bytes(Bytes, OwnedSemaphorePermit),
    Finish,
}

/// Where the objects of an artifact go.
#[derive(Debug)]
pub(super) struct Target {
    /// The backup's folder.
    pub backup: String,
    pub keys: Keys,
    pub object_limit: u64,
}

/// What the objects are called.
#[derive(Debug)]
pub(super) enum Keys {
    /// As an artifact's name has it.
    Of(ArtifactName, Vec<Encoding>),
    /// This one; there is no second.
    One(String),
}

impl Target {
    /// The key of the object `index`, relative to the backup's folder.
    fn key(&self, index: usize) -> Result<String> {
        let key = match &self.keys {
            Keys::Of(artifact, encodings) => object_key(artifact, encodings, index),
            Keys::One(key) if index == 0 => key.clone(),
            Keys::One(key) => return Err(Error::failed(format!("{key} grew over its size"))),
        };
        check_length(&self.backup, &key)?;
        Ok(key)
    }

    /// A key of the backup as the store knows it.
    fn path(&self, key: &str) -> String {
        format!("{}/{key}", self.backup)
    }
}

impl Upload {
    pub(super) fn start(store: &Store, target: Target, workers: &TaskTracker) -> Result<Self> {
        let key = target.key(0)?;
        let (steps, receiver) = unbounded_channel();
        let (worker, most) = match store {
            Store::Folder(store) => {
                let worker = folder::Worker::new(Arc::clone(store.folder()), target);
                let worker = workers.spawn_blocking(move || worker.run(receiver));
                (worker, DISK_BUDGET)
            }
            Store::Bucket(bucket) => {
                let worker = bucket::Worker::new(bucket.clone(), target);
                (workers.spawn(worker.run(receiver)), BUCKET_BUDGET)
            }
        };
        Ok(Self {
            steps: Some(steps),
            budget: Arc::new(Semaphore::new(most as usize)),
            most,
            worker: Some(worker),
            key,
        })
    }

    /// Hands over the next bytes; waits while the store is behind.
    ///
    /// # Errors
    /// What the store said to these bytes or to earlier ones. By then the upload is taken back.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(bytes.len()).unwrap_or(self.most);
        let permit = Arc::clone(&self.budget)
            .acquire_many_owned(length.clamp(LEAST, self.most))
            .await
            .or_fail(|| format!("the upload of {} has ended", self.key))?;
        let sent = self
            .steps
            .as_ref()
            .is_some_and(|steps| steps.send(Step::Bytes(bytes, permit)).is_ok());
        if sent {
            return Ok(());
        }
        Err(self.failure().await)
    }

    /// Waits until every byte has landed under its own name, and says where.
    ///
    /// # Errors
    /// What the store said. By then the upload is taken back.
    pub async fn finish(mut self) -> Result<Vec<ObjectRef>> {
        if let Some(steps) = self.steps.take() {
            // A worker that has failed does not listen; what it says is asked for next.
            let _ = steps.send(Step::Finish);
        }
        match self.worker.take() {
            Some(worker) => worker.await.or_fail(|| "a worker thread ended early")?,
            None => Err(self.failure().await),
        }
    }

    /// Takes back what was written.
    pub async fn abort(mut self) {
        self.steps = None;
        if let Some(worker) = self.worker.take() {
            // That the upload has failed is what was asked for.
            let _ = worker.await;
        }
    }

    async fn failure(&mut self) -> Error {
        self.steps = None;
        let said = match self.worker.take() {
            Some(worker) => worker.await.ok().and_then(Result::err),
            None => None,
        };
        said.unwrap_or_else(|| Error::failed(format!("the upload of {} has failed", self.key)))
    }
}
