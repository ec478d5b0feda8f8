//! Reads a tree from a disk, in the order of an archive.
//!
//! Every step is from a folder that is held open to a name in it, and no symbolic link is followed: whatever
//! happens to the tree meanwhile, nothing outside of it is read, and a path may be longer than the kernel takes.

use super::attributes::{attributes, unopened_attributes};
use super::chosen::Chosen;
use super::entry::{Entry, Kind, Segment, Time, shown};
use crate::error::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, Statx, StatxFlags, openat, readlinkat,
    seek, statx,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};

/// How many bytes of a file are read at once.
const PIECE: usize = 256 * 1024;
/// How deep a tree may be: each level is a folder that is held open.
const DEEPEST: usize = 4000;
/// A file of more parts than this is read as if it had no holes: its parts are kept in memory.
const MOST_SEGMENTS: usize = 1 << 20;

/// What is done with what is found.
pub trait Visitor {
    /// An entry; `content` is there for files, and must be read to its end.
    fn entry(&mut self, entry: &Entry, content: Option<&mut Content<'_>>) -> Result<()>;
}

/// What a scan saw that no archive holds, or that was not still.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Irregular {
    /// Devices and sockets, which are not archived.
    pub skipped: Vec<String>,
    /// What changed, shrank or vanished while it was read.
    pub changed: Vec<String>,
}

/// What a scan shall keep an eye on.
#[derive(Debug, Clone, Copy)]
pub struct Scan {
    /// Refuse the data folder of a running PostgreSQL server: its files at different moments are no backup.
    pub refuse_live_database: bool,
    /// Which names in the root are no part of the tree.
    pub pass_over: fn(&[u8]) -> bool,
}

impl Default for Scan {
    /// Everything, whatever it is.
    fn default() -> Self {
        Self {
            refuse_live_database: false,
            pass_over: |_| false,
        }
    }
}

/// Reads the tree below `root`, folder by folder, each one's names in the order of their bytes.
///
/// # Errors
/// Where something cannot be read. What vanishes or changes meanwhile is no error, it is in the report.
pub fn scan(root: &OwnedFd, options: Scan, visitor: &mut dyn Visitor) -> Result<Irregular> {
    begin(root, options, None, visitor)
}

/// As [`scan`], of `chosen` names and of the folders that they are in. Nothing else is looked at, folders are not listed.
pub fn scan_chosen(
    root: &OwnedFd,
    chosen: &Chosen,
    visitor: &mut dyn Visitor,
) -> Result<Irregular> {
    begin(root, Scan::default(), Some(chosen), visitor)
}

fn begin(
    root: &OwnedFd,
    options: Scan,
    chosen: Option<&Chosen>,
    visitor: &mut dyn Visitor,
) -> Result<Irregular> {
    let mut scanner = Scanner {
        options,
        chosen,
        visitor,
        irregular: Irregular::default(),
        names: HashMap::new(),
        buffer: vec![0; PIECE],
        path: Vec::new(),
    };
    let stat = stat(root, c"").map_err(|error| cannot("read", b"", error))?;
    scanner.directory(root, &stat, 0)?;
    Ok(scanner.irregular)
}

struct Scanner<'v> {
    options: Scan,
    chosen: Option<&'v Chosen>,
    visitor: &'v mut dyn Visitor,
    irregular: Irregular,
    /// The first names of files that have several, by device and inode.
    names: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    path: Vec<u8>,
}

