//! Writes an archive, entry by entry.

use super::acl;
use super::entry::{Entry, Kind, Segment, shown};
use super::pax::{self, Records};
use super::ustar::{BLOCK, Header, LARGEST, LARGEST_ID, LONGEST_NAME};
use crate::error::{Error, OrFail, Result};
use std::io::Write;

/// Writes an archive into `W`. Each file's data follows its entry: exactly the bytes of its segments.
pub struct Writer<W> {
    sink: W,
    /// Bytes of data that the present entry still gets.
    owed: u64,
    /// Bytes after them, up to a whole block.
    padding: usize,
    written: u64,
}

impl<W: Write> Writer<W> {
    /// An archive with nothing in it yet.
    pub fn new(sink: W) -> Self {
        Self {
            sink,
            owed: 0,
            padding: 0,
            written: 0,
        }
    }

    /// Begins an entry. The data of the one before must be complete.
    pub fn begin(&mut self, entry: &Entry) -> Result<()> {
        self.check_complete()?;
        let mut records = Records::default();
        let mut header = Header {
            mode: entry.mode & 0o7777,
            uid: number(&mut records, b"uid", entry.uid),
            gid: number(&mut records, b"gid", entry.gid),
            mtime: time(&mut records, entry),
            ..Header::default()
        };
        let mut path = [b"./", &entry.path[..]].concat();
        let mut map = Vec::new();
        match &entry.kind {
            Kind::Directory => {
                header.typeflag = b'5';
                if !entry.path.is_empty() {
                    path.push(b'/');
                }
            }
            Kind::File { size, segments } => {
                header.typeflag = b'0';
                self.owed = *size;
                if let Some(segments) = segments {
                    self.owed = segments.iter().map(|segment| segment.length).sum();
                    map = sparse_map(segments, *size);
                    sparse(&mut records, &path, *size);
                    path = [b"./GNUSparseFile.0/", last_part(&entry.path)].concat();
                    // The true name is in a record: this one is for readers that know no sparse files.
                    path.truncate(LONGEST_NAME);
                    path.retain(u8::is_ascii);
                }
                header.size = self.owed + map.len() as u64;
            }
            Kind::HardLink { target } => {
                header.typeflag = b'1';
                header.linkname = name(&mut records, b"linkpath", &[b"./", &target[..]].concat());
            }
            Kind::Symlink { target } => {
                header.typeflag = b'2';
                header.linkname = name(&mut records, b"linkpath", target);
            }
            Kind::Fifo => header.typeflag = b'6',
        }
        header.name = name(&mut records, b"path", &path);
        if header.size > LARGEST {
            records.push(b"size", header.size.to_string().as_bytes());
        }
        attributes(&mut records, entry)?;
        if !records.is_empty() {
            self.extended(&records, &entry.path)?;
        }
        let padded = header.size % BLOCK as u64;
        self.padding = usize::try_from((BLOCK as u64 - padded) % BLOCK as u64).unwrap_or(0);
        self.put(&header.encode())?;
        self.put(&map)?;
        self.pad_if_complete()
    }

