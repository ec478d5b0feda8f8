//! Who uses a repository right now: writers and readers share it, pruning has it alone.
//!
//! On a disk the lock is the kernel's on an open file, so it ends with its process however that ends:
//! there is nothing stale to take over. In a bucket it is a [`Hold`].

use super::bucket::Hold;
use super::folder::{Folder, io_error};
use super::layout::{LOCK, MARKER};
use crate::error::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

/// How often, and how many times, a writer or reader asks again while a prune is at work. A prune
/// holds the repository for as long as removing files takes: seconds.
const PAUSE: Duration = Duration::from_millis(100);
const ATTEMPTS: u32 = 300;

/// A hold on a repository; dropping it lets go.
#[derive(Debug)]
pub(super) enum Lease {
    /// The kernel's lock on a file; `None` on a medium that cannot be written, where nobody can prune either.
    Locked {
        /// The lock is this file's, and ends with it.
        _file: Option<File>,
    },
    /// An object in a bucket. It is let go of when the process is done with the store.
    Held(Arc<Hold>),
}

impl Lease {
    /// A hold that keeps pruning away, for whoever writes a backup or reads one.
    ///
    /// # Errors
    /// Busy where a prune goes on for half a minute.
    pub(super) async fn shared(folder: &Folder) -> Result<Self> {
        let Some(file) = open(folder)? else {
            return Ok(Self::Locked { _file: None });
        };
        for _ in 0..ATTEMPTS {
            match file.try_lock_shared() {
                Ok(()) => return Ok(Self::Locked { _file: Some(file) }),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                    // A file system without locks has none for pruning either: that refuses.
                    return Ok(Self::Locked { _file: None });
                }
                Err(TryLockError::Error(error)) => return Err(failed(folder, error)),
            }
        }
        Err(
            Error::busy(format!("{} is being pruned", folder.root().display()))
                .hint("try again when the prune has ended"),
        )
    }

    /// A hold that keeps everyone else away, for whoever removes backups.
    ///
    /// # Errors
    /// Busy where a backup is being written or read.
    pub(super) fn exclusive(folder: &Folder) -> Result<Self> {
        let file = open(folder)?.ok_or_else(|| {
            Error::failed(format!("{} cannot be written", folder.root().display()))
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self::Locked { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(Error::busy(format!(
                "a backup in {} is being written, read or removed",
                folder.root().display()
            ))
            .hint("try again when that run has ended")),
            Err(TryLockError::Error(error)) => Err(failed(folder, error)),
        }
    }
}

impl Lease {
    /// That it still keeps others away.
    ///
    /// # Errors
    /// Failed where the store could not be told for so long that others take this process for dead.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Held(hold) if !hold.is_alive() => Err(Error::failed(
                "the repository's lock could not be renewed in time",
            )
            .hint("is the store reachable? Run it again")),
            _ => Ok(()),
        }
    }
}

fn failed(folder: &Folder, error: io::Error) -> Error {
    io_error("lock", &folder.path(LOCK), error)
}

/// The lock file, made where it is missing; `None` where it cannot be.
fn open(folder: &Folder) -> Result<Option<File>> {
    // Nothing may be made in the empty mount point of a disk that has gone since it was opened.
    if !folder.check_file(MARKER)? {
        return Err(Error::not_found(format!(
            "the repository at {} has gone",
            folder.root().display()
        ))
        .hint("is the disk mounted?"));
    }
    let path = folder.path(LOCK);
    folder.check_file(LOCK)?;
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
            ) =>
        {
            // Someone who may only read still keeps those away who share this file.
            Ok(File::open(&path).ok())
        }
        Err(error) => Err(failed(folder, error)),
    }
}
