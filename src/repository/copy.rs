//! A backup from one repository into another, byte by byte: what a newer version has added comes along.

use super::backup::Backup;
use super::bucket::Removal;
use super::folder::Published;
use super::layout::{MANIFEST, SIGNATURE, SUMS, backup_folder, commit_key, is_fixed};
use super::reader::ArtifactReader;
use super::upload::{Keys, Target, Upload};
use super::{Repository, sums};
use crate::error::{Error, Kind, Result};
use crate::manifest::ObjectRef;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// What a copy did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Objects that were sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Objects that were there already and right.
    pub kept: u64,
    /// Whether the backup was there as a whole, and nothing had to be done.
    pub existed: bool,
}

impl Repository {
    /// Brings `backup` here, its commit last. What an earlier copy that was cut off has left is read, and sent again
    /// only where it is not right. `progress` gets each object's key and how many of its bytes are done.
    ///
    /// # Errors
    /// Damaged where the source is; failed where another backup of that name stands here, or the store fails. What
    /// has landed by then stays for a day, for the next try.
    pub async fn copy_in(
        &self,
        backup: &Backup,
        mut progress: impl FnMut(&str, u64),
    ) -> Result<Copied> {
        let lease = Arc::new(self.store.share().await?);
        let (stack, id) = (&backup.commit().stack, &backup.commit().backup);
        let key = commit_key(stack, id);
        let folder = backup_folder(stack, id);
        let mut copied = Copied::default();
        if let Some(stands) = self.store.get(&key).await? {
            if stands != backup.commit_bytes {
                return Err(Error::failed(format!(
                    "{} holds another backup of this name",
                    self.store.shown(&key)
                )));
            }
            copied.existed = true;
        }
        backup.check_folder()?;
        let found = self.store.tree(&folder).await?;
        let present: BTreeMap<String, u64> = found
            .into_iter()
            .filter(|found| !found.is_folder)
            .map(|found| (found.key, found.size))
            .collect();
        for object in backup.objects().await? {
            let full = format!("{folder}/{}", object.key);
            if let Some(size) = present.get(&object.key) {
                let mut there = ArtifactReader::new(
                    self.store.clone(),
                    &folder,
                    vec![object.clone()],
                    Arc::clone(&lease),
                );
                if *size == object.size && there.is_whole(&mut progress).await? {
                    copied.kept += 1;
                    continue;
                }
                if copied.existed {
                    return Err(Error::damaged(format!(
                        "{} is not what was written",
                        self.store.shown(&full)
                    ))
                    .hint("the backup is damaged here; it is listed, so it is not written anew"));
                }
                if self.store.remove(&full).await? == Removal::Kept {
                    return Err(Error::failed(format!(
                        "{} is left from a copy that was cut off, and the store keeps it",
                        self.store.shown(&full)
                    )));
                }
            }
            self.send(backup, &folder, &object, &mut progress).await?;
            copied.sent += 1;
            copied.sent_bytes += object.size;
        }
        if copied.existed && copied.sent > 0 {
            return Err(Error::damaged(format!(
                "{} was listed without all of its objects; those that were missing are there again",
                self.store.shown(&folder)
            )));
        }
        if !copied.existed {
            let put = self
                .store
                .put_new(&key, backup.commit_bytes.to_vec())
                .await?;
            let stands = self.store.get(&key).await?;
            if put == Published::Existed && stands != Some(backup.commit_bytes.clone()) {
                return Err(Error::failed(format!("{key} was written by another run")));
            }
        }
        Ok(copied)
    }

    /// Sends one object: it appears only once all of its bytes have been read and were right.
    async fn send(
        &self,
        backup: &Backup,
        folder: &str,
        object: &ObjectRef,
        progress: &mut impl FnMut(&str, u64),
    ) -> Result<()> {
        let target = Target {
            backup: folder.to_owned(),
            keys: Keys::One(object.key.clone()),
            object_limit: u64::MAX,
        };
        let mut upload = Upload::start(&self.store, target, &TaskTracker::new())?;
        let mut reader = backup.read_objects(vec![object.clone()]);
        let sent = async {
            while let Some(bytes) = reader.next().await? {
                progress(&object.key, bytes.len() as u64);
                upload.write(bytes).await?;
            }
            Ok(())
        };
        if let Err(error) = sent.await {
            upload.abort().await;
            return Err(error);
        }
        let landed = upload.finish().await?;
        if landed[..] != [object.clone()] {
            return Err(Error::failed(format!(
                "{folder}/{}: other bytes landed than were read",
                object.key
            )));
        }
        Ok(())
    }
}

impl Backup {
    /// Every object of the backup in the order in which they are written: artifacts, their description, the digests
    /// of all of them, and the signature over those.
    pub(super) async fn objects(&self) -> Result<Vec<ObjectRef>> {
        let of = |key: &str| ObjectRef {
            key: key.to_owned(),
            size: self.sizes.get(key).copied().unwrap_or_default(),
            sha256: self.sums.get(key).unwrap_or_default().to_owned(),
        };
        let (fixed, artifacts): (Vec<&str>, Vec<&str>) =
            self.sums.keys().partition(|key| is_fixed(key));
        let mut objects: Vec<ObjectRef> = artifacts.into_iter().map(of).collect();
        let (manifest, rest): (Vec<&str>, Vec<&str>) =
            fixed.into_iter().partition(|key| *key == MANIFEST);
        objects.extend(rest.into_iter().chain(manifest).map(of));
        for key in [SUMS, SIGNATURE] {
            let full = format!("{}/{key}", self.folder);
            if let Some(bytes) = self.store.get(&full).await? {
                objects.push(ObjectRef {
                    key: key.to_owned(),
                    size: bytes.len() as u64,
                    sha256: sums::digest(&bytes),
                });
            }
        }
        Ok(objects)
    }
}

impl ArtifactReader {
    /// Whether all bytes are there and right, read to their end.
    async fn is_whole(&mut self, progress: &mut impl FnMut(&str, u64)) -> Result<bool> {
        loop {
            let key = self.key().unwrap_or_default();
            match self.next().await {
                Ok(Some(bytes)) => progress(&key, bytes.len() as u64),
                Ok(None) => return Ok(true),
                Err(error) if error.kind() == Kind::Damaged => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}
