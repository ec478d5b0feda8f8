//! The format's primitives out of pieces that may be cut anywhere.

use crate::error::{Error, Result};

/// The pushed bytes that have not been read, and where the first of them stands in the archive.
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
    pub(super) fn take(&mut self, most: u64) -> &'a [u8] {
        let length =
            usize::try_from(most).map_or(self.bytes.len(), |most| most.min(self.bytes.len()));
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        self.offset += length as u64;
        taken
    }

    /// An error that says where.
    pub(super) fn damaged(&self, what: impl AsRef<str>) -> Error {
        Error::damaged(format!(
            "the PostgreSQL archive is damaged at byte {}: {}",
            self.offset,
            what.as_ref()
        ))
    }
}

/// A text of the archive. Its encoding is that of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    Null,
    /// Read, but not wanted.
    Skipped,
    Kept(Vec<u8>),
}

/// What to do with a text that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Nothing,
    /// All of it; one that claims to be longer is damage.
    UpTo(u32),
}

/// Reads one primitive at a time. `None` means that it is not complete yet: ask again with more.
#[derive(Debug, Default)]
pub(super) struct Reader {
    held: [u8; 16],
    filled: usize,
    text: Option<PartialText>,
}

#[derive(Debug)]
struct PartialText {
    left: u64,
    kept: Option<Vec<u8>>,
}

impl Reader {
    /// The next `N` bytes, 16 at most.
    pub(super) fn fixed<const N: usize>(&mut self, input: &mut Input<'_>) -> Option<[u8; N]> {
        if self.filled == 0
            && let Some(bytes) = input.bytes.first_chunk::<N>()
        {
            input.take(N as u64);
            return Some(*bytes);
        }
        let part = input.take((N - self.filled) as u64);
        let filled = self.filled + part.len();
        self.held[self.filled..filled].copy_from_slice(part);
        self.filled = filled;
        if filled < N {
            return None;
        }
        self.filled = 0;
        self.held.first_chunk().copied()
    }

    pub(super) fn byte(&mut self, input: &mut Input<'_>) -> Option<u8> {
        self.fixed::<1>(input).map(|[byte]| byte)
    }

    /// `ReadInt` of `pg_backup_archiver.c`: a sign byte, then the magnitude, least significant byte
    /// first. Four bytes of it: every build that writes these versions has a 4-byte int.
    #[inline]
    pub(super) fn integer(&mut self, input: &mut Input<'_>) -> Result<Option<i64>> {
        let Some([sign, magnitude @ ..]) = self.fixed::<5>(input) else {
            return Ok(None);
        };
        let magnitude = i64::from(u32::from_le_bytes(magnitude));
        match sign {
            0 => Ok(Some(magnitude)),
            1 => Ok(Some(-magnitude)),
            _ => Err(input.damaged(format!("{sign} is not a sign"))),
        }
    }

    /// `ReadStr` of `pg_backup_archiver.c`. Memory grows with the bytes that come, not with the
    /// length that is claimed.
    pub(super) fn text(&mut self, input: &mut Input<'_>, keep: Keep) -> Result<Option<Text>> {
        if self.text.is_none() {
            let Some(length) = self.integer(input)? else {
                return Ok(None);
            };
            let Ok(left) = u64::try_from(length) else {
                return match length {
                    -1 => Ok(Some(Text::Null)),
                    _ => Err(input.damaged("a text of negative length")),
                };
            };
            let kept = match keep {
                Keep::Nothing => None,
                Keep::UpTo(most) if left <= u64::from(most) => Some(Vec::new()),
                Keep::UpTo(_) => {
                    return Err(input.damaged(format!("a name or value of {left} bytes")));
                }
            };
            self.text = Some(PartialText { left, kept });
        }
        if let Some(text) = &mut self.text {
            let part = input.take(text.left);
            text.left -= part.len() as u64;
            if let Some(kept) = &mut text.kept {
                kept.extend_from_slice(part);
            }
            if text.left > 0 {
                return Ok(None);
            }
        }
        Ok(self.text.take().map(|text| match text.kept {
            Some(kept) => Text::Kept(kept),
            None => Text::Skipped,
        }))
    }
}
