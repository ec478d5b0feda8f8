//! Follows the records of a snapshot.

use super::facts::{Flavour, RdbFacts};
use super::grammar::{self, DEPTH, Record, Shape};
use super::input::{Input, Length, LengthReader, damaged};
use crate::error::Error;
use std::mem::take;

/// Longer strings are passed over even where they might have been wanted, in bytes.
const KEEP: u64 = 256;
/// No server has more databases with keys in them than are told apart here.
const DATABASES: usize = 65_536;
/// More modules than these are not named.
const MODULES: usize = 64;

/// Why the walk ends before the snapshot does.
#[derive(Debug)]
pub(super) enum Stop {
    Damaged(Error),
    /// Something that lifeboat does not know; the bytes may be whole.
    Unknown(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Damaged(error)
    }
}

/// Shapes of which some have been read, and how often all of them come.
#[derive(Debug, Clone, Copy)]
struct Frame {
    shapes: &'static [Shape],
    at: usize,
    times: u64,
}

/// How much of a string's head has been read.
#[derive(Debug, Clone, Copy)]
enum Head {
    Nothing,
    /// It is compressed; two lengths follow, before and after.
    Compressed,
    Size(u64),
}

/// The state between two bytes: lengths and counts are numbers, never room.
#[derive(Debug)]
pub(super) struct Walker {
    flavour: Flavour,
    version: u32,
    lengths: LengthReader,
    frames: Vec<Frame>,
    head: Head,
    /// Bytes whose content does not matter, or only to `kept`.
    skip: u64,
    kept: Option<Vec<u8>>,
    aux_name: Option<Vec<u8>>,
    database: u32,
    expires: bool,
    /// Where the end mark was, once it was.
    end: Option<u64>,
}

impl Walker {
    pub(super) fn new(flavour: Flavour, version: u32) -> Self {
        Self {
            flavour,
            version,
            lengths: LengthReader::default(),
            frames: Vec::with_capacity(DEPTH),
            head: Head::Nothing,
            skip: 0,
            kept: None,
            aux_name: None,
            database: 0,
            expires: false,
            end: None,
        }
    }

    /// Where the mark that ends the records was, in bytes from the start.
    pub(super) fn end(&self) -> Option<u64> {
        self.end
    }

    /// Between two records, rather than within one.
    pub(super) fn is_between(&self) -> bool {
        self.frames.is_empty() && self.skip == 0
    }

