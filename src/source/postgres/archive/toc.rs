//! The table of contents: `ReadToc` of `pg_backup_archiver.c` and `_ReadExtraToc` of
//! `pg_backup_custom.c`.

use super::facts::Spelling;
use super::header::Layout;
use super::reader::{Input, Keep, Reader, Text};
use crate::error::Result;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The longest name that is believed, in bytes. A function's is its signature: a hundred arguments
/// with qualified types.
const LONGEST_NAME: u32 = 1 << 20;

/// The longest definition of those that are read, in bytes: a few names and numbers.
const LONGEST_DEFINITION: u32 = 1 << 20;

/// The memory that a table of contents may take, in bytes: about a million and a half of entries.
const MEMORY: u64 = 256 << 20;

/// What an entry takes besides its texts, in bytes, generously.
const ENTRY_MEMORY: u64 = 160;

/// When an entry is restored: `teSection` of `pg_backup.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Comments and the like, restored with what they belong to.
    None,
    /// Before the data.
    PreData,
    /// The data.
    Data,
    /// After the data: indexes, constraints, triggers.
    PostData,
}

/// What an entry says of its data: `K_OFFSET_…` of `pg_backup_archiver.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataState {
    /// It has none.
    Absent,
    /// It has some, written to a pipe: the place is not known.
    Somewhere,
    /// It has some, at this byte of the archive.
    At(u64),
}

/// One entry of an archive's table of contents. Names are spelled as in [`DumpFacts`](super::DumpFacts).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TocEntry {
    /// Its number, which others depend on.
    pub dump_id: u32,
    /// Its type, such as `TABLE DATA`.
    pub desc: Arc<str>,
    /// Its schema.
    pub schema: Option<Arc<str>>,
    /// Its name.
    pub tag: Box<str>,
    /// Its owner.
    pub owner: Option<Arc<str>>,
    /// Whether the archive has a data block for it.
    pub had_data: bool,
    /// The entries that must be restored before it.
    pub dependencies: Box<[u32]>,
    /// When it is restored.
    pub section: Section,
}

impl TocEntry {
    /// Whether it is one of the entries that PostgreSQL 16 and older write for each large object.
    pub(super) fn names_one_large_object(&self) -> bool {
        match &*self.desc {
            "BLOB" => true,
            "ACL" | "COMMENT" | "SECURITY LABEL" => self.tag.starts_with("LARGE OBJECT "),
            _ => false,
        }
    }
}

/// An entry as it was read, with what is not kept.
#[derive(Debug)]
pub(super) struct ReadEntry {
    pub(super) head: TocEntry,
    /// Where it is one of [`WITH_DEFINITION`].
    pub(super) definition: Vec<u8>,
    /// Whether its data are those of a `COPY` command.
    pub(super) has_copy: bool,
    pub(super) data: DataState,
    memory: u64,
}

/// The types whose definitions tell a fact.
const WITH_DEFINITION: [&str; 4] = ["ENCODING", "SEQUENCE SET", "EXTENSION", "TABLE DATA"];

/// Reads entries field by field.
#[derive(Debug)]
pub(super) struct TocReader {
    layout: Layout,
    left: u32,
    field: Field,
    draft: Draft,
    memory: u64,
    spelling: Spelling,
    /// Types, schemas and owners, each once.
    words: BTreeSet<Arc<str>>,
}

/// The fields in the order of `WriteToc`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Field {
    #[default]
    DumpId,
    HadDumper,
    CatalogTable,
    CatalogRow,
    Tag,
    Desc,
    Section,
    Definition,
    Drop,
    Copy,
    Schema,
    Tablespace,
    AccessMethod,
    RelationKind,
    Owner,
    WithOids,
    Dependency,
    DataState,
    DataOffset,
}

#[derive(Debug, Default)]
struct Draft {
    dump_id: u32,
    had_dumper: bool,
    tag: Vec<u8>,
    desc: Vec<u8>,
    section: Option<Section>,
    definition: Vec<u8>,
    has_copy: bool,
    schema: Option<Vec<u8>>,
    owner: Option<Vec<u8>>,
    dependencies: Vec<u32>,
    state: u8,
    offset: u64,
    offset_bytes: u8,
    memory: u64,
}

