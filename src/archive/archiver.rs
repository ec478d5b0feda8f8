//! A tree on a disk into an archive, its facts counted on the way.

use super::digest::{ContentHasher, TreeDigest, TreeFacts};
use super::entry::Entry;
use super::tree::{Content, Piece, Visitor};
use super::writer::Writer;
use crate::error::Result;
use std::io::Write;

/// Writes what a scan finds into an archive.
pub struct Archiver<W> {
    writer: Writer<W>,
    digest: TreeDigest,
}

impl<W: Write> Archiver<W> {
    /// Into `sink`.
    pub fn new(sink: W) -> Self {
        Self {
            writer: Writer::new(sink),
            digest: TreeDigest::new(),
        }
    }

    /// Ends the archive: where it went, how long it is in bytes, and what it holds.
    pub fn finish(self) -> Result<(W, u64, TreeFacts)> {
        let (sink, written) = self.writer.finish()?;
        Ok((sink, written, self.digest.finish()))
    }
}

impl<W: Write> Visitor for Archiver<W> {
    fn entry(&mut self, entry: &Entry, content: Option<&mut Content<'_>>) -> Result<()> {
        self.writer.begin(entry)?;
        let Some(content) = content else {
            return self.digest.add(entry, None);
        };
        let mut hasher = ContentHasher::new();
        while let Some(piece) = content.next_piece()? {
            match piece {
                Piece::Data(bytes) => {
                    hasher.bytes(bytes);
                    self.writer.data(bytes)?;
                }
                Piece::Hole(length) => hasher.zeros(length),
            }
        }
        self.digest.add(entry, Some(hasher.finish()))
    }
}
