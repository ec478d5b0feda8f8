//! The raw local writer: the one place where the files of a repository are made.
//!
//! `object_store`'s own local writer makes files that everyone can read, offers create-if-absent
//! through hard links only, and lists through symbolic links; a repository wants none of these.
//! So writing and listing are done here, synchronously, and every reader goes through
//! [`ObjectStore`](object_store::ObjectStore).

use super::layout::is_staging;
use crate::error::{Error, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A directory that is a repository or becomes one.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
}

/// Something that stands in a folder.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Its key, relative to the folder that was listed.
    pub key: String,
    /// Whether it is a folder; links to one are not.
    pub is_folder: bool,
    /// Bytes.
    pub size: u64,
    /// When it was last written, by the clock of the file system.
    pub modified: SystemTime,
    /// What changes with the content, where the store tells it.
    pub version: Option<String>,
}

/// Whether a key was free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// It was, and holds the new object now.
    Created,
    /// It was not, and holds what it held.
    Existed,
}

/// What failed on a path of the local disk, with a hint where the disk is full.
pub(super) fn io_error(doing: &str, path: &Path, error: io::Error) -> Error {
    let full = matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    );
    let failed = Error::failed(format!("cannot {doing} {}", path.display())).caused_by(error);
    if full {
        failed.hint("make room on that disk, or choose another repository")
    } else {
        failed
    }
}

/// Makes the name of a file or folder in `folder` survive a power cut.
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| io_error("sync the directory", folder, error))
}

/// Makes one folder that only its owner can enter, whatever the umask.
fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

impl Folder {
    /// The folder at `root`, which need not exist.
    pub(super) fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The path of the folder itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a key. Keys are checked where they come from: layout makes them or checks them.
    pub(super) fn path(&self, key: &str) -> PathBuf {
        if key.is_empty() {
            return self.root.clone();
        }
        self.root.join(key)
    }

    /// Makes the root and what is missing above it.
    pub(super) fn make_root(&self) -> Result<()> {
        let mut missing: Vec<&Path> = Vec::new();
        let mut path = self.root.as_path();
        while !path.as_os_str().is_empty() && !path.exists() {
            missing.push(path);
            match path.parent() {
                Some(parent) => path = parent,
                None => break,
            }
        }
        for path in missing.into_iter().rev() {
            make_folder(path).map_err(|error| io_error("create the directory", path, error))?;
            sync_parent(path)?;
        }
        Ok(())
    }

    /// Makes the folder `key` and what is missing between it and the root, which has to exist: a
    /// disk that was unmounted must not get a second repository below its mount point.
    pub(super) fn make_folders(&self, key: &str) -> Result<()> {
        let mut path = self.root.clone();
        for segment in key.split('/').filter(|segment| !segment.is_empty()) {
            path.push(segment);
            match make_folder(&path) {
                Ok(()) => sync_parent(&path)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    refuse_link(&path)?;
                }
                Err(error) => return Err(io_error("create the directory", &path, error)),
            }
        }
        Ok(())
    }

    /// Makes the folder `key` itself, which must not exist yet; `false` where it does.
    pub(super) fn make_new_folder(&self, key: &str) -> Result<bool> {
        if let Some((above, _)) = key.rsplit_once('/') {
            self.make_folders(above)?;
        }
        let path = self.path(key);
        match make_folder(&path) {
            Ok(()) => sync_parent(&path).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(io_error("create the directory", &path, error)),
        }
    }

    /// Writes a small object if its key is free.
    pub(super) fn put_new(&self, key: &str, bytes: &[u8]) -> Result<Published> {
        let mut staged = self.stage(key)?;
        staged.write(bytes)?;
        staged.publish()
    }

    /// Starts an object whose key nobody sees before it is published.
    pub(super) fn stage(&self, key: &str) -> Result<Staged> {
        if let Some((above, _)) = key.rsplit_once('/') {
            self.make_folders(above)?;
        }
        let target = self.path(key);
        for number in 1..=100_u32 {
            let mut name = target.clone().into_os_string();
            name.push(format!("#{number}"));
            let path = PathBuf::from(name);
            let opened = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match opened {
                Ok(file) => {
                    let staged = Staged {
                        file,
                        path,
                        target,
                        published: false,
                    };
                    staged
                        .file
                        .set_permissions(Permissions::from_mode(0o600))
                        .map_err(|error| io_error("protect", &staged.path, error))?;
                    return Ok(staged);
                }
                // Left by a writer that was killed; the sweep removes it once it is a day old.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error("create", &path, error)),
            }
        }
        Err(Error::failed(format!(
            "cannot create {}: a hundred unfinished files stand in its way",
            target.display()
        )))
    }

    /// What stands directly in the folder `key`, unfinished files included; nothing where there is
    /// no such folder.
    ///
    /// # Errors
    /// Damaged where the folder itself is a symbolic link: it would lead out of the repository.
    pub(super) fn list(&self, key: &str) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        self.walk(key, "", false, &mut found)?;
        Ok(found)
    }

    /// What stands anywhere below the folder `key`, folders and unfinished files included.
    ///
    /// # Errors
    /// As [`Folder::list`], and where a link or another special file stands anywhere below.
    pub(super) fn tree(&self, key: &str) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        self.walk(key, "", true, &mut found)?;
        Ok(found)
    }

    fn walk(&self, key: &str, below: &str, deep: bool, found: &mut Vec<Found>) -> Result<()> {
        // Joining an empty name would end the path in a slash, which looks through a link.
        let mut folder = self.path(key);
        if !below.is_empty() {
            folder.push(below);
        }
        match fs::symlink_metadata(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Ok(metadata) if metadata.is_symlink() && folder != self.root => {
                return Err(special(&folder));
            }
            _ => {}
        }
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error("list", &folder, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| io_error("list", &folder, error))?;
            let path = entry.path();
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed between the listing and the look at it.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(io_error("look at", &path, error)),
            };
            // Names that are not Unicode are none of this format's: shown, they match nothing.
            let name = entry.file_name().to_string_lossy().into_owned();
            let below = if below.is_empty() {
                name
            } else {
                format!("{below}/{name}")
            };
            // Beside backups a link is shown, and refused by whoever opens it; within one it would
            // lead out of the repository.
            if deep && !metadata.is_dir() && !metadata.is_file() {
                return Err(special(&path));
            }
            found.push(Found {
                key: below.clone(),
                is_folder: metadata.is_dir(),
                size: metadata.len(),
                modified: metadata
                    .modified()
                    .map_err(|error| io_error("look at", &path, error))?,
                version: None,
            });
            if deep && metadata.is_dir() {
                self.walk(key, &below, deep, found)?;
            }
        }
        Ok(())
    }

    /// Refuses a key whose file is a symbolic link or no file at all; `false` where it is missing.
    pub(super) fn check_file(&self, key: &str) -> Result<bool> {
        let path = self.path(key);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(true),
            Ok(_) => Err(special(&path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("look at", &path, error)),
        }
    }

    /// A small file, whole; `None` where there is none.
    ///
    /// # Errors
    /// Damaged where it is longer than `limit` bytes, or not a regular file.
    pub(super) fn read(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        if !self.check_file(key)? {
            return Ok(None);
        }
        let path = self.path(key);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path, error)),
            Ok(_) if bytes.len() as u64 > limit => Err(Error::damaged(format!(
                "{key}: more bytes than such an object has"
            ))),
            Ok(_) => Ok(Some(bytes)),
        }
    }

    /// Removes a file and makes that last; nothing where it is missing.
    pub(super) fn remove(&self, key: &str) -> Result<()> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Ok(()) => sync_parent(&path),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("remove", &path, error)),
        }
    }

    /// Removes a folder and all below it, never following links; nothing where it is missing.
    pub(super) fn remove_tree(&self, key: &str) -> Result<()> {
        let path = self.path(key);
        match fs::remove_dir_all(&path) {
            Ok(()) => sync_parent(&path),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("remove", &path, error)),
        }
    }

    /// Removes a folder if nothing is in it.
    pub(super) fn remove_if_empty(&self, key: &str) {
        // Another file in it is the usual reason to fail, and any other reason costs nothing.
        let _ = fs::remove_dir(self.path(key));
    }
}

fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

fn refuse_link(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(special(path)),
        Err(error) => Err(io_error("look at", path, error)),
    }
}

fn special(path: &Path) -> Error {
    Error::damaged(format!(
        "{} is a symbolic link or a special file, which no repository holds",
        path.display()
    ))
}

/// An object on its way: on disk under a name that listings hide, not yet under its own.
#[derive(Debug)]
pub(super) struct Staged {
    file: File,
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Staged {
    /// Adds bytes at the end.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| io_error("write", &self.target, error))
    }

    /// File, fsync, rename, directory fsync: after this the object is there and stays there.
    pub(super) fn publish(mut self) -> Result<Published> {
        self.file
            .sync_all()
            .map_err(|error| io_error("write", &self.target, error))?;
        let published = rename_new(&self.path, &self.target)?;
        self.published = published == Published::Created;
        if self.published
            && let Err(error) = sync_parent(&self.target)
        {
            // A name that a power cut may undo must not count as written.
            let _ = fs::remove_file(&self.target);
            return Err(error);
        }
        Ok(published)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.published {
            // The error that led here matters more; what stays is swept after a day.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Renames unless `to` exists. Where the file system cannot (NFS, for one), a hard link does it.
fn rename_new(from: &Path, to: &Path) -> Result<Published> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Published::Created),
        Err(Errno::EXIST) => Ok(Published::Existed),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_new(from, to),
        Err(error) => Err(io_error("write", to, error.into())),
    }
}

fn link_new(from: &Path, to: &Path) -> Result<Published> {
    match fs::hard_link(from, to) {
        Ok(()) => {
            fs::remove_file(from).map_err(|error| io_error("remove", from, error))?;
            Ok(Published::Created)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Published::Existed),
        Err(error) => Err(io_error("write", to, error).hint(
            "that file system can neither rename without replacing nor link: choose another",
        )),
    }
}

/// Whether the last segment of a key is that of an unfinished file.
pub(super) fn is_unfinished(key: &str) -> bool {
    is_staging(key.rsplit('/').next().unwrap_or(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_serves_where_a_rename_cannot_refuse() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a#1"), dir.path().join("a"));
        fs::write(&from, "1").unwrap();
        assert_eq!(link_new(&from, &to).unwrap(), Published::Created);
        assert!(!from.exists());
        fs::write(&from, "2").unwrap();
        assert_eq!(link_new(&from, &to).unwrap(), Published::Existed);
        assert_eq!(fs::read_to_string(&to).unwrap(), "1");
    }

    #[test]
    fn a_key_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        assert_eq!(folder.put_new("a/b", b"1").unwrap(), Published::Created);
        assert_eq!(folder.put_new("a/b", b"2").unwrap(), Published::Existed);
        assert_eq!(fs::read(folder.path("a/b")).unwrap(), b"1");
        assert_eq!(
            folder.tree("a").unwrap().len(),
            1,
            "the staging file stayed"
        );
    }
}
