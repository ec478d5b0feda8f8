//! A tree as lines, one a thing, for comparisons: what two trees have in common needs not be kept in memory.

use super::digest::{archived_content, content_digest};
use super::entry::{Entry, Kind};
use super::tree::{Content, Visitor};
use crate::error::{OrFail, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};

/// What a comparison looks at, of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its path, in hexadecimal digits: paths are bytes.
    #[serde(with = "hex::serde")]
    pub path: Vec<u8>,
    /// What it is: `d`, `f`, `h`, `l`, `p`.
    pub kind: char,
    /// Permissions.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// A file's length in bytes.
    pub size: u64,
    /// Seconds since 1970 and billionths.
    pub mtime: (i64, u32),
    /// A file's SHA-256, or where a link leads, in hexadecimal digits.
    pub content: String,
    /// SHA-256 of the extended attributes, in hexadecimal digits; empty where there are none.
    pub attributes: String,
}

impl Line {
    /// The line of an entry, whose content has this digest.
    pub fn of(entry: &Entry, content: Option<[u8; 32]>) -> Self {
        let (size, content) = match &entry.kind {
            Kind::File { size, .. } => (*size, hex::encode(content.unwrap_or_default())),
            Kind::HardLink { target } | Kind::Symlink { target } => (0, hex::encode(target)),
            Kind::Directory | Kind::Fifo => (0, String::new()),
        };
        let mut attributes = String::new();
        if !entry.attributes.is_empty() {
            let mut hasher = Sha256::new();
            for (name, value) in &entry.attributes {
                hasher.update(format!("{}={} ", hex::encode(name), hex::encode(value)));
            }
            attributes = hex::encode(hasher.finalize());
        }
        Self {
            path: entry.path.clone(),
            kind: entry.kind.letter(),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size,
            mtime: (entry.mtime.seconds, entry.mtime.nanoseconds),
            content,
            attributes,
        }
    }

    /// What is not the same in `other`, which has the same path: `content`, `mode`, `owner`, …
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        if self.kind != other.kind {
            return vec!["type"];
        }
        let mut found = Vec::new();
        let mut note = |differs: bool, what| {
            if differs {
                found.push(what);
            }
        };
        note(
            self.content != other.content || self.size != other.size,
            "content",
        );
        // Of a further name, all else is the first one's.
        if self.kind != 'h' {
            note(self.mode != other.mode, "mode");
            note((self.uid, self.gid) != (other.uid, other.gid), "owner");
            note(self.attributes != other.attributes, "attributes");
            note(self.mtime != other.mtime, "time");
        }
        found
    }
}

/// Writes a tree's lines, as JSON.
pub struct Lister<W> {
    sink: W,
}

impl<W: Write> Lister<W> {
    /// Into `sink`.
    pub fn new(sink: W) -> Self {
        Self { sink }
    }

    /// Gives the sink back.
    pub fn into_inner(self) -> W {
        self.sink
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line).or_fail(|| "cannot write a line")?;
        text.push(b'\n');
        self.sink.write_all(&text).or_fail(|| "cannot write a line")
    }

    /// The lines of an archive.
    pub fn archive<R: Read>(&mut self, reader: &mut super::Reader<R>) -> Result<()> {
        while let Some(entry) = reader.next_entry()? {
            let content = archived_content(&entry, reader)?;
            self.write(&Line::of(&entry, content))?;
        }
        Ok(())
    }
}

impl<W: Write> Visitor for Lister<W> {
    fn entry(&mut self, entry: &Entry, content: Option<&mut Content<'_>>) -> Result<()> {
        let content = content.map(content_digest).transpose()?;
        self.write(&Line::of(entry, content))
    }
}
