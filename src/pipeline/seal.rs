//! A source's stream into what is stored.

use super::encryption::Recipients;
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
#[derive(Debug, Clone)]
pub struct SealOptions {
    /// What arrives.
    pub incoming: Incoming,
    /// The zstd level, within [`LEVELS`].
    pub level: u8,
    /// Threads that compress, where the stream is compressed here.
    pub threads: u32,
    /// Who it is encrypted to, where it is.
    pub recipients: Option<Recipients>,
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
        ref recipients,
    } = *options;
    if !LEVELS.contains(&level) {
        return Err(
            Error::usage(format!("there is no compression level {level}"))
                .hint("levels are 1 (fast) to 19 (small)"),
        );
    }
    if incoming == Incoming::Proven {
        return Ok(match recipients.clone() {
            None => halves::beside(|pieces, _| count(pieces)),
            Some(recipients) => {
                halves::through(move |pieces, outlet| pass(pieces, outlet.sealed(&recipients)?))
            }
        });
    }
    let encoded_here = incoming == Incoming::Raw || level > TRANSPORT_LEVEL;
    let recipients = recipients.clone();
    // What is not encoded here passes beside the worker, unless it has to be encrypted on its way.
    let through = encoded_here || recipients.is_some();
    let work = move |pieces: &mut Pieces, outlet: Outlet| {
        let outlet = match &recipients {
            Some(recipients) => outlet.sealed(recipients)?,
            None => outlet,
        };
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
            passed: 0,
        };
        worker
            .run(pieces, outlet)
            .map_err(|error| match error.kind() {
                Kind::Damaged => error.with_kind(Kind::Failed),
                _ => error,
            })
    };
    Ok(if through {
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

/// Encrypts what passes, and counts what comes out.
fn pass(pieces: &mut Pieces, mut outlet: Outlet) -> Result<Measured> {
    while let Some(bytes) = pieces.next()? {
        outlet.write(bytes)?;
    }
    Ok(Measured {
        raw_size: 0,
        stored_size: outlet.finish()?,
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
    /// Bytes that came in, which are the stored ones where they pass beside the worker.
    passed: u64,
}

impl Worker {
    fn run(mut self, pieces: &mut Pieces, mut outlet: Outlet) -> Result<Measured> {
        let passes_through = self.writer.is_none() && outlet.is_wanted();
        let beside = !outlet.is_wanted();
        while let Some(bytes) = pieces.next()? {
            self.passed += bytes.len() as u64;
            match self.reader.take() {
                None => self.raw(&bytes, &mut outlet)?,
                Some(mut reader) => {
                    reader.decode(&bytes, |raw| self.raw(raw, &mut outlet))?;
                    self.reader = Some(reader);
                }
            }
            if passes_through {
                outlet.write(bytes)?;
            }
        }
        if let Some(reader) = &self.reader {
            reader.finish()?;
        }
        if let Some(writer) = &mut self.writer {
            writer.finish(|bytes| outlet.write(bytes))?;
        }
        let sent = outlet.finish()?;
        Ok(Measured {
            raw_size: self.raw_size,
            stored_size: if beside { self.passed } else { sent },
            inspection: self.inspector.finish()?,
        })
    }

    /// Raw bytes: seen by the inspector, then compressed where that is done here.
    fn raw(&mut self, raw: &[u8], outlet: &mut Outlet) -> Result<()> {
        self.raw_size += raw.len() as u64;
        self.inspector.feed(raw)?;
        if let Some(writer) = &mut self.writer {
            writer.write(raw, |bytes| outlet.write(bytes))?;
        }
        Ok(())
    }
}
