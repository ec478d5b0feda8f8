//! The archive of a project's files into a folder of this machine.

use super::recorded;
use crate::archive::{
    Content, Entry, Irregular, Kind, Owners, Reader, Scan, TreeFacts, Visitor, clear, extract_as,
    open_root, scan,
};
use crate::error::{Error, OrFail, Result};
use crate::event::{Event, Observer};
use crate::manifest::Artifact;
use crate::operation::Context;
use crate::operation::plain::plain_bytes;
use crate::operation::trees::tree_difference;
use crate::repository::Backup;
use crate::source::files::{Intake, intake};
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Writes the archive of a project's files into `target`, a folder of this machine that is empty or not there yet, with
/// their modes and times, and as root with their owners. Gives the paths of all that is no folder, below `target`.
///
/// The archive is written into a folder beside, compared with the backup's facts, and renamed at the end: `target` is
/// there whole or not at all.
///
/// # Errors
/// Usage where `target` is something else than an empty folder; busy where another run writes it; damaged where a stored
/// byte is not what was written, or the archive would lead out of its folder.
pub async fn write_to(
    context: &Context,
    backup: &Backup,
    artifact: &Artifact,
    target: &Path,
    observer: &dyn Observer,
) -> Result<Vec<PathBuf>> {
    let begun = Instant::now();
    let expected = recorded(backup, artifact).await?;
    let staging = Staging::beside(&check_target(target)?)?;
    observer.observe(&Event::ArtifactStarted {
        artifact: artifact.name.to_string(),
        expected: Some(artifact.raw_size),
    });
    let written = stage(context, backup, artifact, &staging, observer).await;
    let written = written.and_then(|(tree, paths)| match tree_difference(&expected, &tree) {
        Some(difference) => Err(Error::damaged(format!(
            "what was written is not what was backed up: {difference}"
        ))),
        None => Ok(paths),
    });
    let finished = match written {
        Ok(paths) => staging.put_in_place().map(|()| paths),
        Err(error) => Err(error),
    };
    if finished.is_err() {
        staging.remove();
    }
    let paths = finished?;
    observer.observe(&Event::ArtifactFinished {
        artifact: artifact.name.to_string(),
        raw_size: artifact.raw_size,
        stored_size: artifact.stored_size,
        seconds: begun.elapsed().as_secs_f64(),
    });
    Ok(paths)
}

/// The folder itself, links resolved, once it is known that it holds nothing.
pub(in crate::operation) fn check_target(target: &Path) -> Result<PathBuf> {
    let shown = target.display();
    let refused = |why: &str| {
        Err(Error::usage(format!("{shown} {why}"))
            .hint("the project's files are written into a folder that is empty or not there yet"))
    };
    if target.file_name().is_none() && target.parent().is_none() {
        return refused("is the root of everything");
    }
    let failed = || format!("cannot look into {shown}");
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::path::absolute(target).or_fail(failed)
        }
        Err(error) => Err(error).or_fail(failed),
        Ok(_) => {
            // Of a link that leads nowhere, too.
            let target = target.canonicalize().or_fail(failed)?;
            if !target.is_dir() {
                return refused("is no folder");
            }
            match fs::read_dir(&target).or_fail(failed)?.next() {
                None => Ok(target),
                Some(_) => refused("is not empty"),
            }
        }
    }
}

/// A folder beside the one that is written, with a name that tells what it is.
struct Staging {
    folder: PathBuf,
    target: PathBuf,
    /// Held as long as somebody is at work on it.
    _lock: File,
}

impl Staging {
    /// Makes it; what a dead run left under its name goes.
    fn beside(target: &Path) -> Result<Self> {
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Error::usage(format!(
                "{} is no folder's name",
                target.display()
            )));
        };
        let mut called = OsString::from(".");
        called.push(name);
        called.push(".lifeboat-restoring");
        let folder = parent.join(called);
        let failed = || format!("cannot make the folder {}", folder.display());
        fs::create_dir_all(parent).or_fail(failed)?;
        let folder_made = || fs::DirBuilder::new().mode(0o700).create(&folder);
        match folder_made() {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.or_fail(failed)?,
        }
        if fs::symlink_metadata(&folder).or_fail(failed)?.is_symlink() {
            return Err(Error::failed(failed()).hint("there is a link of this name; remove it"));
        }
        let lock = File::open(&folder).or_fail(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::busy(format!(
                    "another run writes into {}",
                    target.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(error).or_fail(failed),
        }
        let root = open_root(&folder)?;
        clear(&root)?;
        Ok(Self {
            folder,
            target: target.to_owned(),
            _lock: lock,
        })
    }

    fn put_in_place(&self) -> Result<()> {
        let failed = || format!("cannot put the files in place as {}", self.target.display());
        fs::rename(&self.folder, &self.target)
            .or_fail(failed)
            .map_err(|error| {
                error.hint("name a folder that is not there yet, and is no mount itself")
            })?;
        let parent = self.target.parent().unwrap_or(Path::new("/"));
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .or_fail(failed)
    }

    fn remove(&self) {
        // What stays is cleared by the next run.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Writes the archive into the staging folder.
async fn stage(
    context: &Context,
    backup: &Backup,
    artifact: &Artifact,
    staging: &Staging,
    observer: &dyn Observer,
) -> Result<(TreeFacts, Vec<PathBuf>)> {
    let (sender, pieces) = intake();
    let folder = staging.folder.clone();
    let writing = tokio::task::spawn_blocking(move || write(&folder, pieces));
    let mut gave_up = false;
    let mut sent = 0;
    let feeding = plain_bytes(backup, artifact, async |bytes| {
        sent += bytes.len() as u64;
        observer.observe(&Event::Progress {
            artifact: artifact.name.to_string(),
            bytes: sent,
        });
        if sender.send(bytes).await.is_err() {
            gave_up = true;
            return Err(Error::failed("the files are not written any more"));
        }
        Ok(())
    });
    let sent_all = context.unless_cancelled(feeding).await;
    drop(sender);
    let written = writing
        .await
        .or_fail(|| "the thread that writes the project's files died")?;
    match sent_all {
        // Whoever gave up says why.
        Err(_) if gave_up && written.is_err() => written,
        outcome => outcome.and(written),
    }
}

fn write(folder: &Path, pieces: Intake) -> Result<(TreeFacts, Vec<PathBuf>)> {
    let root = open_root(folder)?;
    let owners = match rustix::process::geteuid().is_root() {
        true => Owners::Recorded,
        false => Owners::Ours,
    };
    let facts = extract_as(&mut Reader::new(pieces), &root, owners)?;
    let mut paths = Paths(Vec::new());
    let Irregular { .. } = scan(&root, Scan::default(), &mut paths)?;
    Ok((facts, paths.0))
}

/// The paths of a tree's files and links.
struct Paths(Vec<PathBuf>);

impl Visitor for Paths {
    fn entry(&mut self, entry: &Entry, _: Option<&mut Content<'_>>) -> Result<()> {
        if !matches!(entry.kind, Kind::Directory) {
            let path = OsString::from_vec(entry.path.clone());
            self.0.push(PathBuf::from(path));
        }
        Ok(())
    }
}