    /// The next bytes of the present entry's data.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(owed) = self.owed.checked_sub(bytes.len() as u64) else {
            return Err(Error::failed(
                "more data than the archive's entry announced",
            ));
        };
        self.owed = owed;
        self.put(bytes)?;
        self.pad_if_complete()
    }

    /// How many bytes the archive has until now.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Ends the archive and gives back where it went, and how long it is.
    pub fn finish(mut self) -> Result<(W, u64)> {
        self.check_complete()?;
        self.put(&[0; 2 * BLOCK])?;
        Ok((self.sink, self.written))
    }

    fn check_complete(&self) -> Result<()> {
        match self.owed {
            0 => Ok(()),
            owed => Err(Error::failed(format!(
                "an entry of the archive lacks {owed} bytes of its data"
            ))),
        }
    }

    /// An entry of extended records before the one that they belong to.
    fn extended(&mut self, records: &Records, path: &[u8]) -> Result<()> {
        let mut name = [b"./PaxHeaders/", last_part(path)].concat();
        name.retain(u8::is_ascii);
        name.truncate(LONGEST_NAME);
        let header = Header {
            name,
            mode: 0o644,
            size: records.bytes().len() as u64,
            typeflag: b'x',
            ..Header::default()
        };
        self.put(&header.encode())?;
        self.put(records.bytes())?;
        let rest = records.bytes().len() % BLOCK;
        self.put(&[0; BLOCK][..(BLOCK - rest) % BLOCK])
    }

    fn pad_if_complete(&mut self) -> Result<()> {
        if self.owed > 0 {
            return Ok(());
        }
        let padding = std::mem::take(&mut self.padding);
        self.put(&[0; BLOCK][..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        self.sink
            .write_all(bytes)
            .or_fail(|| "cannot write the archive")
    }
}

/// A name for the header, and a record where the header cannot hold it.
fn name(records: &mut Records, key: &[u8], name: &[u8]) -> Vec<u8> {
    if name.len() > LONGEST_NAME || !name.is_ascii() {
        records.push(key, name);
    }
    let mut short: Vec<u8> = name.iter().copied().filter(u8::is_ascii).collect();
    short.truncate(LONGEST_NAME);
    short
}

/// A number for the header, and a record where the header cannot hold it.
fn number(records: &mut Records, key: &[u8], id: u32) -> u64 {
    if id > LARGEST_ID {
        records.push(key, id.to_string().as_bytes());
        return 0;
    }
    u64::from(id)
}

/// The seconds for the header, and a record where they are not all.
fn time(records: &mut Records, entry: &Entry) -> u64 {
    let time = entry.mtime;
    let seconds = u64::try_from(time.seconds)
        .ok()
        .filter(|seconds| *seconds <= LARGEST);
    if time.nanoseconds == 0
        && let Some(seconds) = seconds
    {
        return seconds;
    }
    // Before 1970 the decimal fraction counts the other way.
    let text = match (time.seconds, time.nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (seconds, nanoseconds) if seconds >= 0 => format!("{seconds}.{nanoseconds:09}"),
        (seconds, nanoseconds) => {
            format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
        }
    };
    records.push(b"mtime", text.as_bytes());
    seconds.unwrap_or(0)
}

/// The records of a sparse file in GNU's form 1.0, whose map stands before the data.
fn sparse(records: &mut Records, path: &[u8], size: u64) {
    records.push(b"GNU.sparse.major", b"1");
    records.push(b"GNU.sparse.minor", b"0");
    records.push(b"GNU.sparse.name", path);
    records.push(b"GNU.sparse.realsize", size.to_string().as_bytes());
}

/// The map: how many segments, then the offset and the length of each, a number a line, padded to whole blocks.
///
/// A hole at the end is followed by a segment of no length, as GNU tar has it: it takes a file to end where its last
/// segment does, whatever size the records say (measured).
fn sparse_map(segments: &[Segment], size: u64) -> Vec<u8> {
    let end = segments.last().map_or(0, |last| last.offset + last.length);
    let close = (end < size).then_some(Segment {
        offset: size,
        length: 0,
    });
    let count = segments.len() + usize::from(close.is_some());
    let mut map = format!("{count}\n").into_bytes();
    for segment in segments.iter().chain(&close) {
        map.extend_from_slice(format!("{}\n{}\n", segment.offset, segment.length).as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

fn attributes(records: &mut Records, entry: &Entry) -> Result<()> {
    for (name, value) in &entry.attributes {
        let key = match name.as_slice() {
            acl::ACCESS => "SCHILY.acl.access",
            acl::DEFAULT => "SCHILY.acl.default",
            _ => {
                records.push(
                    &[b"SCHILY.xattr.", &pax::encode_name(name)[..]].concat(),
                    value,
                );
                continue;
            }
        };
        let text = acl::to_text(value).ok_or_else(|| {
            Error::failed(format!(
                "the access control list of {} cannot be read",
                shown(&entry.path)
            ))
        })?;
        records.push(key.as_bytes(), text.as_bytes());
    }
    Ok(())
}

fn last_part(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
