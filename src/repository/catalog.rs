//! Which backups there are: [`Entry`], listing, and what a reference such as `latest~1` means.

use super::Repository;
use super::cache::{CommitCache, stamp};
use super::layout::{Beside, commit_key, stack_folder, stack_of_folder};
use super::pin::Pin;
use super::store::Store;
use crate::error::{Error, Result, nearest};
use crate::manifest::{BackupId, Commit};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// One backup as a listing shows it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The stack, from the key.
    pub stack: String,
    /// The backup's id, from the key.
    pub id: BackupId,
    /// What the commit says; `None` where it is damaged.
    pub commit: Option<Commit>,
    /// The pin, where there is one.
    pub pinned: Option<Pin>,
    /// When drills proved that it restores, oldest first.
    pub proofs: Vec<DateTime<Utc>>,
    /// Why it cannot be restored, as far as its commit shows.
    pub damaged: Option<String>,
}

impl Entry {
    /// `STACK/ID`, as it stands in messages.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.stack, self.id)
    }
}

/// What was found beside one backup's folder.
#[derive(Default)]
struct Marks {
    committed: bool,
    /// What tells the commit from another one under its key.
    stamp: String,
    pinned: bool,
    proofs: Vec<DateTime<Utc>>,
}

impl Repository {
    /// The stacks that have a backup here, sorted.
    ///
    /// # Errors
    /// What the disk said.
    pub async fn stacks(&self) -> Result<Vec<String>> {
        let mut stacks = Vec::new();
        for found in self.store.list("").await? {
            // Folders that are no stack's, such as `lost+found`, are not this format's.
            let Some(stack) = stack_of_folder(&found.key).filter(|_| found.is_folder) else {
                continue;
            };
            let commits = self.store.list(&found.key).await?;
            if commits
                .iter()
                .any(|found| matches!(Beside::parse(&found.key), Some(Beside::Commit(_))))
            {
                stacks.push(stack);
            }
        }
        stacks.sort();
        Ok(stacks)
    }

    /// The backups of a stack, newest first; none where the stack is unknown.
    ///
    /// Reads one listing and the commits: [`Repository::open_backup`] looks further.
    ///
    /// # Errors
    /// What the disk said. A damaged commit is an entry with its reason, not an error.
    pub async fn list(&self, stack: &str) -> Result<Vec<Entry>> {
        let mut marks: BTreeMap<BackupId, Marks> = BTreeMap::new();
        for found in self.store.list(&stack_folder(stack)).await? {
            let Some(beside) = Beside::parse(&found.key).filter(|_| !found.is_folder) else {
                continue;
            };
            let marks = marks.entry(beside.id().clone()).or_default();
            match beside {
                Beside::Commit(_) => {
                    marks.committed = true;
                    marks.stamp = stamp(&found);
                }
                Beside::Pin(_) => marks.pinned = true,
                Beside::Proof(_, time) => marks.proofs.push(time),
            }
        }
        if let Some(cache) = self.commit_cache(stack) {
            cache.keep_only(&marks.keys().map(ToString::to_string).collect());
        }
        let mut entries = Vec::with_capacity(marks.len());
        let mut committed = marks.into_iter().rev().filter(|(_, marks)| marks.committed);
        loop {
            let some: Vec<_> = committed.by_ref().take(READ_TOGETHER).collect();
            if some.is_empty() {
                return Ok(entries);
            }
            let read = self.read_commits(stack, &some).await?;
            for ((id, marks), bytes) in some.into_iter().zip(read) {
                // Removed by a prune since the listing: gone, not damaged.
                entries.extend(self.entry(stack, id, marks, bytes).await);
            }
        }
    }

    /// Reads commits, those that this machine has seen already from its own disk.
    async fn read_commits(
        &self,
        stack: &str,
        some: &[(BackupId, Marks)],
    ) -> Result<Vec<ReadCommit>> {
        let Some(cache) = self.commit_cache(stack) else {
            let keys = some.iter().map(|(id, _)| commit_key(stack, id)).collect();
            return self.store.get_all(keys).await;
        };
        let mut read: Vec<Option<ReadCommit>> = some
            .iter()
            .map(|(id, marks)| cache.get(id, &marks.stamp).map(|kept| Ok(Some(kept))))
            .collect();
        let missing: Vec<usize> = (0..some.len()).filter(|&at| read[at].is_none()).collect();
        let keys = missing.iter().map(|&at| commit_key(stack, &some[at].0));
        let fetched = self.store.get_all(keys.collect()).await?;
        for (at, commit) in missing.into_iter().zip(fetched) {
            let (id, marks) = &some[at];
            if let Ok(Some(bytes)) = &commit {
                cache.put(id, &marks.stamp, bytes);
            }
            read[at] = Some(commit);
        }
        Ok(read.into_iter().flatten().collect())
    }

    /// Where commits of a bucket are kept.
    fn commit_cache(&self, stack: &str) -> Option<CommitCache> {
        let Store::Bucket(bucket) = &self.store else {
            return None;
        };
        let root = bucket.access.cache.as_ref()?;
        Some(CommitCache::new(root, &self.marker.id, stack))
    }

