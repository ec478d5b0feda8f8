//! The format's primitives out of pieces that may be cut anywhere.

use crate::error::{Error, Result};

/// The pushed bytes that have not been read, and where the first of them stands in the snapshot.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    offset: u64,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8], offset: u64) -> Self {
        Self { bytes, offset }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Up to `most` of the next bytes.
    #[inline]
    pub(super) fn take(&mut self, most: u64) -> &'a [u8] {
        let length =
            usize::try_from(most).map_or(self.bytes.len(), |most| most.min(self.bytes.len()));
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        self.offset += length as u64;
        taken
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        self.offset += 1;
        Some(*first)
    }
}

/// An error that says where.
pub(super) fn damaged(offset: u64, what: impl AsRef<str>) -> Error {
    Error::damaged(format!(
        "the Redis snapshot is damaged at byte {offset}: {}",
        what.as_ref()
    ))
}

/// What stands where a length may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// So many, whatever is counted.
    Plain(u64),
    /// The number of a special encoding of a string.
    Special(u8),
}

/// Reads a length, and keeps the first bytes of one that is cut.
#[derive(Debug, Default)]
pub(super) struct LengthReader {
    held: [u8; 9],
    filled: usize,
}

impl LengthReader {
    /// `None` means that it is not complete yet: ask again with more.
    #[inline]
    pub(super) fn read(&mut self, input: &mut Input<'_>) -> Result<Option<Length>> {
        if self.filled == 0
            && let [first, ..] = input.bytes
        {
            let short = match first >> 6 {
                0 => Some(Length::Plain(u64::from(*first))),
                3 => Some(Length::Special(first & 0x3f)),
                _ => None,
            };
            if short.is_some() {
                input.take(1);
                return Ok(short);
            }
        }
        self.read_long(input)
    }

    /// One of two, five or nine bytes; the bytes after the first are most significant first.
    fn read_long(&mut self, input: &mut Input<'_>) -> Result<Option<Length>> {
        if self.filled == 0 {
            let Some(first) = input.byte() else {
                return Ok(None);
            };
            self.held[0] = first;
            self.filled = 1;
        }
        let first = self.held[0];
        let size = match first {
            0x40..=0x7f => 2,
            0x80 => 5,
            0x81 => 9,
            _ => {
                return Err(damaged(
                    input.offset() - 1,
                    format!("{first:#04x} does not begin a length"),
                ));
            }
        };
        let part = input.take((size - self.filled) as u64);
        self.held[self.filled..self.filled + part.len()].copy_from_slice(part);
        self.filled += part.len();
        if self.filled < size {
            return Ok(None);
        }
        self.filled = 0;
        let number = self.held[1..size]
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        Ok(Some(Length::Plain(match size {
            2 => u64::from(first & 0x3f) << 8 | number,
            _ => number,
        })))
    }
}
