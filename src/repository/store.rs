//! The store below a repository: a directory, read through [`ObjectStore`] and written and listed through the
//! [`Folder`], whose calls are moved off the async threads; or a bucket.

use super::bucket::{Bucket, Removal};
use super::folder::{Folder, Found, Published};
use super::layout;
use super::lease::Lease;
use crate::error::{Error, Kind, OrFail, Result};
use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use rustix::io::Errno;
use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

/// The largest object that is read whole: enough for the digests of 100,000 objects.
pub(super) const SMALL: u64 = 64 << 20;

/// Where the objects of one repository are.
#[derive(Debug, Clone)]
pub(super) enum Store {
    /// In a directory.
    Folder(FolderStore),
    /// In a bucket.
    Bucket(Bucket),
}

/// A directory: written and listed by [`Folder`], read through [`ObjectStore`].
#[derive(Debug, Clone)]
pub(super) struct FolderStore {
    objects: Arc<dyn ObjectStore>,
    folder: Arc<Folder>,
}

/// Runs what blocks where blocking is allowed.
pub(super) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .or_fail(|| "a worker thread ended early")?
}

impl Store {
    /// The store in an existing directory.
    pub(super) fn local(folder: Folder) -> Result<Self> {
        let objects = LocalFileSystem::new_with_prefix(folder.root())
            .or_fail(|| format!("cannot open {}", folder.root().display()))?
            .with_fsync(true);
        Ok(Self::Folder(FolderStore {
            objects: Arc::new(objects),
            folder: Arc::new(folder),
        }))
    }

    /// Whether there is such an object.
    ///
    /// # Errors
    /// Damaged where it is a symbolic link or no file at all.
    pub(super) async fn exists(&self, key: &str) -> Result<bool> {
        match self {
            Self::Folder(store) => {
                let key = key.to_owned();
                store.on_folder(move |folder| folder.check_file(&key)).await
            }
            Self::Bucket(bucket) => Ok(bucket.head(key).await?.is_some()),
        }
    }

    /// A small object, whole; `None` where there is none.
    ///
    /// # Errors
    /// Damaged where it is larger than any small object is, or not a regular file.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self {
            Self::Folder(store) => store.get(key).await,
            Self::Bucket(bucket) => bucket.get(key).await,
        }
    }

    /// Many small objects, each as [`Store::get`] gives it. On a disk the way to a blocking thread and back
    /// takes longer than reading one: it is gone once for all.
    pub(super) async fn get_all(&self, keys: Vec<String>) -> Result<Vec<Result<Option<Vec<u8>>>>> {
        match self {
            Self::Folder(store) => {
                let read = move |folder: &Folder| {
                    Ok(keys.iter().map(|key| folder.read(key, SMALL)).collect())
                };
                store.on_folder(read).await
            }
            Self::Bucket(bucket) => Ok(bucket.get_all(keys).await),
        }
    }

    /// Some bytes of an object.
    ///
    /// # Errors
    /// Damaged where the object is missing or ends before the range does.
    pub(super) async fn range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        match self {
            Self::Folder(store) => store.range(key, range).await,
            Self::Bucket(bucket) => bucket.range(key, range).await,
        }
    }

    /// How much to read at once, in bytes, and how many such chunks ahead of the one in use.
    pub(super) fn reading(&self) -> (u64, usize) {
        match self {
            // The allocator keeps what each thread frees: with 4 MiB a restore of 10 GB came to a peak of 133 MiB.
            Self::Folder(_) => (1 << 20, 1),
            // A request takes a round trip, and one connection may be slow: 16 MiB are asked for ahead.
            Self::Bucket(_) => (4 << 20, 4),
        }
    }

    /// Writes a small object if its key is free.
    pub(super) async fn put_new(&self, key: &str, bytes: Vec<u8>) -> Result<Published> {
        match self {
            Self::Folder(store) => {
                let key = key.to_owned();
                store
                    .on_folder(move |folder| folder.put_new(&key, &bytes))
                    .await
            }
            Self::Bucket(bucket) => bucket.put_new(key, &bytes).await,
        }
    }

    /// Makes a folder that nothing else has begun; `false` where there is one. In a bucket folders are only names.
    pub(super) async fn make_new_folder(&self, key: &str) -> Result<bool> {
        match self {
            Self::Folder(store) => {
                let key = key.to_owned();
                store
                    .on_folder(move |folder| folder.make_new_folder(&key))
                    .await
            }
            Self::Bucket(bucket) => Ok(bucket.list(key).await?.is_empty()),
        }
    }

    /// Removes an object; nothing where it is missing.
    pub(super) async fn remove(&self, key: &str) -> Result<Removal> {
        match self {
            Self::Folder(store) => {
                let key = key.to_owned();
                let removed = store.on_folder(move |folder| folder.remove(&key)).await;
                removed.map(|()| Removal::Gone)
            }
            Self::Bucket(bucket) => bucket.remove(key).await,
        }
    }

    /// Removes a folder with all that is in it.
    pub(super) async fn remove_tree(&self, key: &str) -> Result<Removal> {
        match self {
            Self::Folder(store) => {
                let key = key.to_owned();
                let removed = store
                    .on_folder(move |folder| folder.remove_tree(&key))
                    .await;
                removed.map(|()| Removal::Gone)
            }
            Self::Bucket(bucket) => bucket.remove_tree(key).await,
        }
    }

    /// Removes a folder if nothing is in it.
    pub(super) async fn remove_if_empty(&self, key: &str) -> Result<()> {
        let Self::Folder(store) = self else {
            return Ok(());
        };
        let key = key.to_owned();
        let remove = move |folder: &Folder| {
            folder.remove_if_empty(&key);
            Ok(())
        };
        store.on_folder(remove).await
    }

    /// What stands directly in a folder.
    pub(super) async fn list(&self, key: &str) -> Result<Vec<Found>> {
        match self {
            Self::Folder(store) => {
                let key = key.to_owned();
                store.on_folder(move |folder| folder.list(&key)).await
            }
            Self::Bucket(bucket) => bucket.list(key).await,
        }
    }

    /// What stands anywhere below a folder.
    pub(super) async fn tree(&self, key: &str) -> Result<Vec<Found>> {
        match self {
            Self::Folder(store) => {
                let key = key.to_owned();
                store.on_folder(move |folder| folder.tree(&key)).await
            }
            Self::Bucket(bucket) => bucket.tree(key).await,
        }
    }

    /// What the store takes for now: the time that it gives to what is written this moment.
    pub(super) async fn clock(&self) -> Result<SystemTime> {
        match self {
            Self::Folder(store) => store.on_folder(super::delete::disk_clock).await,
            Self::Bucket(bucket) => bucket.clock().await,
        }
    }

    /// A hold that keeps pruning away.
    pub(super) async fn share(&self) -> Result<Lease> {
        match self {
            Self::Folder(store) => Lease::shared(&store.folder).await,
            Self::Bucket(bucket) => bucket.access.holds().shared(bucket).await.map(Lease::Held),
        }
    }

    /// A hold that keeps everyone else away.
    pub(super) async fn exclude(&self) -> Result<Lease> {
        match self {
            Self::Folder(store) => Lease::exclusive(&store.folder),
            Self::Bucket(bucket) => bucket
                .access
                .holds()
                .exclusive(bucket)
                .await
                .map(Lease::Held),
        }
    }

    /// The name of a folder or object as a person would look for it.
    pub(super) fn shown(&self, key: &str) -> String {
        match self {
            Self::Folder(store) => store.folder.path(key).display().to_string(),
            Self::Bucket(bucket) => bucket.shown(key),
        }
    }
}

