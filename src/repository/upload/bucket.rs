//! An artifact's bytes into the objects of a bucket.

use super::{Step, Target};
use crate::error::{Error, Result};
use crate::manifest::ObjectRef;
use crate::repository::bucket::{Bucket, Sending};
use crate::repository::store::blocking;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedReceiver;

/// Digests and sends, side by side with whoever makes the bytes.
pub(super) struct Worker {
    bucket: Bucket,
    target: Target,
    done: Vec<ObjectRef>,
    current: Option<Object>,
}

struct Object {
    key: String,
    sending: Sending,
    digest: Sha256,
    size: u64,
}

impl Worker {
    pub(super) fn new(bucket: Bucket, target: Target) -> Self {
        Self {
            bucket,
            target,
            done: Vec::new(),
            current: None,
        }
    }

    pub(super) async fn run(
        mut self,
        mut steps: UnboundedReceiver<Step>,
    ) -> Result<Vec<ObjectRef>> {
        let outcome = self.take_all(&mut steps).await;
        if outcome.is_err() {
            if let Some(mut object) = self.current.take() {
                object.sending.abort().await;
            }
            for object in &self.done {
                // The first error matters more; what stays is swept with the backup's folder.
                let _ = self.bucket.remove(&self.target.path(&object.key)).await;
            }
        }
        outcome.map(|()| self.done)
    }

    async fn take_all(&mut self, steps: &mut UnboundedReceiver<Step>) -> Result<()> {
        loop {
            match steps.recv().await {
                Some(Step::Bytes(bytes, _permit)) => self.take(bytes).await?,
                Some(Step::Finish) => {
                    // An empty stream is an object too.
                    self.object()?;
                    return self.publish().await;
                }
                None => return Err(Error::interrupted()),
            }
        }
    }

    async fn take(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let limit = self.target.object_limit;
            let object = self.object()?;
            let room = limit - object.size;
            if room == 0 {
                self.publish().await?;
                continue;
            }
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let some = bytes.split_to(bytes.len().min(room));
            object.size += some.len() as u64;
            let (mut digest, digested) = (std::mem::take(&mut object.digest), some.clone());
            object.digest = blocking(move || {
                digest.update(&digested);
                Ok(digest)
            })
            .await?;
            object.sending.push(some).await?;
        }
        Ok(())
    }

    /// The object at hand, begun where there is none.
    fn object(&mut self) -> Result<&mut Object> {
        if self.current.is_none() {
            let key = self.target.key(self.done.len())?;
            self.current = Some(Object {
                sending: Sending::new(self.bucket.clone(), self.target.path(&key)),
                key,
                digest: Sha256::new(),
                size: 0,
            });
        }
        self.current
            .as_mut()
            .ok_or_else(|| Error::failed("an upload lost its object"))
    }

    async fn publish(&mut self) -> Result<()> {
        let Some(object) = &mut self.current else {
            return Ok(());
        };
        let sha256 = hex::encode(std::mem::take(&mut object.digest).finalize());
        object.sending.finish(object.size, &sha256).await?;
        if let Some(object) = self.current.take() {
            self.done.push(ObjectRef {
                key: object.key,
                size: object.size,
                sha256,
            });
        }
        Ok(())
    }
}
