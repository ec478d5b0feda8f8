//! The helper's side: takes requests and proves their ends, over its standard streams or over a socket.

use super::protocol::{
    ACKNOWLEDGED, DATA, END, End, Envelope, Failure, Frame, HELLO, Hello, LAST, REQUEST, VERSION,
};
use super::work;
use crate::error::{Error, OrFail, Result};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::process::{Resource, Rlimit};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

/// Whoever gave the order went away.
const ABANDONED: u8 = 96;

/// Serves until the input ends, and gives the exit code of the process. `socket` is where lifeboat listens, where it
/// is on the engine's own machine: what goes that way is not copied by the engine three times. Where nobody is there,
/// it is the standard streams.
pub fn serve(socket: Option<&Path>) -> ExitCode {
    // Every level of a tree is a folder that is held open.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    // Modes are set as they were, whatever this process was born with.
    rustix::process::umask(rustix::fs::Mode::empty());
    match streams(socket).and_then(|(input, output)| converse(&input, &output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(ABANDONED),
    }
}

/// Where frames come from, and where they go.
fn streams(socket: Option<&Path>) -> Result<(File, File)> {
    if let Some(stream) = socket.and_then(|path| UnixStream::connect(path).ok()) {
        let other = stream.try_clone().or_fail(|| "cannot use the socket")?;
        return Ok((OwnedFd::from(stream).into(), OwnedFd::from(other).into()));
    }
    // The standard library's own would look for the ends of lines.
    let owned = |stream: BorrowedFd<'_>| {
        stream
            .try_clone_to_owned()
            .or_fail(|| "cannot use the standard streams")
    };
    Ok((
        owned(rustix::stdio::stdin())?.into(),
        owned(rustix::stdio::stdout())?.into(),
    ))
}

fn converse(mut input: &File, mut output: &File) -> Result<()> {
    let hello = Hello {
        protocol: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Frame::write(HELLO, &Frame::json(HELLO, &hello)?.payload, &mut output)?;
    while let Some(frame) = Frame::read(&mut input)? {
        if frame.kind != REQUEST {
            return Err(Error::failed("a request was expected"));
        }
        let Envelope { nonce, request } = frame.parse()?;
        let mut outgoing = Outgoing::new(output);
        let mut incoming = Incoming::new(input);
        let outcome = work::perform(request, &mut incoming, &mut outgoing)
            .map_err(|error| Failure::from(&error));
        outgoing.flush_frame()?;
        let end = End {
            nonce,
            sent: outgoing.sent,
            outcome,
        };
        Frame::write(END, &Frame::json(END, &end)?.payload, &mut output)?;
        // What is still on its way in belongs to work that failed.
        loop {
            match Frame::read(&mut input)? {
                Some(frame) if frame.kind == ACKNOWLEDGED => break,
                Some(frame) if matches!(frame.kind, DATA | LAST) => {}
                _ => return Err(Error::failed("the end was not acknowledged")),
            }
        }
    }
    Ok(())
}

/// Data for lifeboat, in frames.
pub(super) struct Outgoing<'w> {
    sink: &'w File,
    pending: Vec<u8>,
    sent: u64,
}

impl<'w> Outgoing<'w> {
    /// How much goes into a frame: what the engine copies at once is less, and a pipe holds half of it.
    const PIECE: usize = 128 * 1024;

    fn new(sink: &'w File) -> Self {
        Self {
            sink,
            pending: Vec::with_capacity(Self::PIECE),
            sent: 0,
        }
    }

    fn flush_frame(&mut self) -> Result<()> {
        if !self.pending.is_empty() {
            Frame::write(DATA, &self.pending, &mut self.sink)?;
            self.sent += self.pending.len() as u64;
            self.pending.clear();
        }
        Ok(())
    }
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = Self::PIECE - self.pending.len();
        let count = room.min(bytes.len());
        self.pending.extend_from_slice(&bytes[..count]);
        if self.pending.len() == Self::PIECE {
            self.flush_frame().map_err(io::Error::other)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Data from lifeboat, out of frames.
pub(super) struct Incoming<'w> {
    source: &'w File,
    frame: Option<Frame>,
    at: usize,
    ended: bool,
}

impl<'w> Incoming<'w> {
    fn new(source: &'w File) -> Self {
        Self {
            source,
            frame: None,
            at: 0,
            ended: false,
        }
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended {
            if let Some(frame) = &self.frame {
                let rest = &frame.payload[self.at..];
                if !rest.is_empty() {
                    let count = rest.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&rest[..count]);
                    self.at += count;
                    return Ok(count);
                }
            }
            let frame = Frame::read(&mut self.source).map_err(io::Error::other)?;
            self.at = 0;
            match frame {
                Some(frame) if frame.kind == DATA => self.frame = Some(frame),
                Some(frame) if frame.kind == LAST => self.ended = true,
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        Ok(0)
    }
}
