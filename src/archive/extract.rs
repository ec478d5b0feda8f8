//! Writes an archive's tree to a disk, and never outside of its folder.
//!
//! Every step is from a folder that is held open to one name in it, which has no `/` and is not `..`, and no
//! symbolic link is followed: an archive that first makes a link and then writes through it is refused by the
//! kernel. Nothing is overwritten: what is there already, or is named twice, is refused.

use super::acl;
use super::attributes::beside;
use super::digest::{ContentHasher, TreeDigest, TreeFacts};
use super::entry::{Entry, Kind, Segment, Time, shown};
use super::reader::Reader;
use crate::error::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, fchmod, fchown, flistxattr, fremovexattr, fsetxattr, ftruncate, futimens, linkat,
    lsetxattr, mkdirat, mknodat, openat, symlinkat, syncfs, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io::Read;

/// How many bytes are copied at once.
const PIECE: usize = 256 * 1024;

/// Writes what `reader` has below `root`, which must be empty but for what the archive does not name. On the disk
/// when this returns.
///
/// # Errors
/// Damaged where the archive is; failed where the disk does not take it. Then what was written stays, and is of no use.
pub fn extract<R: Read>(reader: &mut Reader<R>, root: &OwnedFd) -> Result<TreeFacts> {
    extract_as(reader, root, Owners::Recorded)
}

/// Whose the things are that an archive brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Those that the archive says; that takes root's rights.
    Recorded,
    /// Whoever runs this. What needs more rights than theirs is left out: other extended attributes than a user's own.
    Ours,
}

impl Owners {
    /// An entry as it is made on the disk.
    fn apply(self, entry: &Entry) -> Entry {
        let mut made = entry.clone();
        if self == Self::Ours {
            made.uid = rustix::process::geteuid().as_raw();
            made.gid = rustix::process::getegid().as_raw();
            let own = |name: &[u8]| name.starts_with(b"user.") || name.starts_with(b"system.");
            made.attributes.retain(|name, _| own(name));
        }
        made
    }
}

/// As [`extract`], and the things are whose `owners` says. The facts are the archive's.
pub fn extract_as<R: Read>(
    reader: &mut Reader<R>,
    root: &OwnedFd,
    owners: Owners,
) -> Result<TreeFacts> {
    // What is made below inherits the root's default list, and none of it is the archive's.
    for name in [c"system.posix_acl_default", c"system.posix_acl_access"] {
        let _ = fremovexattr(root, name);
    }
    let mut extractor = Extractor {
        root,
        open: Vec::new(),
        folders: Vec::new(),
        buffer: vec![0; PIECE],
    };
    let mut digest = TreeDigest::new();
    while let Some(entry) = reader.next_entry()? {
        let content = extractor.entry(&owners.apply(&entry), reader)?;
        digest.add(&entry, content)?;
    }
    extractor.settle_folders()?;
    syncfs(root).map_err(|error| cannot("write", b"", error))?;
    Ok(digest.finish())
}

/// Removes everything below `folder`, and leaves the folder itself.
pub fn clear(folder: &OwnedFd) -> Result<()> {
    names(folder)?
        .iter()
        .try_for_each(|name| remove(folder, name))
}

/// What is in a folder, by name and in no order.
pub fn names(folder: &OwnedFd) -> Result<Vec<CString>> {
    let failed = |error| cannot("list", b"", error);
    let mut names = Vec::new();
    for found in Dir::read_from(folder).map_err(failed)? {
        let found = found.map_err(failed)?;
        let name = found.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes one name of a folder with all that is in it. One that is not there is no error.
pub fn remove(folder: &OwnedFd, name: &CStr) -> Result<()> {
    let failed = |error| cannot("remove", name.to_bytes(), error);
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(failed(error)),
    }
    let inner = open_folder(folder, name).map_err(failed)?;
    clear(&inner)?;
    unlinkat(folder, name, AtFlags::REMOVEDIR).map_err(failed)
}

struct Extractor<'r> {
    root: &'r OwnedFd,
    /// The folders from the root to the present one, with their names.
    open: Vec<(Vec<u8>, OwnedFd)>,
    /// Folders get their owners, modes and times at the end: until then they are written to.
    folders: Vec<Entry>,
    buffer: Vec<u8>,
}

