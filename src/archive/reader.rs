//! Reads an archive, entry by entry, and believes nothing of it.

use super::acl;
use super::entry::{Entry, Kind, Segment, Time, shown};
use super::pax;
use super::ustar::{BLOCK, Header, NoHeader};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};

/// The most that the extended records of one entry may hold, in bytes: names are short, and the kernel takes no
/// more than 64 KiB of names and of each value.
const LONGEST_RECORDS: u64 = 16 << 20;
/// The most segments that a sparse file may have: they are kept in memory.
const MOST_SEGMENTS: u64 = 4 << 20;

/// Reads an archive from `R`. After each file's entry, its data is read with [`data`](Self::data): the bytes of
/// its segments, in order. What is not read is passed over.
pub struct Reader<R> {
    source: R,
    /// Bytes of data of the present entry that were not read yet.
    left: u64,
    padding: usize,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// An archive that begins at the source's next byte.
    pub fn new(source: R) -> Self {
        Self {
            source,
            left: 0,
            padding: 0,
            ended: false,
        }
    }

    /// The next entry; `None` at the archive's proper end. Its path is relative and has no `..`, a hard link's too.
    ///
    /// # Errors
    /// Damaged where something is not as an archive should be, names lead out of the tree, or a kind of entry is
    /// not one of a volume: nothing is passed over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.pass_over()?;
        if self.ended {
            return Ok(None);
        }
        let mut records = Vec::new();
        loop {
            let header = match Header::decode(&self.block()?) {
                Ok(header) => header,
                Err(NoHeader::Zeros) => return self.end().map(|()| None),
                Err(NoHeader::Bad(why)) => {
                    return Err(damaged(format!("a header of the archive is bad: {why}")));
                }
            };
            match header.typeflag {
                b'x' => records = self.extended(header.size)?,
                // Records for everything that follows: what GNU tar writes there says nothing about files.
                b'g' => drop(self.extended(header.size)?),
                _ => return self.entry(&header, &records).map(Some),
            }
        }
    }

    /// The next bytes of the present entry's data; none at its end.
    pub fn data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let wanted = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.read(&mut buffer[..wanted])?;
        self.left -= count as u64;
        if self.left == 0 {
            let padding = std::mem::take(&mut self.padding);
            self.exact(&mut [0; BLOCK][..padding])?;
        }
        Ok(count)
    }

    fn pass_over(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        while self.left > 0 {
            self.data(&mut buffer)?;
        }
        Ok(())
    }

    /// The data of an entry of extended records.
    fn extended(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > LONGEST_RECORDS {
            return Err(damaged(format!(
                "an entry's extended records have {size} bytes"
            )));
        }
        self.begin_data(size);
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.data(&mut bytes[filled..])?;
        }
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, records: &[u8]) -> Result<Entry> {
        let parsed = pax::parse(records)
            .ok_or_else(|| damaged("an entry's extended records cannot be read".to_owned()))?;
        let extended = Extended::of(&parsed)?;
        let name = extended.path.unwrap_or(&header.name);
        let path = safe_path(extended.sparse_name.unwrap_or(name))?;
        let link = extended.linkpath.unwrap_or(&header.linkname);
        let size = extended.size.unwrap_or(header.size);
        let kind = match header.typeflag {
            b'0' | 0 | b'7' => self.file(&path, size, &extended)?,
            b'5' => Kind::Directory,
            b'1' => Kind::HardLink {
                target: safe_path(link)?,
            },
            b'2' => Kind::Symlink {
                target: symlink_target(&path, link)?,
            },
            b'6' => Kind::Fifo,
            b'3' | b'4' => {
                return Err(refused(&path, "it is a device"));
            }
            other => {
                let letter = char::from(other).escape_default();
                return Err(refused(
                    &path,
                    &format!("lifeboat knows no entries of type '{letter}'"),
                ));
            }
        };
        if !matches!(kind, Kind::File { .. }) && size > 0 && header.typeflag != b'1' {
            return Err(refused(&path, "it is no file, and has data"));
        }
        if path.is_empty() && kind != Kind::Directory {
            return Err(refused(&path, "the root of a tree is a folder"));
        }
        let id = |value: u64, what: &str| {
            u32::try_from(value)
                .map_err(|_| refused(&path, &format!("its {what} {value} is no such number")))
        };
        Ok(Entry {
            mode: header.mode,
            uid: id(extended.uid.unwrap_or(header.uid), "owner")?,
            gid: id(extended.gid.unwrap_or(header.gid), "group")?,
            mtime: extended.mtime.unwrap_or(Time {
                seconds: i64::try_from(header.mtime).unwrap_or_default(),
                nanoseconds: 0,
            }),
            attributes: extended.attributes,
            path,
            kind,
        })
    }

    /// A file; of a sparse one, the map at the beginning of its data.
    fn file(&mut self, path: &[u8], stored: u64, extended: &Extended) -> Result<Kind> {
        self.begin_data(stored);
        let Some(size) = extended.real_size else {
            return Ok(Kind::File {
                size: stored,
                segments: None,
            });
        };
        let bad = |why: &str| refused(path, &format!("its map of holes {why}"));
        let mut lines = MapLines::default();
        let count = lines.number(self)?.ok_or_else(|| bad("has no length"))?;
        if count > MOST_SEGMENTS {
            return Err(bad(&format!("has {count} parts")));
        }
        let mut segments = Vec::new();
        let (mut end, mut sum) = (0_u64, 0_u64);
        for _ in 0..count {
            let offset = lines.number(self)?.ok_or_else(|| bad("has no offset"))?;
            let length = lines.number(self)?.ok_or_else(|| bad("has no length"))?;
            if offset < end {
                return Err(bad("is not in order"));
            }
            end = offset
                .checked_add(length)
                .filter(|end| *end <= size)
                .ok_or_else(|| bad("goes beyond the file"))?;
            sum += length;
            if length > 0 {
                segments.push(Segment { offset, length });
            }
        }
        if sum != self.left {
            return Err(bad("does not fit its data"));
        }
        Ok(Kind::File {
            size,
            segments: Some(segments),
        })
    }

    fn begin_data(&mut self, size: u64) {
        self.left = size;
        let rest = size % BLOCK as u64;
        self.padding = usize::try_from((BLOCK as u64 - rest) % BLOCK as u64).unwrap_or(0);
    }

    /// The second block of zeros, and nothing but zeros after it.
    fn end(&mut self) -> Result<()> {
        let followed = || damaged("the archive goes on after its end".to_owned());
        if self.block()?.iter().any(|byte| *byte != 0) {
            return Err(followed());
        }
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.read_some(&mut buffer)? {
                0 => break,
                count if buffer[..count].iter().all(|byte| *byte == 0) => {}
                _ => return Err(followed()),
            }
        }
        self.ended = true;
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.exact(&mut block)?;
        Ok(block)
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            filled += self.read(&mut buffer[filled..])?;
        }
        Ok(())
    }

    /// At least one byte.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self.read_some(buffer)? {
            0 => Err(damaged("the archive ends before its end".to_owned())),
            count => Ok(count),
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.source.read(buffer) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(damaged("the archive cannot be read".to_owned()).caused_by(error));
                }
            }
        }
    }
}

