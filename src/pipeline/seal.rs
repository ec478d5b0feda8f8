//! A source's stream into what is stored.

use super::halves::{self, Input, Measured, Outlet, Output, Pieces};
use super::inspector::{Inspection, Inspector};
use super::zstandard::{FrameReader, FrameWriter};
use crate::error::{Error, Kind, Result};
use std::ops::RangeInclusive;

/// The compression levels that can be asked for. Those above 19 need more memory to read back than
/// stock `zstd -d` allows itself.
pub const LEVELS: RangeInclusive<u8> = 1..=19;

/// The highest level that is left to the transport's own compressor. Above it a zstd transport is
/// decoded and compressed again here.
pub const TRANSPORT_LEVEL: u8 = 3;

/// What a source's bytes are as they arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// As the producer wrote them.
    Raw,
    /// Compressed beside the producer, as whole zstd frames.
    Zstd,
    /// The same, by lifeboat's own program, which counts and digests what it compresses: it is not decoded again
    /// on its way, at a level that needs nothing else. A third of the time of a volume's backup would go there.
    Proven,
}

/// How a stream is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealOptions {
    /// What arrives.
    pub incoming: Incoming,
    /// The zstd level, within [`LEVELS`].
    pub level: u8,
    /// Threads that compress, where the stream is compressed here.
    pub threads: u32,
}

/// Starts a seal: raw or zstd bytes in, zstd bytes to store out, the inspector fed with raw ones.
///
/// A zstd transport at a level up to [`TRANSPORT_LEVEL`] comes out as it went in, uncopied, while a
/// thread decodes it beside. A stream that is not whole is a [`Kind::Failed`]: nothing stored has
/// been damaged yet.
///
/// Must be called within a tokio runtime.
pub fn seal(options: &SealOptions, inspector: Box<dyn Inspector>) -> Result<(Input, Output)> {
    let SealOptions {
        incoming,
        level,
        threads,
    } = *options;
    if !LEVELS.contains(&level) {
        return Err(
            Error::usage(format!("there is no compression level {level}"))
                .hint("levels are 1 (fast) to 19 (small)"),
        );
    }
    if incoming == Incoming::Proven {
        return Ok(halves::beside(|pieces, _| count(pieces)));
    }
    let encoded_here = incoming == Incoming::Raw || level > TRANSPORT_LEVEL;
    let work = move |pieces: &mut Pieces, outlet: &Outlet| {
        let worker = Worker {
            inspector,
            reader: match incoming {
                Incoming::Raw | Incoming::Proven => None,
                Incoming::Zstd => Some(FrameReader::new()?),
            },
            writer: if encoded_here {
                Some(FrameWriter::new(level, threads)?)
            } else {
                None
            },
            raw_size: 0,
            stored_size: 0,
        };
        worker
            .run(pieces, outlet)
            .map_err(|error| match error.kind() {
                Kind::Damaged => error.with_kind(Kind::Failed),
                _ => error,
            })
    };
    Ok(if encoded_here {
        halves::through(work)
    } else {
        halves::beside(work)
    })
}

/// Counts what passes as it is. How long it is uncompressed, its producer knows.
fn count(pieces: &mut Pieces) -> Result<Measured> {
    let mut stored_size = 0;
    while let Some(bytes) = pieces.next()? {
        stored_size += bytes.len() as u64;
    }
    Ok(Measured {
        raw_size: 0,
        stored_size,
        inspection: Inspection {
            raw_size: 0,
            facts: serde_json::Value::Null,
        },
    })
}

struct Worker {
    inspector: Box<dyn Inspector>,
    reader: Option<FrameReader>,
    writer: Option<FrameWriter>,
    raw_size: u64,
    stored_size: u64,
}

impl Worker {
    fn run(mut self, pieces: &mut Pieces, outlet: &Outlet) -> Result<Measured> {
        while let Some(bytes) = pieces.next()? {
            if self.writer.is_none() {
                self.stored_size += bytes.len() as u64;
            }
            match self.reader.take() {
                None => self.raw(&bytes, outlet)?,
                Some(mut reader) => {
                    reader.decode(&bytes, |raw| self.raw(raw, outlet))?;
                    self.reader = Some(reader);
                }
            }
        }
        if let Some(reader) = &self.reader {
            reader.finish()?;
        }
        if let Some(writer) = &mut self.writer {
            let stored_size = &mut self.stored_size;
            writer.finish(|bytes| {
                *stored_size += bytes.len() as u64;
                outlet.write(bytes)
            })?;
        }
        Ok(Measured {
            raw_size: self.raw_size,
            stored_size: self.stored_size,
            inspection: self.inspector.finish()?,
        })
    }

    /// Raw bytes: seen by the inspector, then compressed where that is done here.
    fn raw(&mut self, raw: &[u8], outlet: &Outlet) -> Result<()> {
        self.raw_size += raw.len() as u64;
        self.inspector.feed(raw)?;
        if let Some(writer) = &mut self.writer {
            let stored_size = &mut self.stored_size;
            writer.write(raw, |bytes| {
                *stored_size += bytes.len() as u64;
                outlet.write(bytes)
            })?;
        }
        Ok(())
    }
}
