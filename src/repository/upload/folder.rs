//! An artifact's bytes into files, on a thread that may block.

use super::{Step, Target};
use crate::error::{Error, Result};
use crate::manifest::ObjectRef;
use crate::repository::folder::{Folder, Published, Staged};
use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedReceiver;

/// How much is digested and written at once.
const PIECE: usize = 1 << 20;

/// Digests and writes, on a thread that may block.
pub(super) struct Worker {
    folder: Arc<Folder>,
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
    pub(super) fn new(folder: Arc<Folder>, target: Target) -> Self {
        Self {
            folder,
            target,
            done: Vec::new(),
            current: None,
            pending: Vec::with_capacity(PIECE),
        }
    }

    pub(super) fn run(mut self, mut steps: UnboundedReceiver<Step>) -> Result<Vec<ObjectRef>> {
        let outcome = self.take_all(&mut steps);
        if outcome.is_err() {
            // The object at hand removes itself; these stand under their own names already.
            drop(self.current.take());
            for object in &self.done {
                // The first error matters more; what stays is swept with the backup's folder.
                let _ = self.folder.remove(&self.target.path(&object.key));
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
            let key = self.target.key(self.done.len())?;
            let staged = self.folder.stage(&self.target.path(&key))?;
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
                self.target.path(&object.key)
            )));
        }
        self.done.push(ObjectRef {
            key: object.key,
            size: object.size,
            sha256: hex::encode(object.digest.finalize()),
        });
        Ok(())
    }
}
