//! A repository's objects in a bucket.
//!
//! Every request may fail, be answered late, or be answered wrongly about what it did (docs/design.md, "Buckets").
//! So each is tried again for a while, and whatever wrote says "written" only if it is known to stand.

mod connect;
mod error;
mod hold;
mod sending;

#[cfg(test)]
pub(super) use hold::Pace;
pub(super) use hold::{Hold, Holds};
pub(super) use sending::Sending;

use super::access::Access;
use super::folder::{Found, Published};
use super::layout::{ORPHANS, PROBE};
use super::location::BucketAddress;
use super::store::SMALL;
use crate::error::{Error, Result};
use bytes::Bytes;
use connect::Clients;
use error::{Meaning, explain, is_no_bucket, is_refusal, meaning, reading};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt, stream};
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Small requests of one kind that are under way at once.
const TOGETHER: usize = 16;

/// Parts of all uploads of one repository that are on their way at once. Six connections of 20 MB/s fill a
/// gigabit; six parts of 8 MiB are 48 MiB of memory.
const PARTS_IN_FLIGHT: usize = 6;

/// Pause before what failed for a passing reason is tried again, after the client's own tries.
const PAUSE: Duration = Duration::from_millis(500);

/// The objects of one repository in a bucket. Clones share connections, and the bounds on what is under way.
#[derive(Clone)]
pub(super) struct Bucket {
    objects: Arc<dyn ObjectStore>,
    parts: Arc<dyn MultipartStore>,
    address: BucketAddress,
    patience: Duration,
    in_flight: Arc<Semaphore>,
    /// Whether the store refuses to create what exists; found out when the repository was made.
    refuses_second: Arc<AtomicBool>,
    pub(super) access: Access,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The clients' own output has settings in it.
        write!(formatter, "Bucket({})", self.address)
    }
}

/// What became of something that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// It is gone, or was not there.
    Gone,
    /// The store keeps it: a lock on it, or credentials that may not remove.
    Kept,
}

impl Bucket {
    /// The repository's place, without asking whether it is there.
    ///
    /// # Errors
    /// Usage where the variables do not say enough.
    pub(super) fn new(address: &BucketAddress, access: &Access) -> Result<Self> {
        let Clients { objects, parts } = connect::connect(address.scheme, &address.bucket, access)?;
        // The memory of parts in flight is what a run may have, however many repositories it writes to.
        let parts_in_flight = match access.lanes {
            0 | 1 => PARTS_IN_FLIGHT,
            2 => 4,
            _ => 3,
        };
        Ok(Self {
            objects,
            parts,
            address: address.clone(),
            patience: access.patience,
            in_flight: Arc::new(Semaphore::new(parts_in_flight)),
            refuses_second: Arc::new(AtomicBool::new(true)),
            access: access.clone(),
        })
    }

    /// The same, but less patient.
    pub(super) fn hasty(&self, patience: Duration) -> Self {
        Self {
            patience: self.patience.min(patience),
            ..self.clone()
        }
    }

    /// Says that the store creates what exists already, so that this has to be looked at before.
    pub(super) fn overwrites(&self) {
        self.refuses_second.store(false, Ordering::Relaxed);
    }

    /// The object's address, as it stands in messages.
    pub(super) fn shown(&self, key: &str) -> String {
        match key {
            "" => self.address.to_string(),
            _ => format!("{}/{key}", self.address),
        }
    }

