//! Reads a snapshot (RDB) of Redis or Valkey as it passes: is it whole, and what is in it?
//!
//! The records say where they end, so does the whole, and a checksum follows. Every record is
//! followed, strings are passed over by their length. Where one is not known, because a newer server
//! or an old candidate wrote it, nothing is guessed: from there bytes are only summed, and the
//! snapshot is whole where its end mark and its checksum are in their place.
//!
//! The layout is that of `rdb.c` in Redis up to 8.8 and Valkey up to 9:
//!
//! ```text
//! snapshot = ("REDIS", four digits | "VALKEY", three digits), record*, 0xff, checksum
//! record   = operation, what it needs
//!          | type, name, value             a key
//! checksum = CRC64 of all before it, eight bytes, least significant first; zero: none
//! length   = 00xxxxxx | 01xxxxxx + 1 byte | 10000000 + 4 bytes | 10000001 + 8 bytes
//! string   = length, bytes | 110000xx + 1, 2 or 4 bytes
//!          | 11000011, length, length of what it decompresses to, LZF
//! ```

mod checksum;
mod facts;
mod grammar;
mod input;
mod mark;
mod walker;

#[cfg(test)]
mod generator;
#[cfg(test)]
mod tests;

pub use facts::{Checksum, Flavour, Keys, RdbFacts};
pub use mark::MarkStripper;

use crate::error::{Error, Result};
use crate::pipeline::{Inspection, Inspector};
use checksum::Lagging;
use grammar::{CHECKSUM_SINCE, END, KNOWN_VALKEY, NEWEST_REDIS};
use input::{Input, damaged};
use std::collections::{BTreeMap, BTreeSet};
use walker::{Stop, Walker};

/// The size of the magic with its version, in bytes.
const MAGIC: usize = 9;

/// Follows a snapshot byte by byte.
///
/// Memory is bounded whatever the snapshot claims: its strings pass through, and only what
/// [`RdbFacts`] says is kept.
pub struct RdbInspector {
    offset: u64,
    sum: Lagging,
    magic: Vec<u8>,
    part: Part,
    facts: RdbFacts,
    /// Damage was found: the state is not to be relied on.
    failed: bool,
}

/// The part of the snapshot that the next byte belongs to.
enum Part {
    Magic,
    Records(Walker),
    /// The checksum, and where it ends.
    Checksum(u64),
    /// Something unknown, up to wherever the stream ends.
    Unknown,
}

/// All that is known of a snapshot that was found whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its size in bytes.
    pub raw_size: u64,
    /// What it holds.
    pub facts: RdbFacts,
}

impl Default for RdbInspector {
    fn default() -> Self {
        Self::new()
    }
}

impl RdbInspector {
    /// For one snapshot, from its first byte.
    pub fn new() -> Self {
        Self {
            offset: 0,
            sum: Lagging::new(),
            magic: Vec::with_capacity(MAGIC),
            part: Part::Magic,
            facts: RdbFacts {
                format: Flavour::Redis,
                rdb_version: 0,
                server: None,
                server_version: None,
                databases: BTreeMap::new(),
                functions: 0,
                checksum: Checksum::Unchecked,
                walked: true,
                not_walked: None,
                modules: BTreeSet::new(),
            },
            failed: false,
        }
    }