    /// Reads as much as there is, up to the end mark.
    pub(super) fn advance(
        &mut self,
        input: &mut Input<'_>,
        facts: &mut RdbFacts,
    ) -> Result<(), Stop> {
        while self.end.is_none() {
            if self.skip > 0 {
                let part = input.take(self.skip);
                self.skip -= part.len() as u64;
                if let Some(kept) = &mut self.kept {
                    kept.extend_from_slice(part);
                }
                if self.skip > 0 {
                    return Ok(());
                }
            }
            let Some(frame) = self.frames.last_mut() else {
                let Some(first) = input.byte() else {
                    return Ok(());
                };
                self.begin(first, input.offset() - 1, facts)?;
                continue;
            };
            let Some(shape) = frame.shapes.get(frame.at).copied() else {
                frame.at = 0;
                frame.times -= 1;
                if frame.times == 0 {
                    self.frames.pop();
                }
                continue;
            };
            if !self.read(shape, input, facts)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn begin(&mut self, first: u8, offset: u64, facts: &mut RdbFacts) -> Result<(), Stop> {
        match grammar::record(self.flavour, self.version, first) {
            Record::Key(value) => {
                self.count_key(offset, facts)?;
                self.push(value, 1);
                self.push(grammar::NAME, 1);
            }
            Record::Expiry(shapes) => {
                self.expires = true;
                self.push(shapes, 1);
            }
            Record::Function(shapes) => {
                facts.functions += 1;
                self.push(shapes, 1);
            }
            Record::Other(shapes) => self.push(shapes, 1),
            Record::End => self.end = Some(offset),
            Record::Unknown => {
                return Err(Stop::Unknown(format!(
                    "the record at byte {offset} is of type {first}, which is not known"
                )));
            }
        }
        Ok(())
    }

    fn count_key(&mut self, offset: u64, facts: &mut RdbFacts) -> Result<(), Stop> {
        if facts.databases.len() >= DATABASES && !facts.databases.contains_key(&self.database) {
            return Err(Stop::Unknown(format!(
                "the key at byte {offset} is in one database too many: {DATABASES} are told apart"
            )));
        }
        let keys = facts.databases.entry(self.database).or_default();
        keys.keys += 1;
        keys.expiring += u64::from(take(&mut self.expires));
        Ok(())
    }

    fn push(&mut self, shapes: &'static [Shape], times: u64) {
        if times > 0 {
            self.frames.push(Frame {
                shapes,
                at: 0,
                times,
            });
        }
    }

    /// The shape has been read: the one behind it is next.
    fn pass(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.at += 1;
        }
    }

    /// Reads one shape, or the head of it; false if there is not enough for that.
    fn read(
        &mut self,
        shape: Shape,
        input: &mut Input<'_>,
        facts: &mut RdbFacts,
    ) -> Result<bool, Stop> {
        match shape {
            Shape::Text | Shape::Kept => return self.text(shape == Shape::Kept, input),
            Shape::Raw(size) => {
                self.skip = u64::from(size);
                self.pass();
            }
            Shape::Score => {
                let Some(size) = input.byte() else {
                    return Ok(false);
                };
                self.skip = if size < 253 { u64::from(size) } else { 0 };
                self.pass();
            }
            Shape::AuxName => {
                self.aux_name = self.kept.take();
                self.pass();
            }
            Shape::AuxValue => {
                if let (Some(name), Some(value)) = (self.aux_name.take(), self.kept.take()) {
                    learn(&name, value, facts);
                }
                self.pass();
            }
            _ => {
                let Some(number) = self.number(input)? else {
                    return Ok(false);
                };
                self.numbered(shape, number, input, facts)?;
            }
        }
        Ok(true)
    }

    /// What depends on the `number` that the shape begins with, or is.
    fn numbered(
        &mut self,
        shape: Shape,
        number: u64,
        input: &Input<'_>,
        facts: &mut RdbFacts,
    ) -> Result<(), Stop> {
        let behind = input.offset();
        if shape != Shape::Items {
            self.pass();
        }
        match shape {
            Shape::Many(shapes) => self.push(shapes, number),
            Shape::Container if !(1..=2).contains(&number) => {
                let what = format!("before it, {number} stands for the kind of a list's node");
                return Err(damaged(behind, what).into());
            }
            Shape::Database => {
                self.database = u32::try_from(number)
                    .map_err(|_| damaged(behind, "before it, a database has an endless number"))?;
            }
            Shape::Module if facts.modules.len() < MODULES => {
                facts.modules.insert(grammar::module_name(number));
            }
            Shape::Items => match grammar::item(number) {
                Some([]) => self.pass(),
                Some(item) => self.push(item, 1),
                None => {
                    return Err(Stop::Unknown(format!(
                        "before byte {behind}, the value of a module has a part of kind {number}, \
                         which is not known"
                    )));
                }
            },
            _ => {}
        }
        Ok(())
    }

    fn number(&mut self, input: &mut Input<'_>) -> Result<Option<u64>, Error> {
        match self.lengths.read(input)? {
            Some(Length::Plain(number)) => Ok(Some(number)),
            Some(Length::Special(_)) => Err(damaged(
                input.offset() - 1,
                "a string stands where a number should",
            )),
            None => Ok(None),
        }
    }

    /// Reads a string's head, and leaves its bytes to be skipped.
    fn text(&mut self, keep: bool, input: &mut Input<'_>) -> Result<bool, Stop> {
        let (size, plain) = loop {
            match self.head {
                Head::Nothing => match self.lengths.read(input)? {
                    Some(Length::Plain(size)) => break (size, true),
                    Some(Length::Special(integer @ 0..=2)) => break (1 << integer, false),
                    Some(Length::Special(3)) => self.head = Head::Compressed,
                    Some(Length::Special(unknown)) => {
                        // Every known version has these four; a fifth is a sign of being lost.
                        let what = format!("there is no encoding {unknown} of a string");
                        return Err(damaged(input.offset() - 1, what).into());
                    }
                    None => return Ok(false),
                },
                Head::Compressed => match self.number(input)? {
                    Some(size) => self.head = Head::Size(size),
                    None => return Ok(false),
                },
                Head::Size(size) => match self.number(input)? {
                    Some(_) => break (size, false),
                    None => return Ok(false),
                },
            }
        };
        self.head = Head::Nothing;
        self.skip = size;
        self.kept = (keep && plain && size <= KEEP).then(Vec::new);
        self.pass();
        Ok(true)
    }
}

/// Takes what an auxiliary field says of the server; the others mean nothing here.
fn learn(name: &[u8], value: Vec<u8>, facts: &mut RdbFacts) {
    let server = match name {
        b"valkey-ver" => Flavour::Valkey,
        b"redis-ver" if facts.server != Some(Flavour::Valkey) => Flavour::Redis,
        _ => return,
    };
    if let Ok(version) = String::from_utf8(value)
        && version.bytes().all(|byte| byte.is_ascii_graphic())
    {
        facts.server = Some(server);
        facts.server_version = Some(version);
    }
}