    /// The key in the bucket.
    fn full(&self, key: &str) -> Result<Key> {
        let full = match (self.address.prefix.as_str(), key) {
            ("", key) => key.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, key) => format!("{prefix}/{key}"),
        };
        Key::parse(&full)
            .map_err(|error| Error::damaged(format!("{key:?} is no key")).caused_by(error))
    }

    /// Runs a request until it succeeds, fails for good, or the patience is over. Each try is signed anew.
    async fn tried<'f, T>(
        &self,
        request: impl Fn() -> BoxFuture<'f, object_store::Result<T>> + Send,
    ) -> object_store::Result<T> {
        let until = Instant::now() + self.patience;
        loop {
            let error = match request().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if meaning(&error) != Meaning::Passing || Instant::now() + PAUSE >= until {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// An object's size and time; `None` where there is none.
    pub(super) async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let full = self.full(key)?;
        match self.tried(|| self.objects.head(&full).boxed()).await {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if meaning(&error) == Meaning::Missing && !is_no_bucket(&error) => Ok(None),
            Err(error) => {
                // An answer to HEAD has no body, and so no reason: one to GET has.
                let said = self.objects.get(&full).await.err();
                let error = said.unwrap_or(error);
                Err(explain("look at", &self.shown(key), &error))
            }
        }
    }

    /// A small object, whole; `None` where there is none.
    ///
    /// # Errors
    /// Damaged where it is larger than any small object is.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let full = self.full(key)?;
        let too_large =
            |size| Error::damaged(format!("{key}: {size} bytes, more than such an object has"));
        let read = || {
            let read = async {
                let got = self.objects.get(&full).await?;
                match got.meta.size {
                    size if size > SMALL => Ok(Err(size)),
                    _ => got.bytes().await.map(Ok),
                }
            };
            read.boxed()
        };
        match self.tried(read).await {
            Ok(Ok(bytes)) => Ok(Some(bytes)),
            Ok(Err(size)) => Err(too_large(size)),
            Err(error) if meaning(&error) == Meaning::Missing && !is_no_bucket(&error) => Ok(None),
            Err(error) => Err(explain("read", &self.shown(key), &error)),
        }
    }

    /// Many small objects, each as [`Bucket::get`] gives it.
    pub(super) async fn get_all(&self, keys: Vec<String>) -> Vec<Result<Option<Vec<u8>>>> {
        stream::iter(keys)
            .map(|key| async move { Ok(self.get(&key).await?.map(Vec::from)) })
            .buffered(TOGETHER)
            .collect()
            .await
    }

    /// Some bytes of an object, as many as were asked for.
    ///
    /// # Errors
    /// Damaged where the object is missing or ends before the range does.
    pub(super) async fn range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let full = self.full(key)?;
        let wanted = range.end - range.start;
        // A body that breaks off is an error of the client, and tried again; one that is short is not.
        match self
            .tried(|| self.objects.get_range(&full, range.clone()).boxed())
            .await
        {
            Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
            Ok(_) => Err(Error::damaged(format!("{key}: ends too early"))),
            Err(error) => match self.head(key).await {
                // A range beyond the end is refused as a bad request.
                Ok(Some(meta)) if meta.size < range.end => {
                    Err(Error::damaged(format!("{key}: ends too early")))
                }
                _ => Err(reading(key, &error)),
            },
        }
    }

    /// One try to create an object; what the store itself answers.
    async fn create(&self, key: &Key, bytes: &[u8]) -> object_store::Result<()> {
        let payload = PutPayload::from(bytes.to_vec());
        self.objects
            .put_opts(key, payload, PutMode::Create.into())
            .await
            .map(|_| ())
    }

    /// Writes a small object if its key is free.
    ///
    /// An answer may be lost, or wrong (fact 41): what stands there in the end decides.
    pub(super) async fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Published> {
        let full = self.full(key)?;
        let until = Instant::now() + self.patience;
        if !self.refuses_second.load(Ordering::Relaxed) && self.head(key).await?.is_some() {
            return Ok(Published::Existed);
        }
        loop {
            let error = match self.create(&full, bytes).await {
                Ok(()) => return Ok(Published::Created),
                Err(error) => error,
            };
            // Where it cannot be looked at either, what was said first matters more.
            let stands = self.get(key).await.unwrap_or_default();
            match (meaning(&error), stands) {
                (Meaning::Missing | Meaning::Final, None) => {
                    return Err(explain("write", &self.shown(key), &error));
                }
                (_, Some(stands)) if stands == bytes => return Ok(Published::Created),
                (Meaning::Exists, Some(_)) => return Ok(Published::Existed),
                (_, Some(_)) => return Err(explain("write", &self.shown(key), &error)),
                // Said to exist, and does not: nothing may have landed.
                (Meaning::Exists | Meaning::Passing, None) => {}
            }
            if Instant::now() + PAUSE >= until {
                return Err(explain("write", &self.shown(key), &error));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes a small object whatever stands there: only for keys that are this process's own.
    pub(super) async fn put_over(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.put_over_raw(key, bytes)
            .await?
            .map_err(|error| explain("write", &self.shown(key), &error))
    }

    /// The same, with the store's own answer.
    async fn put_over_raw(&self, key: &str, bytes: &[u8]) -> Result<object_store::Result<()>> {
        let full = self.full(key)?;
        let put = || {
            let payload = PutPayload::from(bytes.to_vec());
            self.objects.put(&full, payload).map_ok(|_| ()).boxed()
        };
        Ok(self.tried(put).await)
    }

    /// Removes an object; nothing where it is missing.
    pub(super) async fn remove(&self, key: &str) -> Result<Removal> {
        let full = self.full(key)?;
        match self.tried(|| self.objects.delete(&full).boxed()).await {
            Ok(()) => Ok(Removal::Gone),
            Err(error) if meaning(&error) == Meaning::Missing && !is_no_bucket(&error) => {
                Ok(Removal::Gone)
            }
            Err(error) if is_refusal(&error) => Ok(Removal::Kept),
            Err(error) => Err(explain("remove", &self.shown(key), &error)),
        }
    }

    /// Removes what is below a folder, as far as the store lets it go.
    pub(super) async fn remove_tree(&self, key: &str) -> Result<Removal> {
        let found = self.tree(key).await?;
        let removals = stream::iter(found)
            .map(|found| async move { self.remove(&format!("{key}/{}", found.key)).await })
            .buffer_unordered(TOGETHER)
            .try_collect::<Vec<Removal>>();
        let kept = removals.await?.contains(&Removal::Kept);
        Ok(if kept { Removal::Kept } else { Removal::Gone })
    }

    /// What stands directly in a folder.
    pub(super) async fn list(&self, key: &str) -> Result<Vec<Found>> {
        let full = self.full(key)?;
        let prefix = (!full.as_ref().is_empty()).then_some(&full);
        let listed = self
            .tried(|| self.objects.list_with_delimiter(prefix).boxed())
            .await
            .map_err(|error| explain("list", &self.shown(key), &error))?;
        let folders = listed.common_prefixes.iter().filter_map(|folder| {
            Some(Found {
                key: below(&full, folder)?,
                is_folder: true,
                size: 0,
                modified: SystemTime::UNIX_EPOCH,
                version: None,
            })
        });
        let objects = listed.objects.iter().filter_map(|meta| found(&full, meta));
        Ok(folders.chain(objects).collect())
    }

    /// What stands anywhere below a folder.
    pub(super) async fn tree(&self, key: &str) -> Result<Vec<Found>> {
        let full = self.full(key)?;
        let listed: Vec<ObjectMeta> = self
            .tried(|| self.objects.list(Some(&full)).try_collect().boxed())
            .await
            .map_err(|error| explain("list", &self.shown(key), &error))?;
        Ok(listed
            .iter()
            .filter_map(|meta| found(&full, meta))
            .collect())
    }

    /// What the store takes for now: the time that it gives to an object made this moment.
    pub(super) async fn clock(&self) -> Result<SystemTime> {
        let key = format!("{PROBE}{}", super::open::random_hex()?);
        self.put_over(&key, b"").await?;
        let stands = self.head(&key).await;
        self.remove(&key).await?;
        let meta = stands?.ok_or_else(|| {
            Error::failed(format!(
                "{} does not show what was just written",
                self.shown(&key)
            ))
        })?;
        Ok(meta.last_modified.into())
    }

    /// Whether one create after another is refused by the store itself.
    pub(super) async fn refuses_a_second(&self, key: &str) -> Result<bool> {
        self.put_over(key, b"1").await?;
        let full = self.full(key)?;
        let second = self.tried(|| self.create(&full, b"2").boxed()).await;
        let kept = self.get(key).await?.is_some_and(|stands| stands == "1"[..]);
        match second {
            Ok(()) => Ok(false),
            Err(error) if meaning(&error) == Meaning::Exists => Ok(kept),
            // "Not implemented": the store does not know the condition at all.
            Err(error) if kept && meaning(&error) == Meaning::Final && !is_refusal(&error) => {
                Ok(false)
            }
            Err(error) => Err(explain("write", &self.shown(key), &error)),
        }
    }

    /// Gives up uploads in parts that writers over a day old have begun and not ended; says how many.
    pub(super) async fn sweep_orphans(
        &self,
        old: impl Fn(SystemTime) -> bool,
    ) -> Result<Vec<String>> {
        let mut swept = Vec::new();
        for record in self.tree(ORPHANS).await? {
            if !old(record.modified) {
                continue;
            }
            let key = format!("{ORPHANS}/{}", record.key);
            if let Some(bytes) = self.get(&key).await?
                && !sending::give_up_recorded(self, &bytes).await
            {
                // Without its record nobody would find the upload again.
                continue;
            }
            if self.remove(&key).await? == Removal::Gone {
                swept.push(key);
            }
        }
        Ok(swept)
    }
}

/// A key relative to a folder; `None` for the folder itself.
fn below(folder: &Key, key: &Key) -> Option<String> {
    let key = key.as_ref();
    let rest = match folder.as_ref() {
        "" => key,
        folder => key.strip_prefix(folder)?.strip_prefix('/')?,
    };
    (!rest.is_empty()).then(|| rest.to_owned())
}

fn found(folder: &Key, meta: &ObjectMeta) -> Option<Found> {
    Some(Found {
        key: below(folder, &meta.location)?,
        is_folder: false,
        size: meta.size,
        modified: meta.last_modified.into(),
        version: meta.e_tag.clone(),
    })
}