impl TocReader {
    pub(super) fn new(layout: Layout, count: u32) -> Self {
        Self {
            layout,
            left: count,
            field: Field::default(),
            draft: Draft::default(),
            memory: 0,
            spelling: Spelling::default(),
            words: BTreeSet::new(),
        }
    }

    pub(super) fn left(&self) -> u32 {
        self.left
    }

    pub(super) fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// Gives back the memory of an entry that was not kept.
    pub(super) fn forget(&mut self, entry: &ReadEntry) {
        self.memory -= entry.memory;
    }

    /// The next entry, or `None` when there is none, or none yet.
    pub(super) fn read(
        &mut self,
        reader: &mut Reader,
        input: &mut Input<'_>,
    ) -> Result<Option<ReadEntry>> {
        if self.left == 0 {
            return Ok(None);
        }
        loop {
            let Some(next) = self.field(reader, input)? else {
                return Ok(None);
            };
            self.field = next;
            if next == Field::DumpId {
                self.left -= 1;
                let entry = self.entry(input)?;
                if &*entry.head.desc == "ENCODING" {
                    self.spelling = Spelling::of(&entry.definition);
                }
                return Ok(Some(entry));
            }
        }
    }

    /// Reads the current field and says which comes next.
    fn field(&mut self, reader: &mut Reader, input: &mut Input<'_>) -> Result<Option<Field>> {
        let next = match self.field {
            Field::DumpId => {
                let Some(id) = reader.integer(input)? else {
                    return Ok(None);
                };
                self.draft.dump_id = dump_id(id, input)?;
                Field::HadDumper
            }
            Field::HadDumper => {
                let Some(had) = reader.integer(input)? else {
                    return Ok(None);
                };
                self.draft.had_dumper = had != 0;
                Field::CatalogTable
            }
            Field::Section => {
                let Some(section) = reader.integer(input)? else {
                    return Ok(None);
                };
                self.draft.section = Some(match section {
                    1 => Section::None,
                    2 => Section::PreData,
                    3 => Section::Data,
                    4 => Section::PostData,
                    _ => return Err(input.damaged(format!("{section} is not a section"))),
                });
                Field::Definition
            }
            Field::RelationKind => {
                if reader.integer(input)?.is_none() {
                    return Ok(None);
                }
                Field::Owner
            }
            Field::DataState => {
                let Some(state) = reader.byte(input) else {
                    return Ok(None);
                };
                self.draft.state = state;
                Field::DataOffset
            }
            Field::DataOffset => {
                // Any width up to eight, least significant byte first.
                while self.draft.offset_bytes < self.layout.offset_width {
                    let Some(byte) = reader.byte(input) else {
                        return Ok(None);
                    };
                    self.draft.offset |= u64::from(byte) << (8 * self.draft.offset_bytes);
                    self.draft.offset_bytes += 1;
                }
                Field::DumpId
            }
            Field::CatalogTable
            | Field::CatalogRow
            | Field::Tag
            | Field::Desc
            | Field::Definition
            | Field::Drop
            | Field::Copy
            | Field::Schema
            | Field::Tablespace
            | Field::AccessMethod
            | Field::Owner
            | Field::WithOids
            | Field::Dependency => {
                let Some(text) = reader.text(input, self.wanted())? else {
                    return Ok(None);
                };
                self.text(text, input)?
            }
        };
        Ok(Some(next))
    }

    /// What of the current text is kept.
    fn wanted(&self) -> Keep {
        match self.field {
            Field::Tag | Field::Desc | Field::Schema | Field::Owner | Field::Dependency => {
                Keep::UpTo(LONGEST_NAME)
            }
            Field::Definition if self.has_wanted_definition() => Keep::UpTo(LONGEST_DEFINITION),
            _ => Keep::Nothing,
        }
    }

    fn has_wanted_definition(&self) -> bool {
        WITH_DEFINITION
            .iter()
            .any(|desc| desc.as_bytes() == self.draft.desc)
    }

