//! The data blocks: `_PrintTocData` of `pg_backup_custom.c`.

use super::facts::{DumpFacts, TableFacts, partition_root};
use super::reader::{Input, Reader};
use super::toc::{DataState, ReadEntry};
use crate::error::Result;
use std::collections::HashMap;
use std::sync::Arc;

/// `BLK_DATA` of `pg_backup_archiver.h`: one stream.
const DATA: u8 = 1;

/// `BLK_BLOBS` of `pg_backup_archiver.h`: streams with the number of a large object before each.
const LARGE_OBJECTS: u8 = 3;

/// Follows the data blocks, and knows which are still to come.
#[derive(Debug, Default)]
pub(super) struct Data {
    announced: HashMap<u32, Announced>,
    state: State,
}

/// What the table of contents says of a block.
#[derive(Debug)]
struct Announced {
    state: DataState,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Table {
        schema: Option<Arc<str>>,
        name: Box<str>,
        loaded_through: Option<String>,
        counter: Option<RowCounter>,
        bytes: u64,
    },
    LargeObjects,
    /// Data of a type that is not known: walked over.
    Other,
}

#[derive(Debug, Default)]
enum State {
    /// At the type of a block, or at the end.
    #[default]
    Between,
    /// At the number of the entry of a block of this type.
    Id { kind: u8, at: u64 },
    /// At the number of a large object.
    ObjectId,
    /// At a length within a stream.
    Length(Content),
    /// Within as many bytes of a stream.
    Bytes(Content, u64),
}

impl Data {
    /// Remembers that a block will come, if the entry says so.
    pub(super) fn announce(
        &mut self,
        entry: &ReadEntry,
        facts: &DumpFacts,
        input: &Input<'_>,
    ) -> Result<()> {
        let head = &entry.head;
        if entry.data == DataState::Absent {
            return Ok(());
        }
        let content = match &*head.desc {
            "TABLE DATA" => Content::Table {
                schema: head.schema.clone(),
                name: head.tag.clone(),
                loaded_through: partition_root(&entry.definition)
                    .map(|root| facts.spelling().spell(root.to_vec())),
                counter: (entry.has_copy && !facts.archive.compressed).then(RowCounter::default),
                bytes: 0,
            },
            "BLOBS" => Content::LargeObjects,
            _ => Content::Other,
        };
        let announced = Announced {
            state: entry.data,
            content,
        };
        if self.announced.insert(head.dump_id, announced).is_some() {
            return Err(input.damaged(format!("two entries with the number {}", head.dump_id)));
        }
        Ok(())
    }

    /// Reads on until the input is used up.
    pub(super) fn read(
        &mut self,
        reader: &mut Reader,
        input: &mut Input<'_>,
        facts: &mut DumpFacts,
    ) -> Result<()> {
        while !input.is_empty() {
            self.state = match std::mem::take(&mut self.state) {
                State::Between => self.begin(reader, input)?,
                State::Id { kind, at } => match reader.integer(input)? {
                    Some(id) => self.enter(kind, at, id, input)?,
                    None => State::Id { kind, at },
                },
                State::ObjectId => match reader.integer(input)? {
                    Some(0) => State::Between,
                    Some(_) => {
                        facts.large_objects.count += 1;
                        State::Length(Content::LargeObjects)
                    }
                    None => State::ObjectId,
                },
                State::Length(content) => match reader.integer(input)? {
                    Some(0) => end_of_stream(content, input, facts)?,
                    Some(length) => State::Bytes(
                        content,
                        u64::try_from(length)
                            .map_err(|_| input.damaged("a piece of data of negative length"))?,
                    ),
                    None => State::Length(content),
                },
                State::Bytes(content, left) => stream(content, left, reader, input, facts)?,
            };
        }
        Ok(())
    }

    /// Where the archive may not end yet, what is missing.
    pub(super) fn missing(&self) -> Option<String> {
        match (&self.state, self.announced.len()) {
            (State::Between, 0) => None,
            (State::Between, blocks) => Some(format!("{blocks} of its data blocks short")),
            (State::Length(content) | State::Bytes(content, _), _) => match content {
                Content::Table { name, .. } => Some(format!("within the data of table {name:?}")),
                Content::LargeObjects => Some("within a large object".to_owned()),
                Content::Other => Some("within a data block".to_owned()),
            },
            (State::Id { .. } | State::ObjectId, _) => Some("within a data block".to_owned()),
        }
    }

    fn begin(&self, reader: &mut Reader, input: &mut Input<'_>) -> Result<State> {
        let at = input.offset();
        if self.announced.is_empty() {
            return Err(input.damaged("something behind the last data block"));
        }
        match reader.byte(input) {
            Some(kind @ (DATA | LARGE_OBJECTS)) => Ok(State::Id { kind, at }),
            Some(kind) => Err(input.damaged(format!("{kind} is not a type of data block"))),
            None => Ok(State::Between),
        }
    }