    /// Takes the next bytes of the snapshot, cut anywhere.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.failed {
            let what = "it follows damage that was found before";
            return Err(damaged(self.offset, what));
        }
        let result = self.advance(&mut Input::new(bytes, self.offset));
        self.sum.push(bytes);
        self.offset += bytes.len() as u64;
        self.failed = result.is_err();
        result
    }

    fn advance(&mut self, input: &mut Input<'_>) -> Result<()> {
        while !input.is_empty() {
            match &mut self.part {
                Part::Magic => {
                    let missing = MAGIC - self.magic.len();
                    self.magic.extend_from_slice(input.take(missing as u64));
                    if self.magic.len() < MAGIC {
                        return Ok(());
                    }
                    self.part = self.begin()?;
                }
                Part::Records(walker) => match walker.advance(input, &mut self.facts) {
                    Ok(()) => {
                        if let Some(end) = walker.end() {
                            let size = match self.facts.rdb_version {
                                CHECKSUM_SINCE.. => checksum::SIZE as u64,
                                _ => 0,
                            };
                            self.part = Part::Checksum(end + 1 + size);
                        }
                    }
                    Err(Stop::Unknown(what)) => self.part = Part::not_walked(&mut self.facts, what),
                    Err(Stop::Damaged(error)) => return Err(error),
                },
                Part::Checksum(end) => {
                    input.take(*end - input.offset());
                    if !input.is_empty() {
                        return Err(damaged(*end, "something follows the end of the snapshot"));
                    }
                }
                Part::Unknown => {
                    input.take(u64::MAX);
                }
            }
        }
        Ok(())
    }

    /// What follows the magic.
    fn begin(&mut self) -> Result<Part> {
        let (flavour, digits, newest) = match &*self.magic {
            [b'R', b'E', b'D', b'I', b'S', digits @ ..] => (Flavour::Redis, digits, NEWEST_REDIS),
            [b'V', b'A', b'L', b'K', b'E', b'Y', digits @ ..] => {
                (Flavour::Valkey, digits, KNOWN_VALKEY)
            }
            _ => return Err(damaged(0, "it does not begin like one")),
        };
        let mut version = 0;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return Err(damaged(0, "it does not begin with a version"));
            }
            version = version * 10 + u32::from(digit - b'0');
        }
        self.facts.format = flavour;
        self.facts.rdb_version = version;
        let known = match flavour {
            Flavour::Redis => 1..=newest,
            Flavour::Valkey => newest..=newest,
        };
        if known.contains(&version) {
            return Ok(Part::Records(Walker::new(flavour, version)));
        }
        let magic = String::from_utf8_lossy(&self.magic);
        let what = format!("version {magic} of the format is not known");
        Ok(Part::not_walked(&mut self.facts, what))
    }

    /// The snapshot is over: an error unless it ended where it says that it does.
    pub fn complete(self) -> Result<Snapshot> {
        if self.failed {
            let what = "damage was found in it";
            return Err(damaged(self.offset, what));
        }
        let cut = match &self.part {
            Part::Magic => Some("within its first nine"),
            Part::Records(walker) if walker.is_between() => Some("before its end mark"),
            Part::Records(_) => Some("within a record"),
            Part::Checksum(end) if self.offset < *end => Some("within its checksum"),
            Part::Checksum(_) | Part::Unknown => None,
        };
        if let Some(cut) = cut {
            return Err(Error::damaged(format!(
                "the Redis snapshot ends after {} bytes, {cut}",
                self.offset
            )));
        }
        let mut facts = self.facts;
        facts.checksum = check(self.sum, self.offset, facts.rdb_version)?;
        Ok(Snapshot {
            raw_size: self.offset,
            facts,
        })
    }
}

impl Part {
    fn not_walked(facts: &mut RdbFacts, what: String) -> Self {
        facts.walked = false;
        facts.not_walked = Some(what);
        Self::Unknown
    }
}

/// Looks at the end of a snapshot of `size` bytes: the end mark, and the checksum behind it.
fn check(sum: Lagging, size: u64, version: u32) -> Result<Checksum> {
    let no_end = |at: u64| damaged(at, format!("{END:#04x}, the end mark, is not there"));
    if version < CHECKSUM_SINCE {
        return match sum.last_byte() {
            Some(END) => Ok(Checksum::Unchecked),
            _ => Err(no_end(size.saturating_sub(1))),
        };
    }
    let at = size.saturating_sub(checksum::SIZE as u64);
    match sum.complete() {
        Some((END, 0, _)) => Ok(Checksum::Unchecked),
        Some((END, stored, computed)) if stored == computed => Ok(Checksum::Verified),
        Some((END, stored, computed)) => Err(damaged(
            at,
            format!(
                "there is the checksum {stored:016x}, but the bytes before it give {computed:016x}"
            ),
        )),
        _ => Err(no_end(at.saturating_sub(1))),
    }
}

impl Inspector for RdbInspector {
    fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.push(bytes)
    }

    fn finish(self: Box<Self>) -> Result<Inspection> {
        let snapshot = self.complete()?;
        let facts = serde_json::to_value(&snapshot.facts)
            .map_err(|error| Error::failed("cannot write a snapshot's facts").caused_by(error))?;
        Ok(Inspection {
            raw_size: snapshot.raw_size,
            facts,
        })
    }
}
