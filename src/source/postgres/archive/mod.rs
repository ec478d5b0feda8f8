//! Reads `pg_dump`'s custom format as it passes: is it whole, and what is in it?
//!
//! The archive has no end mark: `pg_restore --list` is content with half a file. The proof that
//! nothing is missing is that the stream ends exactly behind the last data block that the table of
//! contents announces, with each of them seen once. With `pg_dump -Z0` the data are plain, so rows
//! are counted from the very bytes that will be restored, in the dump's own snapshot.
//!
//! The layout is that of `pg_backup_archiver.c` and `pg_backup_custom.c` in PostgreSQL 12 to 18
//! (archive versions 1.14 to 1.16):
//!
//! ```text
//! archive  = header, count, entry × count, block × (entries with data)
//! header   = "PGDMP", version × 3, integer width, offset width, format, compression,
//!            seven integers of local time, database, server version, pg_dump version
//! block    = 1, dump id, stream              one table's data
//!          | 3, dump id, (oid, stream)*, 0   large objects
//! stream   = (length > 0, bytes)*, 0
//! integer  = sign byte, four bytes, least significant first
//! text     = length, bytes; length -1: null
//! ```

mod data;
mod facts;
mod header;
mod reader;
mod toc;

#[cfg(test)]
mod tests;

pub(super) use facts::spelled_bytes;
pub use facts::{
    ArchiveFacts, DumpFacts, ExtensionFacts, LargeObjectFacts, SequenceFacts, TableFacts,
};
pub use toc::{DataState, Section, TocEntry};

use crate::error::{Error, Result};
use crate::pipeline::{Inspection, Inspector};
use data::Data;
use header::{HeaderReader, Layout};
use reader::{Input, Reader};
use toc::TocReader;

/// Follows a custom-format archive byte by byte.
///
/// Memory is bounded by what the table of contents holds, whatever its lengths claim, and that by
/// 256 MiB; data pass through unbuffered.
#[derive(Debug)]
pub struct ArchiveInspector {
    offset: u64,
    reader: Reader,
    part: Part,
    data: Data,
    facts: DumpFacts,
    entries: Option<Vec<TocEntry>>,
    /// Where the table of contents ends, once it has.
    contents_end: Option<u64>,
    /// Damage was found: the state is not to be relied on.
    failed: bool,
}

/// The part of the archive that the next byte belongs to.
#[derive(Debug)]
enum Part {
    Header(HeaderReader),
    Count(Layout),
    Toc(TocReader),
    Data,
}

/// All that is known of an archive that was found whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    /// Its size in bytes.
    pub raw_size: u64,
    /// What it holds.
    pub facts: DumpFacts,
    /// Its table of contents, where it was asked for, in the order of the archive.
    pub entries: Vec<TocEntry>,
}

impl Default for ArchiveInspector {
    fn default() -> Self {
        Self::new()
    }
}

impl ArchiveInspector {
    /// For an archive's facts.
    pub fn new() -> Self {
        Self {
            offset: 0,
            reader: Reader::default(),
            part: Part::Header(HeaderReader::default()),
            data: Data::default(),
            facts: DumpFacts::default(),
            entries: None,
            contents_end: None,
            failed: false,
        }
    }

    /// For its table of contents as well. One entry for each large object, as PostgreSQL 16 and
    /// older write them, is counted but not kept: there can be millions.
    pub fn with_entries() -> Self {
        Self {
            entries: Some(Vec::new()),
            ..Self::new()
        }
    }

    /// Takes the next bytes of the archive, cut anywhere.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let mut input = Input::new(bytes, self.offset);
        if self.failed {
            return Err(input.damaged("it follows damage that was found before"));
        }
        let result = self.advance(&mut input);
        self.offset = input.offset();
        self.failed = result.is_err();
        result
    }

    fn advance(&mut self, input: &mut Input<'_>) -> Result<()> {
        loop {
            match &mut self.part {
                Part::Header(header) => {
                    let Some(layout) =
                        header.read(&mut self.reader, input, &mut self.facts.archive)?
                    else {
                        return Ok(());
                    };
                    self.part = Part::Count(layout);
                }
                Part::Count(layout) => {
                    let Some(count) = self.reader.integer(input)? else {
                        return Ok(());
                    };
                    let count = u32::try_from(count)
                        .map_err(|_| input.damaged("a negative number of entries"))?;
                    self.part = Part::Toc(TocReader::new(*layout, count));
                }
                Part::Toc(toc) => {
                    let Some(entry) = toc.read(&mut self.reader, input)? else {
                        if toc.is_complete() {
                            self.contents_end = Some(input.offset());
                            self.part = Part::Data;
                            continue;
                        }
                        return Ok(());
                    };
                    let is_fact = self.facts.announce(&entry, input)?;
                    self.data.announce(&entry, &self.facts, input)?;
                    match &mut self.entries {
                        Some(entries) if !entry.head.names_one_large_object() => {
                            entries.push(entry.head);
                        }
                        _ if is_fact || entry.head.had_data => {}
                        _ => toc.forget(&entry),
                    }
                }
                Part::Data => return self.data.read(&mut self.reader, input, &mut self.facts),
            }
        }
    }

    /// Once the table of contents has been read: where it ends, in bytes from the archive's start, and its
    /// entries where they were asked for. Up to there an archive is enough for all that needs no data.
    pub fn contents(&self) -> Option<(u64, &[TocEntry])> {
        Some((
            self.contents_end?,
            self.entries.as_deref().unwrap_or_default(),
        ))
    }

    /// The archive is over: an error unless all that it announced was there.
    pub fn complete(mut self) -> Result<Archive> {
        // A table of contents that ends with its last byte is complete, but has not been told so.
        self.push(&[])?;
        let missing = match &self.part {
            Part::Header(_) | Part::Count(_) => Some("within its header".to_owned()),
            Part::Toc(toc) => Some(format!(
                "within its table of contents, {} entries short",
                toc.left()
            )),
            Part::Data => self.data.missing(),
        };
        if let Some(missing) = missing {
            return Err(Error::damaged(format!(
                "the PostgreSQL archive ends after {} bytes, {missing}",
                self.offset
            )));
        }
        Ok(Archive {
            raw_size: self.offset,
            facts: self.facts,
            entries: self.entries.unwrap_or_default(),
        })
    }
}

impl Inspector for ArchiveInspector {
    fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.push(bytes)
    }

    fn finish(self: Box<Self>) -> Result<Inspection> {
        let archive = self.complete()?;
        let facts = serde_json::to_value(&archive.facts)
            .map_err(|error| Error::failed("cannot write a dump's facts").caused_by(error))?;
        Ok(Inspection {
            raw_size: archive.raw_size,
            facts,
        })
    }
}
