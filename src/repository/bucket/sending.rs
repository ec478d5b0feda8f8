//! One object on its way into a bucket: one request where it is small, else equal parts side by side.

use super::error::{Meaning, explain, meaning};
use super::{Bucket, PAUSE};
use crate::error::{Error, OrFail, Result};
use crate::repository::folder::Published;
use crate::repository::layout::ORPHANS;
use bytes::Bytes;
use object_store::PutPayload;
use object_store::multipart::PartId;
use object_store::path::Path as Key;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes of every part but the last. Stores want 5 MiB at least and 10,000 parts at most, R2 wants them equal:
/// 64 GiB are 8,192 of these.
pub(crate) const PART: usize = 8 << 20;

/// How much is read back at once where a completion's answer was lost.
const READ_BACK: u64 = 8 << 20;

/// An object of which bytes are still to come.
///
/// It has to be ended with [`Sending::finish`] or [`Sending::abort`]: dropped, it leaves parts behind that the store
/// keeps until they are swept.
pub(in crate::repository) struct Sending {
    bucket: Bucket,
    key: String,
    /// Bytes that wait until they are a part.
    waiting: Vec<Bytes>,
    length: usize,
    begun: Option<Begun>,
}

/// An upload in parts that the store knows of.
struct Begun {
    full: Key,
    id: Arc<String>,
    /// The key of the record by which a sweep finds the upload if this process dies.
    record: String,
    flights: JoinSet<object_store::Result<(usize, PartId)>>,
    next: usize,
    landed: Vec<Option<PartId>>,
}

/// What a sweep needs to give up an upload in parts whose writer has died.
#[derive(Serialize, Deserialize)]
struct Record {
    key: String,
    upload: String,
}

impl Sending {
    pub(in crate::repository) fn new(bucket: Bucket, key: String) -> Self {
        Self {
            bucket,
            key,
            waiting: Vec::new(),
            length: 0,
            begun: None,
        }
    }

    /// Takes the next bytes; waits while as many parts are on their way as may be.
    pub(in crate::repository) async fn push(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            // A full part leaves when more is known to come: what fits into one goes in one request.
            if self.length == PART {
                self.send_part().await?;
            }
            let some = bytes.split_to(bytes.len().min(PART - self.length));
            self.length += some.len();
            self.waiting.push(some);
        }
        Ok(())
    }

    /// Sends what waits, and makes the object of all parts. `size` and `sha256` are the whole object's.
    pub(in crate::repository) async fn finish(&mut self, size: u64, sha256: &str) -> Result<()> {
        if self.begun.is_none() {
            return self.put_whole().await;
        }
        if self.length > 0 {
            self.send_part().await?;
        }
        let Some(begun) = &mut self.begun else {
            return Err(Error::failed("an upload lost its parts"));
        };
        while let Some(part) = begun.flights.join_next().await {
            land(&self.bucket, &self.key, &mut begun.landed, part)?;
        }
        let landed: Option<Vec<PartId>> = begun.landed.drain(..).collect();
        let landed =
            landed.ok_or_else(|| Error::failed(format!("{}: a part is missing", self.key)))?;
        let (full, id) = (begun.full.clone(), Arc::clone(&begun.id));
        // Completing writes over what stands there (fact 41). The same bytes are those of a copy beside this one.
        if let Some(stands) = self.bucket.head(&self.key).await? {
            let is_same =
                stands.size == size && read_back(&self.bucket, &self.key, size).await? == sha256;
            self.abort().await;
            return if is_same { Ok(()) } else { Err(self.twice()) };
        }
        complete(&self.bucket, &self.key, &full, &id, landed, size, sha256).await?;
        if let Some(begun) = self.begun.take() {
            // What stays is found to be done by the sweep, and removed then.
            let _ = self.bucket.remove(&begun.record).await;
        }
        Ok(())
    }

    /// Takes back what was sent, as far as the store can be reached.
    pub(in crate::repository) async fn abort(&mut self) {
        let Some(mut begun) = self.begun.take() else {
            return;
        };
        begun.flights.shutdown().await;
        let parts = &self.bucket.parts;
        let given_up = self
            .bucket
            .tried(|| parts.abort_multipart(&begun.full, &begun.id))
            .await;
        if given_up.is_ok() {
            // What stays is swept after a day.
            let _ = self.bucket.remove(&begun.record).await;
        }
    }

    async fn put_whole(&mut self) -> Result<()> {
        let bytes: Vec<u8> = std::mem::take(&mut self.waiting).concat();
        match self.bucket.put_new(&self.key, &bytes).await? {
            Published::Created => Ok(()),
            Published::Existed => Err(self.twice()),
        }
    }

    fn twice(&self) -> Error {
        Error::failed(format!("{} was written twice in one backup", self.key))
    }

    async fn begin(&mut self) -> Result<&mut Begun> {
        if self.begun.is_none() {
            let full = self.bucket.full(&self.key)?;
            let parts = &self.bucket.parts;
            let id = self
                .bucket
                .tried(|| parts.create_multipart(&full))
                .await
                .map_err(|error| explain("begin", &self.bucket.shown(&self.key), &error))?;
            let record = format!("{ORPHANS}/{}", crate::repository::open::random_hex()?);
            self.begun = Some(Begun {
                full,
                id: Arc::new(id.clone()),
                record: record.clone(),
                flights: JoinSet::new(),
                next: 0,
                landed: Vec::new(),
            });
            let text = serde_json::to_vec(&Record {
                key: self.key.clone(),
                upload: id,
            })
            .or_fail(|| "cannot write the record of an upload")?;
            self.bucket.put_over(&record, &text).await?;
        }
        self.begun
            .as_mut()
            .ok_or_else(|| Error::failed("an upload lost its parts"))
    }

    /// Sends the part that waits, once there is room for it.
    async fn send_part(&mut self) -> Result<()> {
        let payload: PutPayload = std::mem::take(&mut self.waiting).into_iter().collect();
        self.length = 0;
        self.begin().await?;
        let (bucket, key) = (self.bucket.clone(), self.key.clone());
        let room = Arc::clone(&bucket.in_flight)
            .acquire_owned()
            .await
            .or_fail(|| "the repository is closed")?;
        let begun = self.begin().await?;
        // A part that failed fails the upload now, not after everything else was sent.
        while let Some(part) = begun.flights.try_join_next() {
            land(&bucket, &key, &mut begun.landed, part)?;
        }
        let (full, id, index) = (begun.full.clone(), Arc::clone(&begun.id), begun.next);
        begun.next += 1;
        begun.landed.push(None);
        begun.flights.spawn(async move {
            let parts = &bucket.parts;
            let send = || parts.put_part(&full, &id, index, payload.clone());
            let landed = bucket.tried(send).await;
            drop(room);
            landed.map(|part| (index, part))
        });
        Ok(())
    }
}

