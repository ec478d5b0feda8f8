//! Bytes between a thread that reads or writes and the rest, which does not block.

use crate::error::{Error, Result};
use bytes::Bytes;
use std::io::{self, Read, Write};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How many pieces may be on the way.
const QUEUE: usize = 8;
/// How long a piece is, in bytes.
const PIECE: usize = 64 * 1024;

/// Where a thread writes to.
pub(super) struct Outlet {
    sender: Sender<Bytes>,
    piece: Vec<u8>,
}

/// A pipe that a thread writes to.
pub(super) fn outlet() -> (Outlet, Receiver<Bytes>) {
    let (sender, receiver) = channel(QUEUE);
    let piece = Vec::with_capacity(PIECE);
    (Outlet { sender, piece }, receiver)
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        match piece.is_empty() || self.sender.blocking_send(piece.into()).is_ok() {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

/// Where a thread reads from.
pub struct Intake {
    receiver: Receiver<Bytes>,
    piece: Bytes,
}

/// A pipe that a thread reads from.
pub fn intake() -> (Sender<Bytes>, Intake) {
    let (sender, receiver) = channel(QUEUE);
    let piece = Bytes::new();
    (sender, Intake { receiver, piece })
}

impl Read for Intake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// What a thread has come to.
pub(super) fn joined<T>(outcome: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    outcome.unwrap_or_else(|cause| {
        Err(Error::failed("a thread that works on the project's files died").caused_by(cause))
    })
}
