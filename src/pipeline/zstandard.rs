//! zstd in memory: whole frames in, whole frames out, both with bounded buffers.

use super::halves::PIECE;
use crate::error::{Error, OrFail, Result};
use bytes::Bytes;
use std::io;
use zstd::stream::raw::{CParameter, DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

/// The largest window that is accepted, 2^27 bytes: what stock `zstd -d` takes without `--long`. A
/// frame can ask for a thousand times as much memory.
const WINDOW_LOG_MAX: u32 = 27;

/// The input of one compression job, in bytes, at the levels that promise little memory. zstd's own
/// choice is four windows (8 MiB at level 3), for each thread and then some.
const SMALL_JOB: u32 = 1 << 20;

/// The highest level whose jobs are [`SMALL_JOB`]s; above it ratio is wanted more than memory.
const SMALL_JOB_LEVEL: u8 = 3;

/// Decodes a sequence of zstd frames, which must be whole.
pub(super) struct FrameReader {
    decoder: Decoder<'static>,
    buffer: Vec<u8>,
    consumed: u64,
    /// At least one frame has begun.
    begun: bool,
    /// The last frame that has begun has not ended.
    open: bool,
}

impl FrameReader {
    pub(super) fn new() -> Result<Self> {
        let mut decoder = Decoder::new().or_fail(|| "cannot start decompression")?;
        decoder
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
            .or_fail(|| "cannot bound decompression")?;
        Ok(Self {
            decoder,
            buffer: Vec::with_capacity(PIECE),
            consumed: 0,
            begun: false,
            open: false,
        })
    }

    /// Decodes `bytes`, giving the raw ones to `sink` in pieces of at most [`PIECE`].
    pub(super) fn decode(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut flushed = true;
        while !bytes.is_empty() || !flushed {
            let mut input = InBuffer::around(bytes);
            let mut output = OutBuffer::around(&mut self.buffer);
            let wanted = self
                .decoder
                .run(&mut input, &mut output)
                .map_err(|error| broken(self.consumed, error))?;
            let read = input.pos();
            // A full buffer may have left something inside the decoder; the end of a frame has not.
            flushed = output.pos() < PIECE || wanted == 0;
            self.consumed += read as u64;
            self.begun |= read > 0;
            self.open = wanted != 0;
            bytes = &bytes[read..];
            if !self.buffer.is_empty() {
                sink(&self.buffer)?;
            }
        }
        Ok(())
    }

    /// An error unless the last frame has ended.
    pub(super) fn finish(&self) -> Result<()> {
        if !self.begun {
            return Err(Error::damaged("the compressed stream is empty"));
        }
        if self.open {
            return Err(Error::damaged(format!(
                "the compressed stream ends within a frame, after {} bytes",
                self.consumed
            )));
        }
        Ok(())
    }
}

fn broken(offset: u64, error: io::Error) -> Error {
    Error::damaged(format!(
        "the compressed stream is broken near byte {offset}"
    ))
    .caused_by(error)
}

/// Writes one zstd frame with a checksum of its content.
pub(super) struct FrameWriter {
    encoder: Encoder<'static>,
    buffer: Vec<u8>,
}

impl FrameWriter {
    /// `threads` compress beside the calling one; with 0 or 1 the calling thread does.
    pub(super) fn new(level: u8, threads: u32) -> Result<Self> {
        let mut encoder = Encoder::new(i32::from(level)).or_fail(|| "cannot start compression")?;
        let mut parameters = vec![CParameter::ChecksumFlag(true)];
        if threads > 1 {
            parameters.push(CParameter::NbWorkers(threads));
            if level <= SMALL_JOB_LEVEL {
                parameters.push(CParameter::JobSize(SMALL_JOB));
            }
        }
        for parameter in parameters {
            encoder
                .set_parameter(parameter)
                .or_fail(|| "cannot set up compression")?;
        }
        Ok(Self {
            encoder,
            buffer: Vec::with_capacity(PIECE),
        })
    }

    /// Compresses `raw`, giving `sink` what is ready in pieces of at most [`PIECE`].
    pub(super) fn write(
        &mut self,
        raw: &[u8],
        mut sink: impl FnMut(Bytes) -> Result<()>,
    ) -> Result<()> {
        let mut input = InBuffer::around(raw);
        while input.pos() < raw.len() {
            let filled = self.buffer.len();
            let mut output = OutBuffer::around_pos(&mut self.buffer, filled);
            self.encoder
                .run(&mut input, &mut output)
                .or_fail(|| "cannot compress")?;
            self.pass_on(&mut sink)?;
        }
        Ok(())
    }

    /// Ends the frame.
    pub(super) fn finish(&mut self, mut sink: impl FnMut(Bytes) -> Result<()>) -> Result<()> {
        loop {
            let filled = self.buffer.len();
            let mut output = OutBuffer::around_pos(&mut self.buffer, filled);
            let left = self
                .encoder
                .finish(&mut output, true)
                .or_fail(|| "cannot end the compressed stream")?;
            if left == 0 {
                break;
            }
            self.pass_on(&mut sink)?;
        }
        sink(Bytes::from(std::mem::take(&mut self.buffer)))
    }

    /// Hands the buffer itself to `sink` when it is full.
    fn pass_on(&mut self, sink: &mut impl FnMut(Bytes) -> Result<()>) -> Result<()> {
        if self.buffer.len() < PIECE {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        sink(Bytes::from(full))
    }
}