    fn text(&mut self, text: Text, input: &Input<'_>) -> Result<Field> {
        let is_null = text == Text::Null;
        let kept = match text {
            Text::Kept(bytes) => bytes,
            Text::Null | Text::Skipped => Vec::new(),
        };
        let optional = |kept: Vec<u8>| (!kept.is_empty()).then_some(kept);
        let draft = &mut self.draft;
        if self.field != Field::Definition {
            draft.memory += kept.len() as u64;
        }
        Ok(match self.field {
            Field::CatalogTable => Field::CatalogRow,
            Field::CatalogRow => Field::Tag,
            Field::Tag => {
                draft.tag = kept;
                Field::Desc
            }
            Field::Desc => {
                draft.desc = kept;
                Field::Section
            }
            Field::Definition => {
                draft.definition = kept;
                Field::Drop
            }
            Field::Drop => Field::Copy,
            Field::Copy => {
                draft.has_copy = !is_null;
                Field::Schema
            }
            Field::Schema => {
                draft.schema = optional(kept);
                Field::Tablespace
            }
            Field::Tablespace => Field::AccessMethod,
            Field::AccessMethod if self.layout.minor >= 16 => Field::RelationKind,
            Field::AccessMethod => Field::Owner,
            Field::Owner => {
                draft.owner = optional(kept);
                Field::WithOids
            }
            Field::Dependency if is_null => Field::DataState,
            Field::Dependency => {
                let id = std::str::from_utf8(&kept)
                    .ok()
                    .and_then(|id| id.parse().ok())
                    .ok_or_else(|| input.damaged("a dependency that is not a number"))?;
                draft.dependencies.push(dump_id(id, input)?);
                draft.memory += 4;
                if self.memory + draft.memory > MEMORY {
                    return Err(too_large(input));
                }
                Field::Dependency
            }
            _ => Field::Dependency,
        })
    }

    /// The entry whose fields have all been read.
    fn entry(&mut self, input: &Input<'_>) -> Result<ReadEntry> {
        let draft = std::mem::take(&mut self.draft);
        let memory = draft.memory + ENTRY_MEMORY;
        self.memory += memory;
        if self.memory > MEMORY {
            return Err(too_large(input));
        }
        let data = match draft.state {
            1 => DataState::Somewhere,
            2 => DataState::At(draft.offset),
            3 => DataState::Absent,
            state => return Err(input.damaged(format!("{state} is not a state of data"))),
        };
        let had_data = data != DataState::Absent;
        // pg_backup_custom.c's _ArchiveEntry derives the one from the other.
        if had_data != draft.had_dumper {
            return Err(
                input.damaged("an entry that says both that it has data and that it has none")
            );
        }
        // The spelling of names may depend on the encoding, which is the archive's first entry.
        let desc = String::from_utf8_lossy(&draft.desc).into_owned();
        let tag = self.spelling.spell(draft.tag);
        let schema = draft.schema.map(|schema| self.spelling.spell(schema));
        let owner = draft.owner.map(|owner| self.spelling.spell(owner));
        Ok(ReadEntry {
            head: TocEntry {
                dump_id: draft.dump_id,
                desc: self.word(desc),
                schema: schema.map(|schema| self.word(schema)),
                tag: tag.into_boxed_str(),
                owner: owner.map(|owner| self.word(owner)),
                had_data,
                dependencies: draft.dependencies.into_boxed_slice(),
                section: draft.section.unwrap_or(Section::None),
            },
            definition: draft.definition,
            has_copy: draft.has_copy,
            data,
            memory,
        })
    }

    /// The same text, stored once however often it comes.
    fn word(&mut self, text: String) -> Arc<str> {
        if let Some(word) = self.words.get(text.as_str()) {
            return Arc::clone(word);
        }
        // Never given back, since another entry may share it.
        self.memory += text.len() as u64 + ENTRY_MEMORY;
        let word: Arc<str> = text.into();
        self.words.insert(Arc::clone(&word));
        word
    }
}

fn dump_id(id: i64, input: &Input<'_>) -> Result<u32> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id > 0)
        .ok_or_else(|| input.damaged(format!("{id} is not the number of an entry")))
}

fn too_large(input: &Input<'_>) -> crate::error::Error {
    input.damaged(format!(
        "a table of contents that takes more than {} MiB",
        MEMORY >> 20
    ))
}