impl Scanner<'_> {
    fn directory(&mut self, folder: &OwnedFd, stat: &Statx, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::failed(format!(
                "{} is more than {DEEPEST} folders deep",
                shown(&self.path)
            )));
        }
        let attributes = attributes(folder).map_err(|error| cannot("read", &self.path, error))?;
        let entry = self.made(stat, Kind::Directory, attributes);
        self.visitor.entry(&entry, None)?;
        let mut names = match self.chosen {
            Some(chosen) => chosen.names(&self.path),
            None => self.list(folder)?,
        };
        if depth == 0 {
            names.retain(|(name, _)| !(self.options.pass_over)(name.to_bytes()));
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let has = |name: &CStr| {
            names
                .binary_search_by(|known| known.0.as_c_str().cmp(name))
                .is_ok()
        };
        if self.options.refuse_live_database && has(c"PG_VERSION") && has(c"postmaster.pid") {
            return Err(Error::failed(format!(
                "{} is the data folder of a PostgreSQL server that runs: its files, read one after another, are no \
                 backup",
                shown(&self.path)
            ))
            .hint("back the database up instead, or stop the server meanwhile: --quiesce stop"));
        }
        let length = self.path.len();
        for (name, kind) in names {
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            self.thing(folder, &name, kind, depth)?;
            self.path.truncate(length);
        }
        // Names that came or went while the folder was read.
        match statx_of(folder) {
            Ok(after) if same(stat, &after) => {}
            _ => self.changed(),
        }
        Ok(())
    }

    fn list(&mut self, folder: &OwnedFd) -> Result<Vec<(CString, FileType)>> {
        let failed = |error| cannot("list", &self.path, error);
        let mut names = Vec::new();
        for found in Dir::read_from(folder).map_err(failed)? {
            let found = found.map_err(failed)?;
            let name = found.file_name();
            if name != c"." && name != c".." {
                names.push((name.to_owned(), found.file_type()));
            }
        }
        Ok(names)
    }

    /// One name in a folder.
    fn thing(&mut self, folder: &OwnedFd, name: &CStr, hint: FileType, depth: usize) -> Result<()> {
        let result = match hint {
            FileType::RegularFile | FileType::Directory => self.open(folder, name, hint, depth),
            _ => self.other(folder, name, depth),
        };
        match result {
            Err(Trouble::Gone) => {
                self.changed();
                Ok(())
            }
            Err(Trouble::Other) => match self.other(folder, name, depth) {
                Err(Trouble::Gone | Trouble::Other) => {
                    self.changed();
                    Ok(())
                }
                Err(Trouble::Failed(error)) => Err(error),
                Ok(()) => Ok(()),
            },
            Err(Trouble::Failed(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    /// A file or a folder, which are opened first and looked at then: nothing can be put in their place between.
    fn open(
        &mut self,
        folder: &OwnedFd,
        name: &CStr,
        hint: FileType,
        depth: usize,
    ) -> Result<(), Trouble> {
        let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        if hint == FileType::Directory {
            flags |= OFlags::DIRECTORY;
        }
        let opened = openat(folder, name, flags, Mode::empty());
        let opened = opened.map_err(|error| self.trouble("open", error))?;
        let stat = statx_of(&opened).map_err(|error| self.trouble("read", error))?;
        match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => Ok(self.directory(&opened, &stat, depth + 1)?),
            FileType::RegularFile => self.file(&opened, &stat),
            _ => Err(Trouble::Other),
        }
    }

    fn file(&mut self, file: &OwnedFd, stat: &Statx) -> Result<(), Trouble> {
        if let Some(target) = self.known_name(stat) {
            let entry = self.made(stat, Kind::HardLink { target }, BTreeMap::new());
            return Ok(self.visitor.entry(&entry, None)?);
        }
        let attributes = attributes(file).map_err(|error| self.trouble("read", error))?;
        let size = stat.stx_size;
        let has_holes = stat.stx_blocks.saturating_mul(512) < size;
        let segments = match has_holes {
            true => segments(file, size).map_err(|error| self.trouble("read", error))?,
            false => None,
        };
        let kind = Kind::File {
            size,
            segments: segments.clone(),
        };
        self.remember(stat);
        let entry = self.made(stat, kind, attributes);
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut content = Content {
            file,
            buffer: &mut buffer,
            size,
            at: 0,
            segments: segments.unwrap_or_else(|| whole(size)).into(),
            short: false,
            path: &self.path,
        };
        let visited = self.visitor.entry(&entry, Some(&mut content));
        let short = content.short;
        self.buffer = buffer;
        visited?;
        let after = statx_of(file).map_err(|error| self.trouble("read", error))?;
        if short || !same(stat, &after) {
            self.changed();
        }
        Ok(())
    }

    /// What is not opened: links, pipes, and what is left out.
    fn other(&mut self, folder: &OwnedFd, name: &CStr, depth: usize) -> Result<(), Trouble> {
        let stat = stat(folder, name).map_err(|error| self.trouble("read", error))?;
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            kind @ (FileType::RegularFile | FileType::Directory) => {
                return self.open(folder, name, kind, depth);
            }
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new());
                let target = target.map_err(|error| self.trouble("read", error))?;
                Kind::Symlink {
                    target: target.into_bytes(),
                }
            }
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => {
                self.skip("a socket");
                return Ok(());
            }
            _ => {
                self.skip("a device");
                return Ok(());
            }
        };
        let kind = match self.known_name(&stat) {
            Some(target) => Kind::HardLink { target },
            None => kind,
        };
        let attributes = match kind {
            Kind::HardLink { .. } => BTreeMap::new(),
            _ => unopened_attributes(folder, name).map_err(|error| self.trouble("read", error))?,
        };
        if !matches!(kind, Kind::HardLink { .. }) {
            self.remember(&stat);
        }
        let entry = self.made(&stat, kind, attributes);
        Ok(self.visitor.entry(&entry, None)?)
    }

    fn made(&self, stat: &Statx, kind: Kind, attributes: BTreeMap<Vec<u8>, Vec<u8>>) -> Entry {
        made(stat, &self.path, kind, attributes)
    }

    /// Where this thing was met before, under another name.
    fn known_name(&self, stat: &Statx) -> Option<Vec<u8>> {
        if stat.stx_nlink < 2 {
            return None;
        }
        self.names.get(&identity(stat)).cloned()
    }

    /// Takes the present path for the first name of a thing that has several. Only when it is going to be in the
    /// archive: its further names are links to it.
    fn remember(&mut self, stat: &Statx) {
        if stat.stx_nlink > 1 {
            self.names.insert(identity(stat), self.path.clone());
        }
    }

    fn skip(&mut self, what: &str) {
        self.irregular
            .skipped
            .push(format!("{} ({what})", shown(&self.path)));
    }

    fn changed(&mut self) {
        self.irregular.changed.push(shown(&self.path));
    }

    fn trouble(&self, what: &str, error: Errno) -> Trouble {
        match error {
            Errno::NOENT | Errno::STALE => Trouble::Gone,
            // A link or a device that has taken the place of what was listed.
            Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::NODEV => Trouble::Other,
            error => Trouble::Failed(cannot(what, &self.path, error)),
        }
    }
}

