//! One artifact on its way into a backup.

use super::folder::{Folder, Published, Staged};
use super::layout::object_key;
use super::store::check_length;
use crate::error::{Error, OrFail, Result};
use crate::manifest::{Encoding, ObjectRef};
use crate::stack::ArtifactName;
use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// An artifact rolls over to its next object at this size (64 GiB): every store takes one.
pub(super) const OBJECT_LIMIT: u64 = 64 << 30;
/// Bytes that may wait for the disk before [`Upload::write`] waits too.
const BUDGET: u32 = 8 << 20;
/// What a chunk costs of the budget however small it is, so that many small ones are bounded too.
const LEAST: u32 = 4096;
/// How much is digested and written at once.
const PIECE: usize = 1 << 20;

/// Takes the stored bytes of one artifact in order.
///
/// Dropping it takes everything back that it wrote; so does [`Upload::abort`], and waits for it.
#[derive(Debug)]
pub struct Upload {
    steps: Option<UnboundedSender<Step>>,
    budget: Arc<Semaphore>,
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
    pub folder: Arc<Folder>,
    /// The backup's folder.
    pub backup: String,
    pub artifact: ArtifactName,
    pub encodings: Vec<Encoding>,
    pub object_limit: u64,
}

impl Upload {
    pub(super) fn start(target: Target, workers: &TaskTracker) -> Result<Self> {
        let key = object_key(&target.artifact, &target.encodings, 0);
        check_length(&target.backup, &key)?;
        let (steps, receiver) = unbounded_channel();
        let worker = workers.spawn_blocking(move || Worker::new(target).run(receiver));
        Ok(Self {
            steps: Some(steps),
            budget: Arc::new(Semaphore::new(BUDGET as usize)),
            worker: Some(worker),
            key,
        })
    }

    /// Hands over the next bytes; waits while the disk is behind.
    ///
    /// # Errors
    /// What the disk said to these bytes or to earlier ones. By then the upload is taken back.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(bytes.len()).unwrap_or(BUDGET);
        let permit = Arc::clone(&self.budget)
            .acquire_many_owned(length.clamp(LEAST, BUDGET))
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
    /// What the disk said. By then the upload is taken back.
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

/// Digests and writes, on a thread that may block.
struct Worker {
    target: Target,
    done: Vec<ObjectRef>,
    current: Option<Object>,
    /// Bytes that wait until they are a piece.
    pending: Vec<u8>,
}

struct Object {
    key: String,
    staged: Staged,
    digest: Sha256,
    size: u64,
}

impl Worker {
    fn new(target: Target) -> Self {
        Self {
            target,
            done: Vec::new(),
            current: None,
            pending: Vec::with_capacity(PIECE),
        }
    }

    fn run(mut self, mut steps: UnboundedReceiver<Step>) -> Result<Vec<ObjectRef>> {
        let outcome = self.take_all(&mut steps);
        if outcome.is_err() {
            // The object at hand removes itself; these stand under their own names already.
            drop(self.current.take());
            for object in &self.done {
                // The first error matters more; what stays is swept with the backup's folder.
                let _ = self.target.folder.remove(&self.path(&object.key));
            }
        }
        outcome.map(|()| self.done)
    }

    fn take_all(&mut self, steps: &mut UnboundedReceiver<Step>) -> Result<()> {
        loop {
            match steps.blocking_recv() {
                Some(Step::Bytes(bytes, _permit)) => self.take(bytes)?,
                Some(Step::Finish) => {
                    self.flush()?;
                    // An empty stream is an object too.
                    self.object()?;
                    return self.publish();
                }
                None => return Err(Error::interrupted()),
            }
        }
    }

    fn take(&mut self, mut bytes: Bytes) -> Result<()> {
        if self.pending.is_empty() {
            while bytes.len() >= PIECE {
                let piece = bytes.split_to(PIECE);
                self.put(piece)?;
            }
        }
        while !bytes.is_empty() {
            let room = PIECE - self.pending.len();
            let part = bytes.split_to(room.min(bytes.len()));
            self.pending.extend_from_slice(&part);
            if self.pending.len() == PIECE {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        let put = self.put(pending.as_slice());
        pending.clear();
        self.pending = pending;
        put
    }

    /// Writes a piece, beginning the next object where one is full.
    fn put(&mut self, mut piece: impl Buf) -> Result<()> {
        while piece.has_remaining() {
            let limit = self.target.object_limit.max(1);
            if self
                .current
                .as_ref()
                .is_some_and(|object| object.size >= limit)
            {
                self.publish()?;
            }
            let object = self.object()?;
            let room = usize::try_from(limit - object.size).unwrap_or(usize::MAX);
            let chunk = piece.chunk();
            let chunk = &chunk[..chunk.len().min(room)];
            object.digest.update(chunk);
            object.staged.write(chunk)?;
            object.size += chunk.len() as u64;
            let taken = chunk.len();
            piece.advance(taken);
        }
        Ok(())
    }

    /// The object at hand, begun where there is none.
    fn object(&mut self) -> Result<&mut Object> {
        if self.current.is_none() {
            let Target {
                artifact,
                encodings,
                ..
            } = &self.target;
            let key = object_key(artifact, encodings, self.done.len());
            check_length(&self.target.backup, &key)?;
            let staged = self.target.folder.stage(&self.path(&key))?;
            self.current = Some(Object {
                key,
                staged,
                digest: Sha256::new(),
                size: 0,
            });
        }
        self.current
            .as_mut()
            .ok_or_else(|| Error::failed("an upload lost its object"))
    }

    fn publish(&mut self) -> Result<()> {
        let Some(object) = self.current.take() else {
            return Ok(());
        };
        if object.staged.publish()? == Published::Existed {
            return Err(Error::failed(format!(
                "{} was written twice in one backup",
                self.path(&object.key)
            )));
        }
        self.done.push(ObjectRef {
            key: object.key,
            size: object.size,
            sha256: hex::encode(object.digest.finalize()),
        });
        Ok(())
    }

    fn path(&self, key: &str) -> String {
        format!("{}/{key}", self.target.backup)
    }
}
