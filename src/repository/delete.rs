//! Removing: backups that nobody wants any more, and what writers that died have left.

use super::Repository;
use super::bucket::Removal;
use super::catalog::Entry;
use super::folder::{Folder, io_error, is_unfinished};
use super::layout::{
    Beside, PROBE, backup_folder, commit_key, pin_key, proof_key, stack_folder, stack_of_folder,
};
use super::lease::Lease;
use super::open::random_hex;
use super::store::Store;
use crate::error::{Error, Kind, Result};
use crate::manifest::BackupId;
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

/// How old something unfinished must be before it is taken for left behind.
const DAY: Duration = Duration::from_hours(24);

/// The right to remove: nobody writes or reads a backup of this repository while it is held.
#[derive(Debug)]
pub struct Maintenance {
    repository: Repository,
    lease: Lease,
}

/// What became of a backup that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// The store keeps it: its objects are locked, or these credentials may not remove. It is listed as before.
    Retained,
    /// It is listed no more, and the store keeps a part of what it held.
    Remains,
}

impl Repository {
    /// Keeps writers and readers away, so that nothing is removed from under them.
    ///
    /// # Errors
    /// Busy where a backup is being written, read or removed.
    pub async fn maintain(&self) -> Result<Maintenance> {
        Ok(Maintenance {
            repository: self.clone(),
            lease: self.store.exclude().await?,
        })
    }
}

impl Maintenance {
    /// Removes a backup: the commit first, so that a half-removed one is never listed.
    ///
    /// Asks for nothing but its own objects, so that it costs as much however many others there are. A proof that the
    /// entry does not know yet stays, and is swept.
    ///
    /// # Errors
    /// Failed where it is pinned, whatever the entry says, or the store fails.
    pub async fn delete(&self, entry: &Entry) -> Result<Deletion> {
        self.lease.check()?;
        let (stack, id) = (&entry.stack, &entry.id);
        let store = &self.repository.store;
        if store.exists(&pin_key(stack, id)).await? {
            return Err(Error::failed(format!("{} is pinned", entry.reference()))
                .hint("`lifeboat unpin` lets it go"));
        }
        if store.remove(&commit_key(stack, id)).await? == Removal::Kept {
            return Ok(Deletion::Retained);
        }
        let mut kept = store.remove_tree(&backup_folder(stack, id)).await? == Removal::Kept;
        for time in &entry.proofs {
            kept |= store.remove(&proof_key(stack, id, *time)).await? == Removal::Kept;
        }
        store.remove_if_empty(&stack_folder(stack)).await?;
        Ok(match kept {
            true => Deletion::Remains,
            false => Deletion::Done,
        })
    }

    /// Lets writers and readers in again, at once and not when this process ends.
    pub async fn release(self) {
        let Self { repository, lease } = self;
        drop(lease);
        if let Store::Bucket(bucket) = &repository.store {
            bucket.access.holds().let_go().await;
        }
    }

    /// Removes what was begun over a day ago and never committed, and returns its keys.
    ///
    /// Ages are by the clock of the repository's own store: the host's may be wrong by years.
    ///
    /// # Errors
    /// What the store said.
    pub async fn sweep(&self) -> Result<Vec<String>> {
        self.sweep_at(self.repository.store.clock().await?).await
    }

    /// The same where the store's clock says `now`.
    pub(super) async fn sweep_at(&self, now: SystemTime) -> Result<Vec<String>> {
        let store = &self.repository.store;
        let mut swept = Vec::new();
        for found in store.list("").await? {
            self.lease.check()?;
            if found.is_folder {
                if stack_of_folder(&found.key).is_some() {
                    sweep_stack(store, &found.key, now, &mut swept).await?;
                }
            } else if (is_unfinished(&found.key) || found.key.starts_with(PROBE))
                && is_old(found.modified, now)
                && store.remove(&found.key).await? == Removal::Gone
            {
                swept.push(found.key);
            }
        }
        if let Store::Bucket(bucket) = store {
            swept.extend(bucket.sweep_orphans(|begun| is_old(begun, now)).await?);
        }
        swept.sort();
        Ok(swept)
    }
}

fn is_old(modified: SystemTime, now: SystemTime) -> bool {
    // A time in the future is no age: leave it to a later sweep.
    now.duration_since(modified).is_ok_and(|age| age > DAY)
}

/// What the disk takes for now: the time that it gives to a file made this moment.
pub(super) fn disk_clock(folder: &Folder) -> Result<SystemTime> {
    let key = format!("{PROBE}{}", random_hex()?);
    folder.put_new(&key, b"")?;
    let path = folder.path(&key);
    let time = fs::symlink_metadata(&path)
        .and_then(|metadata| metadata.modified())
        .map_err(|error| io_error("look at", &path, error));
    folder.remove(&key)?;
    time
}

/// Removes the unfinished files, the folders without a commit, and what stands beside neither.
async fn sweep_stack(
    store: &Store,
    stack: &str,
    now: SystemTime,
    swept: &mut Vec<String>,
) -> Result<()> {
    let found = store.list(stack).await?;
    let committed: BTreeSet<BackupId> = found
        .iter()
        .filter_map(|found| match Beside::parse(&found.key) {
            Some(Beside::Commit(id)) => Some(id),
            _ => None,
        })
        .collect();
    for found in found {
        let key = format!("{stack}/{}", found.key);
        let removed = if found.is_folder {
            let Ok(id) = found.key.parse::<BackupId>() else {
                continue;
            };
            if committed.contains(&id)
                || !is_old(newest(store, &key, found.modified, now).await?, now)
            {
                continue;
            }
            store.remove_tree(&key).await?
        } else {
            let orphan =
                Beside::parse(&found.key).is_some_and(|mark| !committed.contains(mark.id()));
            if !(orphan || is_unfinished(&found.key)) || !is_old(found.modified, now) {
                continue;
            }
            store.remove(&key).await?
        };
        if removed == Removal::Gone {
            swept.push(key);
        }
    }
    store.remove_if_empty(stack).await
}

/// When anything in a folder was last written; `now` where a link in it forbids to look further,
/// which is for a person to see to.
///
/// Folders count where there is no file: a removal that was killed has made them young, and their files are old.
async fn newest(store: &Store, key: &str, own: SystemTime, now: SystemTime) -> Result<SystemTime> {
    match store.tree(key).await {
        Ok(found) => {
            let files = found.iter().filter(|found| !found.is_folder);
            let all = found.iter().map(|found| found.modified);
            Ok(files
                .map(|file| file.modified)
                .max()
                .unwrap_or_else(|| all.chain([own]).max().unwrap_or(own)))
        }
        Err(error) if error.kind() == Kind::Damaged => Ok(now),
        Err(error) => Err(error),
    }
}
