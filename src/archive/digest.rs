//! One digest of a whole tree, and what was counted on the way.

use super::acl;
use super::entry::{Entry, Kind, order};
use super::reader::Reader;
use super::tree::{Content, Piece, Visitor};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;

/// What a tree holds, counted as its bytes passed: `facts.json`, under `tree`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFacts {
    /// Lowercase hex SHA-256 of the tree's records (docs/format.md, "Volumes").
    pub digest: String,
    /// Files, each counted once however many names it has.
    pub files: u64,
    /// Folders, the root among them.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Named pipes.
    pub fifos: u64,
    /// The files' lengths, holes included.
    pub bytes: u64,
}

/// Takes a tree's entries in their order, and gives its facts.
///
/// Modification times are not in the digest: not every file system keeps them to the nanosecond, and the archive
/// has them anyway.
#[derive(Debug, Default)]
pub struct TreeDigest {
    hasher: Sha256,
    facts: TreeFacts,
    last: Option<Vec<u8>>,
}

impl TreeDigest {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next entry; `content` is the SHA-256 of a file's bytes, holes as zeros.
    ///
    /// # Errors
    /// Damaged where entries are not in order: the digest would be of another tree.
    pub fn add(&mut self, entry: &Entry, content: Option<[u8; 32]>) -> Result<()> {
        if let Some(last) = &self.last
            && order(last, &entry.path).is_ge()
        {
            return Err(Error::damaged(
                "the entries of the archive are not in order, or one is there twice",
            ));
        }
        self.last = Some(entry.path.clone());
        let (size, what) = match &entry.kind {
            Kind::Directory => {
                self.facts.directories += 1;
                (0, String::new())
            }
            Kind::File { size, .. } => {
                self.facts.files += 1;
                self.facts.bytes += size;
                (*size, hex::encode(content.unwrap_or_default()))
            }
            Kind::HardLink { target } => {
                self.facts.hard_links += 1;
                (0, hex::encode(target))
            }
            Kind::Symlink { target } => {
                self.facts.symlinks += 1;
                (0, hex::encode(target))
            }
            Kind::Fifo => {
                self.facts.fifos += 1;
                (0, String::new())
            }
        };
        // A further name shares all of this with the first one.
        let (mode, uid, gid) = match entry.kind {
            Kind::HardLink { .. } => (0, 0, 0),
            _ => (entry.mode, entry.uid, entry.gid),
        };
        let record = format!(
            "{} {} {mode:o} {uid} {gid} {size} {what}",
            hex::encode(&entry.path),
            entry.kind.letter(),
        );
        self.hasher.update(record);
        if !matches!(entry.kind, Kind::HardLink { .. }) {
            for (name, value) in &entry.attributes {
                let value = match name.as_slice() {
                    acl::ACCESS | acl::DEFAULT => {
                        acl::to_text(value).unwrap_or_default().into_bytes()
                    }
                    _ => value.clone(),
                };
                let (name, value) = (hex::encode(name), hex::encode(value));
                self.hasher.update(format!(" {name}={value}"));
            }
        }
        self.hasher.update("\n");
        Ok(())
    }

    /// What was counted, and the digest.
    pub fn finish(self) -> TreeFacts {
        TreeFacts {
            digest: hex::encode(self.hasher.finalize()),
            ..self.facts
        }
    }
}

/// The digest of a tree on a disk: nothing is written anywhere.
impl Visitor for TreeDigest {
    fn entry(&mut self, entry: &Entry, content: Option<&mut Content<'_>>) -> Result<()> {
        let content = content.map(content_digest).transpose()?;
        self.add(entry, content)
    }
}

/// The facts of an archive, which is read to its end.
///
/// # Errors
/// Damaged where the archive is not whole or not as lifeboat writes it.
pub fn examine<R: Read>(reader: &mut Reader<R>) -> Result<TreeFacts> {
    let mut digest = TreeDigest::new();
    while let Some(entry) = reader.next_entry()? {
        let content = archived_content(&entry, reader)?;
        digest.add(&entry, content)?;
    }
    Ok(digest.finish())
}

/// The SHA-256 of a file's content on a disk.
pub(super) fn content_digest(content: &mut Content<'_>) -> Result<[u8; 32]> {
    let mut hasher = ContentHasher::new();
    while let Some(piece) = content.next_piece()? {
        match piece {
            Piece::Data(bytes) => hasher.bytes(bytes),
            Piece::Hole(length) => hasher.zeros(length),
        }
    }
    Ok(hasher.finish())
}

/// The SHA-256 of a file's content in an archive; `None` for what is no file.
pub(super) fn archived_content<R: Read>(
    entry: &Entry,
    reader: &mut Reader<R>,
) -> Result<Option<[u8; 32]>> {
    let Kind::File { size, segments } = &entry.kind else {
        return Ok(None);
    };
    let mut hasher = ContentHasher::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut take = |hasher: &mut ContentHasher, mut left: u64| {
        while left > 0 {
            let room = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let count = reader.data(&mut buffer[..room])?;
            hasher.bytes(&buffer[..count]);
            left -= count as u64;
        }
        Ok::<(), Error>(())
    };
    match segments {
        None => take(&mut hasher, *size)?,
        Some(segments) => {
            let mut at = 0;
            for segment in segments {
                hasher.zeros(segment.offset - at);
                take(&mut hasher, segment.length)?;
                at = segment.offset + segment.length;
            }
            hasher.zeros(size - at);
        }
    }
    Ok(Some(hasher.finish()))
}

/// The digest of a file's content, piece by piece.
pub(super) struct ContentHasher(Sha256);

impl ContentHasher {
    pub(super) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// A hole, which reads as zeros.
    pub(super) fn zeros(&mut self, mut count: u64) {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        while count > 0 {
            let piece = usize::try_from(count)
                .unwrap_or(usize::MAX)
                .min(ZEROS.len());
            self.0.update(&ZEROS[..piece]);
            count -= piece as u64;
        }
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}
