//! Each request's work.

use super::protocol::{Archived, Copied, Request};
use super::serve::{Incoming, Outgoing};
use super::{measure, place};
use crate::archive::{
    Archiver, Lister, Reader, Scan, TreeDigest, TreeFacts, extract, open_root, scan,
};
use crate::error::{Error, OrFail, Result};
use rustix::fd::OwnedFd;
use serde_json::Value;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

/// How much is gathered before it is compressed, and read at once from what is decompressed.
const PIECE: usize = 128 * 1024;

/// Does what is asked for.
pub(super) fn perform(
    request: Request,
    incoming: &mut Incoming<'_>,
    outgoing: &mut Outgoing<'_>,
) -> Result<Value> {
    match request {
        Request::Archive {
            root,
            level,
            threads,
            live,
        } => {
            let encoder = encoder(outgoing, level, threads)?;
            let mut archiver = Archiver::new(BufWriter::with_capacity(PIECE, encoder));
            let options = Scan {
                refuse_live_database: live,
                pass_over: place::is_ours,
            };
            let irregular = scan(&open(&root)?, options, &mut archiver)?;
            let (buffer, raw_size, tree) = archiver.finish()?;
            let encoder = unwrapped(buffer)?;
            encoder.finish().or_fail(|| "cannot compress")?;
            answer(&Archived {
                tree,
                irregular,
                raw_size,
            })
        }
        Request::Extract {
            root,
            into,
            raw_size,
        } => {
            let root = open(&root)?;
            let target = match &into {
                Some(name) => place::make(&root, name)?,
                None => root,
            };
            let decoder = zstd::Decoder::new(incoming).or_fail(|| "cannot decompress")?;
            let bounded = Bounded {
                inner: decoder,
                left: raw_size,
            };
            let mut reader = Reader::new(BufReader::with_capacity(PIECE, bounded));
            answer(&extract(&mut reader, &target)?)
        }
        Request::Digest { root } => answer(&digest(&open(&root)?)?),
        Request::List { root } => {
            let mut lister = Lister::new(BufWriter::with_capacity(PIECE, outgoing));
            scan(&open(&root)?, options(), &mut lister)?;
            unwrapped(lister.into_inner())?;
            Ok(Value::Null)
        }
        Request::Copy { from, to } => answer(&copy(&open(&from)?, &open(&to)?)?),
        Request::Measure { roots } => answer(&measure::measure(&roots)),
        Request::Swap {
            root,
            incoming,
            aside,
        } => place::swap(&open(&root)?, &incoming, &aside).map(|()| Value::Null),
        Request::SwapBack {
            root,
            incoming,
            aside,
        } => place::swap_back(&open(&root)?, &incoming, &aside).map(|()| Value::Null),
        Request::Remove { root, names } => {
            place::remove(&open(&root)?, &names).map(|()| Value::Null)
        }
    }
}

fn options() -> Scan {
    Scan {
        refuse_live_database: false,
        pass_over: place::is_ours,
    }
}

fn encoder<W: Write>(outgoing: W, level: u8, threads: u32) -> Result<zstd::Encoder<'static, W>> {
    let failed = || "cannot compress";
    let mut encoder = zstd::Encoder::new(outgoing, level.into()).or_fail(failed)?;
    encoder.include_checksum(true).or_fail(failed)?;
    encoder.multithread(threads).or_fail(failed)?;
    Ok(encoder)
}

fn digest(root: &OwnedFd) -> Result<TreeFacts> {
    let mut digest = TreeDigest::new();
    scan(root, options(), &mut digest)?;
    Ok(digest.finish())
}

/// The copy goes through an archive, so that it gets what a restore would; then it is read again.
fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<Copied> {
    let (source, sink) = io::pipe().or_fail(|| "cannot make a pipe")?;
    let (original, irregular) = std::thread::scope(|threads| {
        let writing = threads.spawn(|| {
            let mut archiver = Archiver::new(BufWriter::with_capacity(PIECE, sink));
            let irregular = scan(from, options(), &mut archiver)?;
            let (buffer, _, original) = archiver.finish()?;
            unwrapped(buffer)?;
            Ok::<_, Error>((original, irregular))
        });
        let mut reader = Reader::new(BufReader::with_capacity(PIECE, source));
        let extracted = extract(&mut reader, to);
        // A reader that has gone ends the writer, and the other way round: the first cause is the one to tell.
        drop(reader);
        let written = writing
            .join()
            .map_err(|_| Error::failed("the thread that reads the tree died"))?;
        match (written, extracted) {
            (Ok(written), Ok(_)) => Ok(written),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
            (Err(reading), Err(writing)) => Err(match writing.kind() {
                crate::error::Kind::Damaged => reading,
                _ => writing,
            }),
        }
    })?;
    Ok(Copied {
        original,
        copy: digest(to)?,
        irregular,
    })
}

/// What a buffer was in front of, once all of it went there.
fn unwrapped<W: Write>(buffer: BufWriter<W>) -> Result<W> {
    buffer
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .or_fail(|| "cannot send what was read")
}

fn open(root: &str) -> Result<OwnedFd> {
    open_root(Path::new(root))
}

fn answer(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value).or_fail(|| "cannot write the answer")
}

/// What is decompressed is never more than was announced.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other("it decompresses to more than the bytes of its manifest")
        })?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_stops_at_the_announced_size() {
        let bomb = zstd::encode_all(&vec![0; 10 << 20][..], 1).unwrap();
        let read = |left| {
            let inner = zstd::Decoder::new(&bomb[..]).unwrap();
            let mut bounded = Bounded { inner, left };
            io::copy(&mut bounded, &mut io::sink())
        };
        assert_eq!(read(10 << 20).unwrap(), 10 << 20);
        assert!(read((10 << 20) - 1).is_err());
    }
}