impl FolderStore {
    /// The directory itself.
    pub(super) fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// Works on the directory where blocking is allowed.
    async fn on_folder<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = Arc::clone(&self.folder);
        blocking(move || work(&folder)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        let path = parse(key)?;
        if !self.folder.check_file(key)? {
            return Ok(None);
        }
        let got = match self.objects.get(&path).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(unreadable(key, error)),
        };
        if got.meta.size > SMALL {
            return Err(Error::damaged(format!(
                "{key}: {} bytes, more than such an object has",
                got.meta.size
            )));
        }
        let bytes = got.bytes().await.map_err(|error| unreadable(key, error))?;
        Ok(Some(bytes))
    }

    async fn range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.end - range.start;
        let bytes = match self.objects.get_range(&parse(key)?, range).await {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(Error::damaged(format!("{key}: missing")));
            }
            // Of a local file the cause is hidden in here: truncated, or a disk that cannot read.
            Err(error) => return Err(unreadable(key, error)),
        };
        if bytes.len() as u64 != wanted {
            return Err(Error::damaged(format!("{key}: ends too early")));
        }
        Ok(bytes)
    }
}

/// Takes a key as it is: `Path::from` would encode its percent signs once more.
fn parse(key: &str) -> Result<Key> {
    Key::parse(key).map_err(|error| Error::damaged(format!("{key:?} is no key")).caused_by(error))
}

/// Why an object cannot be read: damage where it is too short or the disk has lost it, another
/// failure where a later or luckier reader may well get its bytes.
fn unreadable(key: &str, error: object_store::Error) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    let mut of_system = None;
    while let Some(at) = cause {
        of_system = of_system.or(at.downcast_ref::<io::Error>());
        cause = at.source();
    }
    let kind = match of_system {
        Some(system) if system.kind() == ErrorKind::UnexpectedEof => Kind::Damaged,
        Some(system) if system.raw_os_error() == Some(Errno::IO.raw_os_error()) => Kind::Damaged,
        Some(_) => Kind::Failed,
        None => Kind::Damaged,
    };
    Error::new(kind, format!("{key}: cannot be read")).caused_by(error)
}

/// Refuses a name that no key can hold, before anything is written under it.
pub(super) fn check_length(folder: &str, key: &str) -> Result<()> {
    layout::check_key(folder, key).map_err(|error| error.with_kind(Kind::Failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `object_store` reads is the file of exactly that name: percent signs are not touched.
    #[tokio::test]
    async fn keys_stand_verbatim_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a%2Fb.dump.zst", "%2E.%2Fetc", "100%25", "%C3%A9"] {
            std::fs::write(dir.path().join(name), name).unwrap();
            let store = Store::local(Folder::new(dir.path())).unwrap();
            let read = store.get(name).await.unwrap().unwrap();
            assert_eq!(read, name);
            let path = parse(name).unwrap();
            let Store::Folder(local) = &store else {
                panic!("a directory")
            };
            local.objects.put(&path, "other".into()).await.unwrap();
            let on_disk = std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert_eq!(on_disk, "other");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[tokio::test]
    async fn a_range_beyond_the_end_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), "12345").unwrap();
        let store = Store::local(Folder::new(dir.path())).unwrap();
        assert_eq!(store.range("x", 1..3).await.unwrap(), "23");
        for range in [3..9, 7..9] {
            let error = store.range("x", range).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged);
        }
    }
}