/// Notes a part that has landed.
fn land(
    bucket: &Bucket,
    key: &str,
    landed: &mut [Option<PartId>],
    part: std::result::Result<object_store::Result<(usize, PartId)>, tokio::task::JoinError>,
) -> Result<()> {
    let (index, part) = part
        .or_fail(|| "the sender of a part ended early")?
        .map_err(|error| explain("write", &bucket.shown(key), &error))?;
    landed[index] = Some(part);
    Ok(())
}

/// Makes an object of its parts. The answer may be lost after the store has done it: then the object stands, and the
/// upload is unknown to the store by the next try.
async fn complete(
    bucket: &Bucket,
    key: &str,
    full: &Key,
    id: &String,
    landed: Vec<PartId>,
    size: u64,
    sha256: &str,
) -> Result<()> {
    let until = Instant::now() + bucket.patience;
    loop {
        let done = bucket
            .parts
            .complete_multipart(full, id, landed.clone())
            .await;
        let Err(error) = done else {
            return Ok(());
        };
        // Where it cannot be looked at either, what was said first matters more.
        if let Some(meta) = bucket.head(key).await.unwrap_or_default() {
            if meta.size == size && read_back(bucket, key, size).await? == sha256 {
                return Ok(());
            }
            return Err(explain("write", &bucket.shown(key), &error));
        }
        if meaning(&error) != Meaning::Passing || Instant::now() + PAUSE >= until {
            return Err(explain("complete", &bucket.shown(key), &error));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The digest of an object as it stands.
async fn read_back(bucket: &Bucket, key: &str, size: u64) -> Result<String> {
    let mut digest = Sha256::new();
    let mut at = 0;
    while at < size {
        let end = size.min(at + READ_BACK);
        digest.update(&bucket.range(key, at..end).await?);
        at = end;
    }
    Ok(hex::encode(digest.finalize()))
}

/// Gives up the upload that a dead writer has recorded; `false` where the store still has it. One that is unknown to
/// the store was completed, or given up.
pub(super) async fn give_up_recorded(bucket: &Bucket, record: &[u8]) -> bool {
    let Ok(record) = serde_json::from_slice::<Record>(record) else {
        return true;
    };
    let Ok(full) = bucket.full(&record.key) else {
        return true;
    };
    let abort = || bucket.parts.abort_multipart(&full, &record.upload);
    match bucket.tried(abort).await {
        Ok(()) => true,
        Err(error) => meaning(&error) == Meaning::Missing,
    }
}