/// Numbers, one a line, read block by block.
#[derive(Default)]
struct MapLines {
    block: Vec<u8>,
    at: usize,
}

impl MapLines {
    /// `None` where there is no number, or one of more digits than a size has.
    fn number<R: Read>(&mut self, reader: &mut Reader<R>) -> Result<Option<u64>> {
        let mut digits = String::new();
        loop {
            if self.at == self.block.len() {
                if reader.left < BLOCK as u64 {
                    return Ok(None);
                }
                // The data behind the map begins at a whole block.
                self.block.resize(BLOCK, 0);
                self.at = 0;
                let padding = std::mem::take(&mut reader.padding);
                reader.exact(&mut self.block)?;
                reader.left -= BLOCK as u64;
                reader.padding = padding;
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' => return Ok(digits.parse().ok()),
                b'0'..=b'9' if digits.len() < 20 => digits.push(char::from(byte)),
                _ => return Ok(None),
            }
        }
    }
}

/// What extended records say of an entry.
#[derive(Default)]
struct Extended<'a> {
    path: Option<&'a [u8]>,
    linkpath: Option<&'a [u8]>,
    sparse_name: Option<&'a [u8]>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Time>,
    real_size: Option<u64>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'a> Extended<'a> {
    fn of(records: &[pax::Record<'a>]) -> Result<Self> {
        let mut extended = Self::default();
        let mut sparse = (None, None);
        for (key, value) in records {
            let number = || {
                let text = std::str::from_utf8(value).ok();
                text.and_then(|text| text.parse::<u64>().ok())
                    .ok_or_else(|| bad_record(key))
            };
            match *key {
                b"path" => extended.path = Some(value),
                b"linkpath" => extended.linkpath = Some(value),
                b"size" => extended.size = Some(number()?),
                b"uid" => extended.uid = Some(number()?),
                b"gid" => extended.gid = Some(number()?),
                b"mtime" => extended.mtime = Some(time(value).ok_or_else(|| bad_record(key))?),
                b"GNU.sparse.major" => sparse.0 = Some(number()?),
                b"GNU.sparse.minor" => sparse.1 = Some(number()?),
                b"GNU.sparse.name" => extended.sparse_name = Some(value),
                b"GNU.sparse.realsize" => extended.real_size = Some(number()?),
                b"SCHILY.acl.access" => extended.list(acl::ACCESS, key, value)?,
                b"SCHILY.acl.default" => extended.list(acl::DEFAULT, key, value)?,
                key => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        let name = pax::decode_name(name);
                        if name.is_empty() || name.contains(&0) {
                            return Err(bad_record(key));
                        }
                        extended.attributes.insert(name, value.to_vec());
                    }
                    // Everything else is of no use to a volume: comments, access times, names of owners.
                }
            }
        }
        let is_sparse = extended.real_size.is_some() || sparse != (None, None);
        if is_sparse && (sparse != (Some(1), Some(0)) || extended.real_size.is_none()) {
            return Err(damaged("a sparse file is not in GNU's form 1.0".to_owned()));
        }
        Ok(extended)
    }

    fn list(&mut self, name: &[u8], key: &[u8], value: &[u8]) -> Result<()> {
        let list = std::str::from_utf8(value).ok().and_then(acl::from_text);
        let list = list.ok_or_else(|| bad_record(key))?;
        self.attributes.insert(name.to_vec(), list);
        Ok(())
    }
}