    fn enter(&mut self, kind: u8, at: u64, id: i64, input: &Input<'_>) -> Result<State> {
        let announced = u32::try_from(id)
            .ok()
            .and_then(|id| self.announced.remove(&id))
            .ok_or_else(|| {
                input.damaged(format!(
                    "data of entry {id}, which has none or had them before"
                ))
            })?;
        if let DataState::At(expected) = announced.state
            && expected != at
        {
            return Err(input.damaged(format!(
                "data of entry {id} at byte {at}, which should be at {expected}"
            )));
        }
        match (kind, announced.content) {
            // An entry of a type that is not known may have either.
            (LARGE_OBJECTS, Content::LargeObjects | Content::Other) => Ok(State::ObjectId),
            (DATA, content @ (Content::Table { .. } | Content::Other)) => {
                Ok(State::Length(content))
            }
            _ => Err(input.damaged(format!(
                "a data block of type {kind} for entry {id}, which wants another"
            ))),
        }
    }
}

/// Takes bytes of a stream. `pg_dump` before 17 writes a piece for each row, so the way to the next
/// piece is kept short: while whole pieces are at hand, the state does not move.
fn stream(
    mut content: Content,
    mut left: u64,
    reader: &mut Reader,
    input: &mut Input<'_>,
    facts: &mut DumpFacts,
) -> Result<State> {
    loop {
        let part = input.take(left);
        left -= part.len() as u64;
        match &mut content {
            Content::Table { counter, bytes, .. } => {
                *bytes += part.len() as u64;
                if let Some(counter) = counter {
                    counter.count(part);
                }
            }
            Content::LargeObjects => facts.large_objects.bytes += part.len() as u64,
            Content::Other => {}
        }
        if left > 0 {
            return Ok(State::Bytes(content, left));
        }
        left = match reader.integer(input)? {
            None => return Ok(State::Length(content)),
            Some(0) => return end_of_stream(content, input, facts),
            Some(length) => u64::try_from(length)
                .map_err(|_| input.damaged("a piece of data of negative length"))?,
        };
    }
}

fn end_of_stream(content: Content, input: &Input<'_>, facts: &mut DumpFacts) -> Result<State> {
    match content {
        Content::LargeObjects => Ok(State::ObjectId),
        Content::Other => Ok(State::Between),
        Content::Table {
            schema,
            name,
            loaded_through,
            counter,
            bytes,
        } => {
            let rows = match counter {
                None => None,
                Some(counter) => Some(counter.rows().ok_or_else(|| {
                    input.damaged(format!(
                        "the data of table {name:?} lack the mark of their end"
                    ))
                })?),
            };
            let table = TableFacts {
                rows,
                bytes,
                loaded_through,
            };
            let schema = schema.as_deref().unwrap_or_default().to_owned();
            let tables = facts.tables.entry(schema).or_default();
            if tables.insert(name.to_string(), table).is_some() {
                return Err(input.damaged(format!("the data of table {name:?} twice")));
            }
            Ok(State::Between)
        }
    }
}

/// Counts the rows of COPY's text format: one line each, since a newline within a value is written
/// as a backslash and an `n`.
#[derive(Debug, Default)]
struct RowCounter {
    newlines: u64,
    length: u64,
    /// The last eight bytes, the last of them lowest.
    tail: u64,
}

/// The line that ends the data and two empty ones: `dumpTableData_copy` of `pg_dump.c`. A value that
/// looks like it has its backslash doubled.
const END: [u8; 5] = *b"\\.\n\n\n";

impl RowCounter {
    #[inline]
    fn count(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.newlines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        if let Some(last) = bytes.last_chunk::<8>() {
            self.tail = u64::from_be_bytes(*last);
        } else {
            for byte in bytes {
                self.tail = self.tail << 8 | u64::from(*byte);
            }
        }
    }

    /// The rows, if the data have come to their end.
    fn rows(&self) -> Option<u64> {
        let [_, _, before, tail @ ..] = self.tail.to_be_bytes();
        let is_own_line = self.length == END.len() as u64 || before == b'\n';
        (tail == END && is_own_line).then(|| self.newlines - 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(pieces: &[&str]) -> Option<u64> {
        let mut counter = RowCounter::default();
        for piece in pieces {
            counter.count(piece.as_bytes());
        }
        counter.rows()
    }

    #[test]
    fn rows_are_the_lines_before_the_end() {
        assert_eq!(rows(&["\\.\n\n\n"]), Some(0));
        assert_eq!(rows(&["1\ta\n", "2\t\\\\.\n", "\\.\n\n\n"]), Some(2));
        assert_eq!(rows(&["\n\n\n\\.\n\n\n"]), Some(3));
        assert_eq!(
            rows(&["a very long first value\n\\", ".", "\n", "\n", "\n"]),
            Some(1)
        );
    }

    #[test]
    fn rows_without_their_end_are_not_counted() {
        assert_eq!(rows(&[]), None);
        assert_eq!(rows(&["1\n2\n"]), None);
        assert_eq!(rows(&["1\n\\.\n\n"]), None);
        assert_eq!(rows(&["value\\.\n\n\n"]), None);
        assert_eq!(rows(&["\\.\n\n\n1\n"]), None);
    }
}