    /// What is listed for a commit that was read; `None` where there is none any more.
    async fn entry(
        &self,
        stack: &str,
        id: BackupId,
        mut marks: Marks,
        read: Result<Option<Vec<u8>>>,
    ) -> Option<Entry> {
        let parsed = match read.transpose()? {
            Ok(bytes) => parse_commit(&commit_key(stack, &id), &bytes, stack, &id),
            Err(error) => Err(error),
        };
        let pinned = if marks.pinned {
            Some(self.read_pin(stack, &id).await)
        } else {
            None
        };
        marks.proofs.sort_unstable();
        let (commit, damaged) = match parsed {
            Ok(commit) => (Some(commit), None),
            Err(error) => (None, Some(error.chain())),
        };
        Some(Entry {
            stack: stack.to_owned(),
            id,
            commit,
            pinned,
            proofs: marks.proofs,
            damaged,
        })
    }

    /// The backup that a person means: `latest`, `latest~2`, an id, a unique prefix of one, each
    /// with `STACK/` before it or without. `stack` is the one meant where the reference names none.
    ///
    /// # Errors
    /// Not found, with the nearest names; usage where several are meant.
    pub async fn resolve(&self, reference: &str, stack: Option<&str>) -> Result<Entry> {
        let (named, wanted) = match reference.rsplit_once('/') {
            Some((stack, wanted)) => (Some(stack), wanted),
            None => (stack, reference),
        };
        let back = steps_back(wanted)?;
        let stacks = self.stacks().await?;
        let searched: Vec<&String> = match named {
            Some(named) => {
                let known = stacks
                    .iter()
                    .find(|known| *known == named)
                    .or_else(|| stacks.iter().find(|known| stack_folder(known) == named));
                vec![known.ok_or_else(|| self.unknown_stack(named, &stacks))?]
            }
            None => stacks.iter().collect(),
        };
        let mut entries = Vec::new();
        for stack in &searched {
            entries.extend(self.list(stack).await?);
        }
        let Some(back) = back else {
            return self.pick(wanted, entries);
        };
        if searched.len() > 1 {
            return Err(Error::usage(format!(
                "{wanted} of which stack? {} holds several",
                self.location
            ))
            .hint(format!("write STACK/{wanted}: {}", stacks.join(", "))));
        }
        let count = entries.len();
        entries.into_iter().nth(back).ok_or_else(|| {
            Error::not_found(format!("no backup {wanted} in {}", self.location))
                .hint(format!("there are {count}: `lifeboat list` shows them"))
        })
    }

    fn unknown_stack(&self, named: &str, stacks: &[String]) -> Error {
        let error = Error::not_found(format!("no backup of {named:?} in {}", self.location));
        let near = nearest(named, stacks.iter().map(String::as_str));
        if !near.is_empty() {
            error.hint(format!("did you mean {}?", near.join(", ")))
        } else if stacks.is_empty() {
            error.hint("there is no backup in it at all: `lifeboat backup` makes one")
        } else {
            error.hint(format!("it holds backups of {}", stacks.join(", ")))
        }
    }

    /// The one entry whose id is, or starts with, what is wanted.
    fn pick(&self, wanted: &str, mut entries: Vec<Entry>) -> Result<Entry> {
        let mut matching: Vec<usize> = (0..entries.len())
            .filter(|&index| !wanted.is_empty() && entries[index].id.as_str().starts_with(wanted))
            .collect();
        // An id is a prefix of itself only, but two stacks may have backups of one id.
        if let [one] = matching[..] {
            return Ok(entries.swap_remove(one));
        }
        if matching.is_empty() {
            let error = Error::not_found(format!("no backup {wanted:?} in {}", self.location));
            let near = nearest(wanted, entries.iter().map(|entry| entry.id.as_str()));
            return Err(if near.is_empty() {
                error.hint("`lifeboat list` shows what there is")
            } else {
                error.hint(format!("did you mean {}?", near.join(", ")))
            });
        }
        matching.truncate(5);
        let names: Vec<String> = matching.iter().map(|&i| entries[i].reference()).collect();
        Err(Error::usage(format!("{wanted:?} may mean several backups"))
            .hint(format!("write more of it: {}", names.join(", "))))
    }
}

/// A commit's bytes; `None` where it has gone since it was listed.
type ReadCommit = Result<Option<Vec<u8>>>;

/// How many commits are read at once: memory stays bounded however many there are.
const READ_TOGETHER: usize = 1024;

/// The N of `latest~N`; `None` for a reference that is no such thing.
fn steps_back(wanted: &str) -> Result<Option<usize>> {
    match wanted.strip_prefix("latest") {
        Some("") => Ok(Some(0)),
        Some(rest) => {
            let number = rest
                .strip_prefix('~')
                .and_then(|number| number.parse().ok());
            number.map(Some).ok_or_else(|| {
                Error::usage(format!("{wanted:?} is not a backup"))
                    .hint("write `latest`, or `latest~1` for the one before it")
            })
        }
        None => Ok(None),
    }
}

/// Reads a commit and checks that it stands under its own key.
pub(super) fn parse_commit(key: &str, bytes: &[u8], stack: &str, id: &BackupId) -> Result<Commit> {
    // Without its last newline the rest may still be JSON, and is not what was written.
    if !bytes.ends_with(b"}\n") {
        return Err(Error::damaged(format!("{key}: cut short, or added to")));
    }
    let commit: Commit = serde_json::from_slice(bytes)
        .map_err(|error| Error::damaged(format!("{key}: not a commit")).caused_by(error))?;
    if commit.stack != stack || commit.backup != *id {
        return Err(Error::damaged(format!(
            "{key}: the commit of another backup"
        )));
    }
    // Whoever writes a newer format raises the marker's first, which `open` has looked at.
    if commit.format == 0 || commit.format > crate::manifest::FORMAT {
        return Err(Error::damaged(format!(
            "{key}: format {}, which its repository does not have",
            commit.format
        )));
    }
    Ok(commit)
}
