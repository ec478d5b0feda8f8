//! The helper's side: takes requests from standard input and proves their ends on standard output.

use super::protocol::{
    ACKNOWLEDGED, DATA, END, End, Envelope, Failure, Frame, HELLO, Hello, LAST, REQUEST, VERSION,
};
use super::work;
use crate::error::{Error, Result};
use rustix::process::{Resource, Rlimit};
use std::io::{self, Read, Write};
use std::process::ExitCode;

/// Whoever gave the order went away.
const ABANDONED: u8 = 96;

/// Serves until the input ends, and gives the exit code of the process.
pub fn serve() -> ExitCode {
    // Every level of a tree is a folder that is held open.
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    // Modes are set as they were, whatever this process was born with.
    rustix::process::umask(rustix::fs::Mode::empty());
    match converse() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(ABANDONED),
    }
}

fn converse() -> Result<()> {
    let hello = Hello {
        protocol: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Frame::write(
        HELLO,
        &Frame::json(HELLO, &hello)?.payload,
        &mut StandardOutput,
    )?;
    while let Some(frame) = Frame::read(&mut StandardInput)? {
        if frame.kind != REQUEST {
            return Err(Error::failed("a request was expected"));
        }
        let Envelope { nonce, request } = frame.parse()?;
        let mut outgoing = Outgoing::default();
        let mut incoming = Incoming::default();
        let outcome = work::perform(request, &mut incoming, &mut outgoing)
            .map_err(|error| Failure::from(&error));
        outgoing.flush_frame()?;
        let end = End {
            nonce,
            sent: outgoing.sent,
            outcome,
        };
        Frame::write(END, &Frame::json(END, &end)?.payload, &mut StandardOutput)?;
        // What is still on its way in belongs to work that failed.
        loop {
            match Frame::read(&mut StandardInput)? {
                Some(frame) if frame.kind == ACKNOWLEDGED => break,
                Some(frame) if matches!(frame.kind, DATA | LAST) => {}
                _ => return Err(Error::failed("the end was not acknowledged")),
            }
        }
    }
    Ok(())
}

/// Data for lifeboat, in frames.
#[derive(Default)]
pub(super) struct Outgoing {
    pending: Vec<u8>,
    sent: u64,
}

impl Outgoing {
    /// How much goes into a frame: what the engine copies at once is less, and a pipe holds half of it.
    const PIECE: usize = 128 * 1024;

    fn flush_frame(&mut self) -> Result<()> {
        if !self.pending.is_empty() {
            Frame::write(DATA, &self.pending, &mut StandardOutput)?;
            self.sent += self.pending.len() as u64;
            self.pending.clear();
        }
        Ok(())
    }
}

impl Write for Outgoing {
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
#[derive(Default)]
pub(super) struct Incoming {
    frame: Option<Frame>,
    at: usize,
    ended: bool,
}

impl Read for Incoming {
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
            let frame = Frame::read(&mut StandardInput).map_err(io::Error::other)?;
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

/// The raw streams: the standard library's own would look for the ends of lines.
struct StandardInput;
struct StandardOutput;

impl Read for StandardInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::read(rustix::stdio::stdin(), &mut *buffer)
        })?)
    }
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::write(rustix::stdio::stdout(), bytes)
        })?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