impl Extractor<'_> {
    /// Makes one entry; gives the digest of a file's content.
    fn entry<R: Read>(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<Option<[u8; 32]>> {
        if entry.path.is_empty() {
            self.folders.push(entry.clone());
            return Ok(None);
        }
        let name = self.enter(&entry.path)?;
        let failed = |error| match error {
            Errno::EXIST => refused(&entry.path, "it is there twice"),
            error => cannot("make", &entry.path, error),
        };
        match &entry.kind {
            Kind::Directory => {
                mkdirat(self.folder(), &name, Mode::RWXU).map_err(failed)?;
                self.folders.push(entry.clone());
            }
            Kind::File { size, segments } => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let mode = Mode::RUSR | Mode::WUSR;
                let file = openat(self.folder(), &name, flags, mode).map_err(failed)?;
                let content = match segments {
                    None => self.dense(&file, &entry.path, *size, reader)?,
                    Some(segments) => self.sparse(&file, &entry.path, *size, segments, reader)?,
                };
                settle(&file, entry)?;
                return Ok(Some(content));
            }
            Kind::HardLink { target } => self.link(&entry.path, &name, target)?,
            Kind::Symlink { target } => {
                let target = text(target)?;
                symlinkat(&target, self.folder(), &name).map_err(failed)?;
                self.settle_unopened(entry, &name)?;
            }
            Kind::Fifo => {
                let mode = Mode::RUSR | Mode::WUSR;
                mknodat(self.folder(), &name, FileType::Fifo, mode, 0).map_err(failed)?;
                self.settle_unopened(entry, &name)?;
            }
        }
        Ok(None)
    }

    fn dense<R: Read>(
        &mut self,
        file: &OwnedFd,
        path: &[u8],
        size: u64,
        reader: &mut Reader<R>,
    ) -> Result<[u8; 32]> {
        let mut hasher = ContentHasher::new();
        let mut at = 0;
        while at < size {
            let count = reader.data(&mut self.buffer)?;
            hasher.bytes(&self.buffer[..count]);
            write_at(file, &self.buffer[..count], at)
                .map_err(|error| cannot("write", path, error))?;
            at += count as u64;
        }
        Ok(hasher.finish())
    }

    fn sparse<R: Read>(
        &mut self,
        file: &OwnedFd,
        path: &[u8],
        size: u64,
        segments: &[Segment],
        reader: &mut Reader<R>,
    ) -> Result<[u8; 32]> {
        let failed = |error| cannot("write", path, error);
        let mut hasher = ContentHasher::new();
        let mut at = 0;
        for segment in segments {
            hasher.zeros(segment.offset - at);
            at = segment.offset;
            let end = segment.offset + segment.length;
            while at < end {
                let room = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE);
                let count = reader.data(&mut self.buffer[..room])?;
                hasher.bytes(&self.buffer[..count]);
                write_at(file, &self.buffer[..count], at).map_err(failed)?;
                at += count as u64;
            }
        }
        hasher.zeros(size - at);
        ftruncate(file, size).map_err(failed)?;
        Ok(hasher.finish())
    }

    fn link(&mut self, path: &[u8], name: &CStr, target: &[u8]) -> Result<()> {
        let (folders, last) = split(target);
        let mut folder = None;
        for part in folders {
            let above = folder.as_ref().unwrap_or(self.root);
            let below = open_folder(above, &text(part)?);
            folder = Some(below.map_err(|error| way_blocked(path, error))?);
        }
        let folder = folder.as_ref().unwrap_or(self.root);
        let linked = linkat(folder, &text(last)?, self.folder(), name, AtFlags::empty());
        linked.map_err(|error| match error {
            Errno::EXIST => refused(path, "it is there twice"),
            Errno::NOENT | Errno::PERM => refused(
                path,
                "it is another name of something that does not come before it",
            ),
            error => cannot("make", path, error),
        })
    }

    /// Opens the folder that `path` is in; gives its last part.
    fn enter(&mut self, path: &[u8]) -> Result<CString> {
        let (folders, last) = split(path);
        let shared = self
            .open
            .iter()
            .zip(&folders)
            .take_while(|((name, _), part)| name == *part)
            .count();
        self.open.truncate(shared);
        for part in &folders[shared..] {
            let below = open_folder(self.folder(), &text(part)?);
            let below = below.map_err(|error| way_blocked(path, error))?;
            self.open.push((part.to_vec(), below));
        }
        text(last)
    }

    fn folder(&self) -> &OwnedFd {
        self.open.last().map_or(self.root, |(_, folder)| folder)
    }

    /// Folders, the innermost first.
    fn settle_folders(&mut self) -> Result<()> {
        for entry in std::mem::take(&mut self.folders).iter().rev() {
            if entry.path.is_empty() {
                settle(self.root, entry)?;
                continue;
            }
            let name = self.enter(&entry.path)?;
            let folder = open_folder(self.folder(), &name);
            settle(
                &folder.map_err(|error| way_blocked(&entry.path, error))?,
                entry,
            )?;
        }
        Ok(())
    }

    /// As [`settle`], for what must not be opened, or cannot be.
    fn settle_unopened(&self, entry: &Entry, name: &CStr) -> Result<()> {
        let failed = |error| cannot("give its owner and mode to", &entry.path, error);
        let (owner, group) = owners(entry);
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        chownat(self.folder(), name, owner, group, nofollow).map_err(failed)?;
        let path = beside(self.folder(), name);
        for (attribute, value) in &entry.attributes {
            let attribute = text(attribute)?;
            lsetxattr(&path, &attribute, value, XattrFlags::empty())
                .map_err(|error| attribute_refused(entry, &attribute, error))?;
        }
        if !matches!(entry.kind, Kind::Symlink { .. }) {
            chmodat(
                self.folder(),
                name,
                Mode::from_raw_mode(entry.mode),
                AtFlags::empty(),
            )
            .map_err(failed)?;
        }
        utimensat(self.folder(), name, &times(entry), nofollow).map_err(failed)
    }
}