/// What tells one thing from another, whatever their names are: device and inode.
fn identity(stat: &Statx) -> (u64, u64) {
    let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
    (device, stat.stx_ino)
}

fn made(stat: &Statx, path: &[u8], kind: Kind, attributes: BTreeMap<Vec<u8>, Vec<u8>>) -> Entry {
    Entry {
        path: path.to_vec(),
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: Time {
            seconds: stat.stx_mtime.tv_sec,
            nanoseconds: stat.stx_mtime.tv_nsec,
        },
        attributes,
    }
}

/// Why a name could not be read.
enum Trouble {
    /// It is gone.
    Gone,
    /// It is something else than it was a moment ago.
    Other,
    Failed(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The content of a file: its data and its holes, in order, exactly as long as the file was when it was opened.
pub struct Content<'a> {
    file: &'a OwnedFd,
    buffer: &'a mut Vec<u8>,
    size: u64,
    at: u64,
    segments: std::collections::VecDeque<Segment>,
    short: bool,
    path: &'a [u8],
}

/// A part of a file.
pub enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// So many zeros that take no room.
    Hole(u64),
}

impl Content<'_> {
    /// The next piece; `None` at the end.
    pub fn next_piece(&mut self) -> Result<Option<Piece<'_>>> {
        let Some(segment) = self.segments.front_mut() else {
            let hole = self.size - self.at;
            self.at = self.size;
            return Ok((hole > 0).then_some(Piece::Hole(hole)));
        };
        if self.at < segment.offset {
            let hole = segment.offset - self.at;
            self.at = segment.offset;
            return Ok(Some(Piece::Hole(hole)));
        }
        let wanted = usize::try_from(segment.length)
            .unwrap_or(usize::MAX)
            .min(self.buffer.len());
        let buffer = &mut self.buffer[..wanted];
        let count = match self.short {
            true => 0,
            false => rustix::io::pread(self.file, &mut *buffer, self.at)
                .map_err(|error| cannot("read", self.path, error))?,
        };
        let count = match count {
            // It was longer when it was opened: the archive's entry is, too.
            0 => {
                self.short = true;
                buffer.fill(0);
                wanted
            }
            count => count,
        };
        self.at += count as u64;
        segment.offset += count as u64;
        segment.length -= count as u64;
        if segment.length == 0 {
            self.segments.pop_front();
        }
        Ok(Some(Piece::Data(&self.buffer[..count])))
    }
}

fn whole(size: u64) -> Vec<Segment> {
    match size {
        0 => Vec::new(),
        length => vec![Segment { offset: 0, length }],
    }
}

/// Where a file has data; `None` where that is everywhere, or in too many places.
fn segments(file: &OwnedFd, size: u64) -> Result<Option<Vec<Segment>>, Errno> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let offset = match seek(file, SeekFrom::Data(at)) {
            Ok(offset) if offset < size => offset,
            // No data behind this.
            Ok(_) | Err(Errno::NXIO) => break,
            // Not every file system can say.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error),
        };
        let end = seek(file, SeekFrom::Hole(offset))?.min(size);
        if found.len() == MOST_SEGMENTS {
            return Ok(None);
        }
        found.push(Segment {
            offset,
            length: end - offset,
        });
        at = end;
    }
    Ok((found != whole(size)).then_some(found))
}

fn statx_of(file: &OwnedFd) -> Result<Statx, Errno> {
    stat(file, c"")
}

fn stat(folder: &OwnedFd, name: &CStr) -> Result<Statx, Errno> {
    let mut flags = AtFlags::SYMLINK_NOFOLLOW;
    if name.is_empty() {
        flags |= AtFlags::EMPTY_PATH;
    }
    statx(folder, name, flags, StatxFlags::BASIC_STATS)
}

/// Whether nothing was changed between two looks.
fn same(before: &Statx, after: &Statx) -> bool {
    let look = |stat: &Statx| {
        (
            stat.stx_size,
            (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        )
    };
    look(before) == look(after)
}

fn cannot(what: &str, path: &[u8], error: Errno) -> Error {
    Error::failed(format!("cannot {what} {}", shown(path))).caused_by(error)
}

/// What an open folder is itself, as a tree's root.
pub fn own_entry(folder: &OwnedFd) -> Result<Entry> {
    let failed = |error| cannot("read", b"", error);
    let stat = statx_of(folder).map_err(failed)?;
    let attributes = attributes(folder).map_err(failed)?;
    Ok(made(&stat, &[], Kind::Directory, attributes))
}

/// Opens a folder as a tree's root.
pub fn open_root(path: &std::path::Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
        .map_err(|error| Error::failed(format!("cannot open {}", path.display())).caused_by(error))
}