/// `SECONDS`, `SECONDS.FRACTION`, with a `-` before 1970.
fn time(value: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(value).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanoseconds: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Time {
            seconds,
            nanoseconds,
        },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds: 0,
        },
        (true, nanoseconds) => Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// A path as entries have it: `./` and doubled or trailing slashes taken off.
///
/// # Errors
/// Damaged for what is absolute or leads upwards.
fn safe_path(name: &[u8]) -> Result<Vec<u8>> {
    let refused = |why: &str| {
        Err(damaged(format!(
            "the archive names {:?}, {why}",
            shown(name)
        )))
    };
    if name.first() == Some(&b'/') {
        return refused("which is absolute");
    }
    if name.contains(&0) {
        return refused("which has a NUL in it");
    }
    let mut path: Vec<u8> = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return refused("which leads out of its folder"),
            _ => {}
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(part);
    }
    if name.is_empty() {
        return refused("which is nothing");
    }
    Ok(path)
}

fn symlink_target(path: &[u8], target: &[u8]) -> Result<Vec<u8>> {
    match target.is_empty() || target.contains(&0) {
        true => Err(refused(path, "it is a symbolic link to nothing")),
        false => Ok(target.to_vec()),
    }
}

fn bad_record(key: &[u8]) -> Error {
    damaged(format!("the extended record {} cannot be read", shown(key)))
}

fn refused(path: &[u8], why: &str) -> Error {
    damaged(format!(
        "the archive's entry {} is refused: {why}",
        shown(path)
    ))
}

fn damaged(message: String) -> Error {
    Error::damaged(message)
}
