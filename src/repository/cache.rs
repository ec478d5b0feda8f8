//! Commits that were read from a bucket, kept on this machine: a listing then asks for new and changed ones only.
//!
//! Never the only copy of anything, and never trusted for more than a listing: whoever opens a backup reads its commit
//! from the store.

use super::folder::Found;
use super::layout::stack_folder;
use crate::manifest::BackupId;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The commits of one stack.
#[derive(Debug)]
pub(super) struct CommitCache {
    folder: PathBuf,
}

/// What tells one content of a key from another: its size, its time, and what the store calls its version.
pub(super) fn stamp(found: &Found) -> String {
    let written = found.modified.duration_since(UNIX_EPOCH);
    format!(
        "{} {} {}",
        found.size,
        written.unwrap_or_default().as_nanos(),
        found.version.as_deref().unwrap_or("-")
    )
}

impl CommitCache {
    /// The cache below `root` for a stack of the repository `id`.
    pub(super) fn new(root: &Path, repository: &str, stack: &str) -> Self {
        Self {
            folder: root.join(repository).join(stack_folder(stack)),
        }
    }

    /// The commit, if it is kept with this stamp.
    pub(super) fn get(&self, id: &BackupId, stamp: &str) -> Option<Vec<u8>> {
        let kept = fs::read(self.folder.join(id.as_str())).ok()?;
        let rest = kept.strip_prefix(stamp.as_bytes())?;
        Some(rest.strip_prefix(b"\n")?.to_vec())
    }

    /// Keeps a commit. That it cannot be kept costs a request the next time, no more.
    pub(super) fn put(&self, id: &BackupId, stamp: &str, commit: &[u8]) {
        let text = [stamp.as_bytes(), b"\n", commit].concat();
        let whole = self.folder.join(format!("{id}#{}", std::process::id()));
        let _ = fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&whole, text))
            .and_then(|()| fs::rename(&whole, self.folder.join(id.as_str())));
    }

    /// Forgets the backups that are no more.
    pub(super) fn keep_only(&self, ids: &BTreeSet<String>) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        for entry in entries.flatten() {
            if !ids.contains(&*entry.file_name().to_string_lossy()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_counts_for_its_stamp_only() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CommitCache::new(dir.path(), "repository", "a/b");
        let id: BackupId = "20261122T020000Z-k3f9".parse().unwrap();
        cache.put(&id, "12 3 x", b"{}\n");
        assert_eq!(cache.get(&id, "12 3 x").as_deref(), Some(&b"{}\n"[..]));
        assert_eq!(cache.get(&id, "12 3 "), None);
        assert_eq!(cache.get(&id, "12 3 y"), None);
        cache.keep_only(&BTreeSet::new());
        assert_eq!(cache.get(&id, "12 3 x"), None);
    }
}
