//! Reading the stored bytes of an artifact, checked on their way.

use super::Keys;
use super::lease::Lease;
use super::store::{Store, blocking};
use crate::error::{Error, OrFail, Result};
use crate::manifest::{Encoding, ObjectRef};
use crate::pipeline::{Output, decrypt};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The stored bytes of an artifact, chunk by chunk.
///
/// It asks for no byte beyond the sizes in the manifest, and a file that was cut short since it
/// was listed is an error, never an endless stream. The digest of an object is known at its end
/// only: what was handed out before is not proven until [`ArtifactReader::next`] says `None`.
#[derive(Debug)]
pub struct ArtifactReader {
    store: Store,
    folder: String,
    objects: VecDeque<ObjectRef>,
    /// How much of the first object has been asked for.
    asked: u64,
    /// How much of it has come.
    come: u64,
    digest: Option<Sha256>,
    /// The chunks that have been asked for, in order.
    ahead: VecDeque<JoinHandle<Result<Bytes>>>,
    _lease: Arc<Lease>,
}

impl ArtifactReader {
    pub(super) fn new(
        store: Store,
        folder: &str,
        objects: Vec<ObjectRef>,
        lease: Arc<Lease>,
    ) -> Self {
        Self {
            store,
            folder: folder.to_owned(),
            objects: objects.into(),
            asked: 0,
            come: 0,
            digest: None,
            ahead: VecDeque::new(),
            _lease: lease,
        }
    }

    /// The next chunk; `None` when all bytes have come and every digest was right.
    ///
    /// # Errors
    /// Damaged, naming the object.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some(object) = self.objects.front().cloned() else {
                return Ok(None);
            };
            self.ask(&object);
            let Some(ahead) = self.ahead.pop_front() else {
                self.end(&object)?;
                continue;
            };
            let bytes = ahead.await.or_fail(|| "a reader ended early")??;
            self.ask(&object);
            self.come += bytes.len() as u64;
            self.take(&bytes).await?;
            if self.come == object.size {
                self.end(&object)?;
            }
            return Ok(Some(bytes));
        }
    }

    /// The key of the object at hand.
    pub(super) fn key(&self) -> Option<String> {
        self.objects.front().map(|object| object.key.clone())
    }

    /// Asks for the next chunks of the object, as many as may be on their way.
    fn ask(&mut self, object: &ObjectRef) {
        let (chunk, most) = self.store.reading();
        while self.ahead.len() < most && self.asked < object.size {
            let range = self.asked..object.size.min(self.asked + chunk);
            self.asked = range.end;
            let store = self.store.clone();
            let key = format!("{}/{}", self.folder, object.key);
            let read = tokio::spawn(async move { store.range(&key, range).await });
            self.ahead.push_back(read);
        }
    }

    async fn take(&mut self, bytes: &Bytes) -> Result<()> {
        let mut digest = self.digest.take().unwrap_or_default();
        let bytes = bytes.clone();
        self.digest = Some(
            blocking(move || {
                digest.update(&bytes);
                Ok(digest)
            })
            .await?,
        );
        Ok(())
    }

    /// Ends an object whose bytes have all come, and turns to the next.
    fn end(&mut self, object: &ObjectRef) -> Result<()> {
        let digest = self.digest.take().unwrap_or_default().finalize();
        if hex::encode(digest) != object.sha256 {
            return Err(Error::damaged(format!(
                "{}/{}: its bytes are not the ones that were written",
                self.folder, object.key
            )));
        }
        self.objects.pop_front();
        self.asked = 0;
        self.come = 0;
        Ok(())
    }
}

/// An artifact's stored bytes as its first encoding left them: decrypted, where they are encrypted.
#[derive(Debug)]
pub enum ArtifactStream {
    /// As they are stored.
    Stored(Box<ArtifactReader>),
    /// Decrypted on the way.
    Opened {
        /// Where they come out.
        output: Output,
        /// Reads them, and says why it could not.
        feeder: JoinHandle<Result<()>>,
    },
}

impl ArtifactStream {
    pub(super) fn new(mut reader: ArtifactReader, encodings: &[Encoding], keys: &Keys) -> Self {
        if encodings.last() != Some(&Encoding::Age) {
            return Self::Stored(Box::new(reader));
        }
        let (mut input, output) = decrypt(&keys.identities);
        let feeder = tokio::spawn(async move {
            while let Some(bytes) = reader.next().await? {
                input.push(bytes).await?;
            }
            input.finish().await.map(|_| ())
        });
        Self::Opened { output, feeder }
    }

    /// The next bytes; `None` when all have come and every digest was right.
    ///
    /// # Errors
    /// Damaged, naming the object; key where it is encrypted to somebody else.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let (output, feeder) = match self {
            Self::Stored(reader) => return reader.next().await,
            Self::Opened { output, feeder } => (output, feeder),
        };
        match output.next().await {
            Ok(next) => Ok(next),
            // What reading said comes before what decryption made of it.
            Err(error) => match feeder.await {
                Ok(Err(read)) => Err(read),
                _ => Err(error),
            },
        }
    }
}

impl Drop for ArtifactStream {
    fn drop(&mut self) {
        if let Self::Opened { feeder, .. } = self {
            feeder.abort();
        }
    }
}

impl Drop for ArtifactReader {
    fn drop(&mut self) {
        for ahead in &self.ahead {
            ahead.abort();
        }
    }
}
