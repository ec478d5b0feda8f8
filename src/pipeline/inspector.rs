//! What looks at the raw bytes of a stream as they pass.

use crate::error::{Error, Result};
use serde_json::{Value, json};

/// Reads a stream to its last byte and says whether it is whole, and what is in it.
///
/// It runs on the thread that decodes, so it must neither block nor keep what it sees.
pub trait Inspector: Send {
    /// Takes the next raw bytes, cut anywhere.
    fn feed(&mut self, bytes: &[u8]) -> Result<()>;

    /// The stream is over: an error unless it ended where its format says that it ends.
    fn finish(self: Box<Self>) -> Result<Inspection>;
}

/// What an [`Inspector`] learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The raw bytes that it was fed.
    pub raw_size: u64,
    /// What they hold, for `facts.json`; `null` where nothing is known of the format.
    pub facts: Value,
}

/// For streams without a known format: counts bytes, and can insist on the first ones.
#[derive(Debug, Clone, Default)]
pub struct RawInspector {
    raw_size: u64,
    magic: Vec<u8>,
}

impl RawInspector {
    /// Takes any stream, an empty one too.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes only streams that begin with `magic`.
    #[must_use]
    pub fn with_magic(magic: impl Into<Vec<u8>>) -> Self {
        Self {
            raw_size: 0,
            magic: magic.into(),
        }
    }
}

impl Inspector for RawInspector {
    fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        let seen = usize::try_from(self.raw_size).unwrap_or(usize::MAX);
        if let Some(expected) = self.magic.get(seen..) {
            let compared = expected.len().min(bytes.len());
            if expected[..compared] != bytes[..compared] {
                return Err(Error::damaged("the stream does not begin as it should"));
            }
        }
        self.raw_size += bytes.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Inspection> {
        if self.raw_size < self.magic.len() as u64 {
            return Err(Error::damaged(format!(
                "the stream ends after {} bytes, before it has begun as it should",
                self.raw_size
            )));
        }
        Ok(Inspection {
            raw_size: self.raw_size,
            facts: json!(null),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect(magic: &str, pieces: &[&str]) -> Result<Inspection> {
        let mut inspector = Box::new(RawInspector::with_magic(magic));
        for piece in pieces {
            inspector.feed(piece.as_bytes())?;
        }
        inspector.finish()
    }

    #[test]
    fn counts_what_passes() {
        assert_eq!(inspect("", &[]).unwrap().raw_size, 0);
        assert_eq!(
            inspect("REDIS", &["R", "ED", "IS0011", ""])
                .unwrap()
                .raw_size,
            9
        );
    }

    #[test]
    fn insists_on_the_magic() {
        assert!(inspect("REDIS", &["RE", "DUS"]).is_err());
        assert!(inspect("REDIS", &["REDI"]).is_err());
        assert!(inspect("REDIS", &[]).is_err());
    }
}
