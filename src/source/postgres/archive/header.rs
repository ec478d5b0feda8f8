//! The archive's header: `ReadHead` of `pg_backup_archiver.c`.

use super::facts::ArchiveFacts;
use super::reader::{Input, Keep, Reader, Text};
use crate::error::Result;

/// The longest version or database name that is believed, in bytes.
const LONGEST: u32 = 64 * 1024;

/// `archCustom` of `pg_backup.h`.
const CUSTOM: u8 = 1;

/// What of the layout depends on the version and the build that wrote it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// The archive version's second number; its first is always 1.
    pub(super) minor: u8,
    /// Bytes of a file offset.
    pub(super) offset_width: u8,
}

/// Reads the header field by field.
#[derive(Debug, Default)]
pub(super) struct HeaderReader {
    field: Field,
    layout: Layout,
    /// Seconds, minutes, hours, day, month from 0, year from 1900, daylight saving.
    created: Vec<i64>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Field {
    #[default]
    Magic,
    Version,
    Widths,
    Compression,
    Created,
    Database,
    ServerVersion,
    DumpVersion,
}

impl HeaderReader {
    /// Reads on; the layout when the header is complete.
    pub(super) fn read(
        &mut self,
        reader: &mut Reader,
        input: &mut Input<'_>,
        facts: &mut ArchiveFacts,
    ) -> Result<Option<Layout>> {
        loop {
            let next = match self.field {
                Field::Magic => match reader.fixed(input) {
                    Some(magic) if magic == *b"PGDMP" => Field::Version,
                    Some(_) => {
                        return Err(input.damaged("this is not a custom-format archive"));
                    }
                    None => return Ok(None),
                },
                Field::Version => match reader.fixed(input) {
                    Some([1, minor @ 14..=16, revision]) => {
                        self.layout.minor = minor;
                        facts.format = format!("1.{minor}-{revision}");
                        Field::Widths
                    }
                    Some([major, minor, _]) => {
                        return Err(input
                            .damaged(format!("archive version {major}.{minor} is not known"))
                            .hint("lifeboat knows 1.14 to 1.16, of PostgreSQL 12 to 18"));
                    }
                    None => return Ok(None),
                },
                Field::Widths => match reader.fixed(input) {
                    Some([4, offset_width @ 4..=8, CUSTOM]) => {
                        self.layout.offset_width = offset_width;
                        Field::Compression
                    }
                    Some([integer, offset, format]) => {
                        return Err(input.damaged(format!(
                            "integers of {integer} bytes, offsets of {offset}, format {format}"
                        )));
                    }
                    None => return Ok(None),
                },
                Field::Compression => {
                    // Until 1.14 zlib's level, -1 for its default; since 1.15 an algorithm.
                    let compression = if self.layout.minor >= 15 {
                        reader.byte(input).map(i64::from)
                    } else {
                        reader.integer(input)?
                    };
                    let Some(compression) = compression else {
                        return Ok(None);
                    };
                    facts.compressed = compression != 0;
                    Field::Created
                }
                Field::Created => {
                    let Some(value) = reader.integer(input)? else {
                        return Ok(None);
                    };
                    self.created.push(value);
                    if self.created.len() < 7 {
                        continue;
                    }
                    facts.created = self.created(input)?;
                    Field::Database
                }
                Field::Database => match value(reader, input)? {
                    Some(database) => {
                        facts.database = database;
                        Field::ServerVersion
                    }
                    None => return Ok(None),
                },
                Field::ServerVersion => match value(reader, input)? {
                    Some(version) => {
                        facts.server_version = version;
                        Field::DumpVersion
                    }
                    None => return Ok(None),
                },
                Field::DumpVersion => match value(reader, input)? {
                    Some(version) => {
                        facts.pg_dump_version = version;
                        return Ok(Some(self.layout));
                    }
                    None => return Ok(None),
                },
            };
            self.field = next;
        }
    }

    fn created(&self, input: &Input<'_>) -> Result<String> {
        match *self.created.as_slice() {
            [
                second @ 0..=60,
                minute @ 0..=59,
                hour @ 0..=23,
                day @ 1..=31,
                month @ 0..=11,
                year @ 70..=8099,
                -1..=1,
            ] => Ok(format!(
                "{:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}",
                year + 1900,
                month + 1
            )),
            _ => Err(input.damaged("its creation time is not a time")),
        }
    }
}

fn value(reader: &mut Reader, input: &mut Input<'_>) -> Result<Option<String>> {
    Ok(reader
        .text(input, Keep::UpTo(LONGEST))?
        .map(|text| match text {
            Text::Kept(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Text::Null | Text::Skipped => String::new(),
        }))
}
