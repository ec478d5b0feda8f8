//! Reads an archive as it passes, and says what it holds.

use crate::archive::{Reader, TreeFacts, examine};
use crate::error::{Error, Result};
use crate::pipeline::{Inspection, Inspector};
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// How many pieces may wait for the reader.
const QUEUE: usize = 8;

/// Walks a tar archive of lifeboat's own to its end. The reader pulls and the pipeline pushes, so a thread is between
/// the two.
pub struct TarInspector {
    raw_size: u64,
    sender: Option<SyncSender<Vec<u8>>>,
    reader: Option<JoinHandle<Result<TreeFacts>>>,
}

impl TarInspector {
    /// For an archive that is about to begin.
    pub fn new() -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        let pieces = Pieces {
            receiver,
            piece: Vec::new(),
            at: 0,
        };
        Self {
            raw_size: 0,
            sender: Some(sender),
            reader: Some(std::thread::spawn(move || {
                examine(&mut Reader::new(io::BufReader::with_capacity(
                    64 * 1024,
                    pieces,
                )))
            })),
        }
    }

    /// What the reader has come to.
    fn verdict(&mut self) -> Result<TreeFacts> {
        self.sender = None;
        let lost = || Error::failed("the thread that reads the archive died");
        self.reader
            .take()
            .ok_or_else(lost)?
            .join()
            .map_err(|_| lost())?
    }
}

impl Default for TarInspector {
    fn default() -> Self {
        Self::new()
    }
}

impl Inspector for TarInspector {
    fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.raw_size += bytes.len() as u64;
        let sent = self
            .sender
            .as_ref()
            .is_some_and(|sender| sender.send(bytes.to_vec()).is_ok());
        match sent {
            true => Ok(()),
            // It gave up, and says why.
            false => self
                .verdict()
                .and_then(|_| Err(Error::damaged("the archive goes on after its end"))),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<Inspection> {
        let facts = self.verdict()?;
        Ok(Inspection {
            raw_size: self.raw_size,
            facts: serde_json::to_value(facts).unwrap_or_default(),
        })
    }
}

struct Pieces {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.at) = (piece, 0),
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