/// Gives something that is open its owner, attributes, mode and time; in this order, since a change of owner takes
/// set-id bits and capabilities away.
pub fn settle(file: &OwnedFd, entry: &Entry) -> Result<()> {
    let failed = |error| cannot("give its owner and mode to", &entry.path, error);
    let (owner, group) = owners(entry);
    fchown(file, owner, group).map_err(failed)?;
    for (attribute, value) in &entry.attributes {
        let attribute = text(attribute)?;
        fsetxattr(file, &attribute, value, XattrFlags::empty())
            .map_err(|error| attribute_refused(entry, &attribute, error))?;
    }
    fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(failed)?;
    futimens(file, &times(entry)).map_err(failed)
}

/// Takes the attributes away that travel with files.
pub fn strip(file: &OwnedFd) {
    let mut buffer = vec![0; 64 * 1024];
    let Ok(count) = flistxattr(file, &mut buffer[..]) else {
        return;
    };
    for name in buffer[..count].split(|byte| *byte == 0) {
        if name.starts_with(b"user.") || name == acl::ACCESS || name == acl::DEFAULT {
            let _ = fremovexattr(file, name);
        }
    }
}

fn owners(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )
}

fn times(entry: &Entry) -> Timestamps {
    let Time {
        seconds,
        nanoseconds,
    } = entry.mtime;
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// The folders of a path, and its last part.
fn split(path: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let last = parts.pop().unwrap_or_default();
    (parts, last)
}

fn open_folder(folder: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty())
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut at: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = rustix::io::pwrite(file, bytes, at)?;
        bytes = &bytes[count..];
        at += count as u64;
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::damaged("a name of the archive has a NUL in it"))
}

fn way_blocked(path: &[u8], error: Errno) -> Error {
    match error {
        Errno::LOOP | Errno::NOTDIR => {
            refused(path, "the way to it is through something that is no folder")
        }
        Errno::NOENT => refused(path, "its folder does not come before it"),
        error => cannot("make", path, error),
    }
}

fn attribute_refused(entry: &Entry, attribute: &CStr, error: Errno) -> Error {
    let name = shown(attribute.to_bytes());
    let failed = cannot("give the extended attributes to", &entry.path, error);
    match error {
        Errno::OPNOTSUPP => failed.hint(format!("this volume's file system keeps no {name}")),
        _ => failed.hint(format!("it is about {name}")),
    }
}

fn refused(path: &[u8], why: &str) -> Error {
    Error::damaged(format!(
        "the archive's entry {} is refused: {why}",
        shown(path)
    ))
}

fn cannot(what: &str, path: &[u8], error: Errno) -> Error {
    Error::failed(format!("cannot {what} {}", shown(path))).caused_by(error)
}
