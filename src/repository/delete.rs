//! Removing: backups that nobody wants any more, and what writers that died have left.

use super::Repository;
use super::catalog::Entry;
use super::folder::{Folder, io_error, is_unfinished};
use super::layout::{Beside, PROBE, backup_folder, commit_key, pin_key, stack_of_folder};
use super::lease::Lease;
use super::store::blocking;
use crate::error::{Error, Kind, OrFail, Result};
use crate::manifest::BackupId;
use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How old something unfinished must be before it is taken for left behind.
const DAY: Duration = Duration::from_hours(24);

/// The right to remove: nobody writes or reads a backup of this repository while it is held.
#[derive(Debug)]
pub struct Maintenance {
    repository: Repository,
    _lease: Lease,
}

impl Repository {
    /// Keeps writers and readers away, so that nothing is removed from under them.
    ///
    /// # Errors
    /// Busy where a backup is being written, read or removed.
    pub fn maintain(&self) -> Result<Maintenance> {
        Ok(Maintenance {
            repository: self.clone(),
            _lease: Lease::exclusive(self.store.folder())?,
        })
    }
}

impl Maintenance {
    /// Removes a backup: the commit first, so that a half-removed one is never listed.
    ///
    /// # Errors
    /// Failed where it is pinned, whatever the entry says, or the disk fails.
    pub async fn delete(&self, entry: &Entry) -> Result<()> {
        let (stack, id) = (&entry.stack, &entry.id);
        let store = &self.repository.store;
        if store.folder().check_file(&pin_key(stack, id))? {
            return Err(Error::failed(format!("{} is pinned", entry.reference()))
                .hint("`lifeboat unpin` lets it go"));
        }
        store.remove(&commit_key(stack, id)).await?;
        store.remove_tree(&backup_folder(stack, id)).await?;
        let (folder, stack, id) = (
            Arc::clone(store.folder()),
            super::layout::stack_folder(stack),
            id.clone(),
        );
        blocking(move || {
            for found in folder.list(&stack)? {
                if Beside::parse(&found.key).is_some_and(|beside| *beside.id() == id) {
                    folder.remove(&format!("{stack}/{}", found.key))?;
                }
            }
            folder.remove_if_empty(&stack);
            Ok(())
        })
        .await
    }

    /// Removes what was begun over a day ago and never committed, and returns its keys.
    ///
    /// Ages are by the clock of the repository's own disk: the host's may be wrong by years.
    ///
    /// # Errors
    /// What the disk said.
    pub async fn sweep(&self) -> Result<Vec<String>> {
        let folder = Arc::clone(self.repository.store.folder());
        blocking(move || {
            let now = disk_clock(&folder)?;
            let mut swept = Vec::new();
            for found in folder.list("")? {
                if found.is_folder {
                    if stack_of_folder(&found.key).is_some() {
                        sweep_stack(&folder, &found.key, now, &mut swept)?;
                    }
                } else if (is_unfinished(&found.key) || found.key.starts_with(PROBE))
                    && is_old(found.modified, now)
                {
                    folder.remove(&found.key)?;
                    swept.push(found.key);
                }
            }
            swept.sort();
            Ok(swept)
        })
        .await
    }
}

fn is_old(modified: SystemTime, now: SystemTime) -> bool {
    // A time in the future is no age: leave it to a later sweep.
    now.duration_since(modified).is_ok_and(|age| age > DAY)
}

/// What the disk takes for now: the time that it gives to a file made this moment.
fn disk_clock(folder: &Folder) -> Result<SystemTime> {
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).or_fail(|| "the system gives no random bytes")?;
    let key = format!("{PROBE}{}", hex::encode(random));
    folder.put_new(&key, b"")?;
    let path = folder.path(&key);
    let time = fs::symlink_metadata(&path)
        .and_then(|metadata| metadata.modified())
        .map_err(|error| io_error("look at", &path, error));
    folder.remove(&key)?;
    time
}

/// Removes the unfinished files, the folders without a commit, and what stands beside neither.
fn sweep_stack(
    folder: &Folder,
    stack: &str,
    now: SystemTime,
    swept: &mut Vec<String>,
) -> Result<()> {
    let found = folder.list(stack)?;
    let committed: BTreeSet<BackupId> = found
        .iter()
        .filter_map(|found| match Beside::parse(&found.key) {
            Some(Beside::Commit(id)) => Some(id),
            _ => None,
        })
        .collect();
    for found in found {
        let key = format!("{stack}/{}", found.key);
        if found.is_folder {
            let Ok(id) = found.key.parse::<BackupId>() else {
                continue;
            };
            if !committed.contains(&id) && is_old(newest(folder, &key, found.modified, now)?, now) {
                folder.remove_tree(&key)?;
                swept.push(key);
            }
            continue;
        }
        let orphan = Beside::parse(&found.key).is_some_and(|mark| !committed.contains(mark.id()));
        if (orphan || is_unfinished(&found.key)) && is_old(found.modified, now) {
            folder.remove(&key)?;
            swept.push(key);
        }
    }
    folder.remove_if_empty(stack);
    Ok(())
}

/// When anything in a folder was last written; `now` where a link in it forbids to look further,
/// which is for a person to see to.
fn newest(folder: &Folder, key: &str, own: SystemTime, now: SystemTime) -> Result<SystemTime> {
    match folder.tree(key) {
        Ok(found) => {
            let times = found.into_iter().map(|found| found.modified);
            Ok(times.chain([own]).max().unwrap_or(own))
        }
        Err(error) if error.kind() == Kind::Damaged => Ok(now),
        Err(error) => Err(error),
    }
}
