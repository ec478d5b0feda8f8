//! What is stored back into the source's stream.

use super::halves::{self, Input, Measured, Outlet, Output, Pieces};
use super::inspector::Inspector;
use super::zstandard::FrameReader;
use crate::error::{Error, Result};
use bytes::Bytes;

/// What a stored stream may hold, as its manifest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes before compression, exactly.
    pub raw_size: u64,
}

/// Starts an unseal: stored bytes in, raw bytes out, the inspector fed with them.
///
/// Whatever the frames claim, no byte beyond the manifest's size comes out. A stream that is broken,
/// longer or shorter is [`Kind::Damaged`](crate::error::Kind::Damaged).
///
/// Must be called within a tokio runtime.
pub fn unseal(limits: Limits, inspector: Box<dyn Inspector>) -> (Input, Output) {
    halves::through(move |pieces, mut outlet| run(limits, inspector, pieces, &mut outlet))
}

/// Reads a stored stream as [`unseal`] does, for its verdict and its facts only.
///
/// Must be called within a tokio runtime.
pub fn examine(limits: Limits, inspector: Box<dyn Inspector>) -> Input {
    halves::into(move |pieces, mut outlet| run(limits, inspector, pieces, &mut outlet))
}

fn run(
    limits: Limits,
    mut inspector: Box<dyn Inspector>,
    pieces: &mut Pieces,
    outlet: &mut Outlet,
) -> Result<Measured> {
    let mut reader = FrameReader::new()?;
    let mut raw_size = 0;
    let mut stored_size = 0;
    while let Some(bytes) = pieces.next()? {
        stored_size += bytes.len() as u64;
        reader.decode(&bytes, |raw| {
            raw_size += raw.len() as u64;
            if raw_size > limits.raw_size {
                return Err(Error::damaged(format!(
                    "the stream decompresses to more than the {} bytes of its manifest",
                    limits.raw_size
                )));
            }
            inspector.feed(raw)?;
            if outlet.is_wanted() {
                outlet.write(Bytes::copy_from_slice(raw))?;
            }
            Ok(())
        })?;
    }
    reader.finish()?;
    if raw_size < limits.raw_size {
        return Err(Error::damaged(format!(
            "the stream decompresses to {raw_size} bytes, not to the {} of its manifest",
            limits.raw_size
        )));
    }
    Ok(Measured {
        raw_size,
        stored_size,
        inspection: inspector.finish()?,
    })
}
