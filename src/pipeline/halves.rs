//! The two ends of a worker thread: [`Input`], where bytes are pushed, and [`Output`], where they
//! come out.

use super::encryption::Recipients;
use super::inspector::Inspection;
use crate::error::{Error, Kind, Result};
use age::stream::StreamWriter;
use bytes::Bytes;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The most that one place in a queue holds, in bytes; larger pushes are cut without copying.
pub(super) const PIECE: usize = 256 * 1024;

/// The places of a queue: 2 MiB with [`PIECE`]. Two queues and the worker's own buffers stay well
/// below the 16 MiB that a seal may take.
const QUEUE: usize = 8;

/// What passed through a seal, an unseal or an examination that came to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Bytes before compression.
    pub raw_size: u64,
    /// Bytes as stored.
    pub stored_size: u64,
    /// What the inspector learned.
    pub inspection: Inspection,
}

/// What the worker is sent. The end is told, because a sender that is only dropped means that
/// something went wrong.
enum Piece {
    Data(Bytes),
    End,
}

/// How the worker ended, for both halves to read: set before its queues close.
#[derive(Debug, Clone, Default)]
struct Verdict(Arc<OnceLock<std::result::Result<(), Failure>>>);

/// What is needed to make the same error twice, once for each half.
#[derive(Debug)]
struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

impl Verdict {
    fn set<T>(&self, result: &Result<T>) {
        let verdict = result.as_ref().map(|_| ()).map_err(|error| Failure {
            kind: error.kind(),
            message: error.chain(),
            hint: error.hint_text().map(str::to_owned),
        });
        // Only the worker sets it, once.
        let _ = self.0.set(verdict);
    }

    fn check(&self) -> Result<()> {
        match self.0.get() {
            Some(Ok(())) => Ok(()),
            Some(Err(failure)) => {
                let error = Error::new(failure.kind, failure.message.clone());
                Err(match &failure.hint {
                    Some(hint) => error.hint(hint.clone()),
                    None => error,
                })
            }
            None => Err(Error::failed("the stream was abandoned before its end")),
        }
    }
}

/// Where a stream is pushed in.
pub struct Input {
    worker: JoinHandle<Result<Measured>>,
    pieces: mpsc::Sender<Piece>,
    /// Where what is pushed comes out as it is, not by way of the worker.
    passage: Option<mpsc::Sender<Bytes>>,
    verdict: Verdict,
}

impl Input {
    /// Pushes the next bytes, waiting while the queues are full. The worker's error, if it had one,
    /// comes out here: the producer should be stopped then.
    pub async fn push(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            if let Some(passage) = &self.passage {
                let place = passage.reserve().await.map_err(|_| output_dropped())?;
                self.give(Piece::Data(piece.clone())).await?;
                place.send(piece);
            } else {
                self.give(Piece::Data(piece)).await?;
            }
        }
        Ok(())
    }

    /// Says that the stream has come to its proper end, and waits until the worker agrees. The
    /// other half must be read meanwhile.
    pub async fn finish(self) -> Result<Measured> {
        self.give(Piece::End).await?;
        // The passage closes only after this, so its reader finds the verdict.
        self.worker
            .await
            .unwrap_or_else(|_| Err(Error::failed("a worker thread stopped unexpectedly")))
    }

    async fn give(&self, piece: Piece) -> Result<()> {
        if self.pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        self.verdict.check()?;
        Err(Error::failed("a worker thread stopped too early"))
    }
}

/// Where a stream comes out.
#[derive(Debug)]
pub struct Output {
    bytes: mpsc::Receiver<Bytes>,
    verdict: Verdict,
}

impl Output {
    /// The next bytes, or `None` at the end, which is told only once the whole stream has been found
    /// in order; a stream that broke off ends with an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match self.bytes.recv().await {
            Some(bytes) => Ok(Some(bytes)),
            None => self.verdict.check().map(|()| None),
        }
    }
}

/// What a worker reads from.
pub(super) struct Pieces(mpsc::Receiver<Piece>);

impl Pieces {
    /// The next piece, or `None` at the told end.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>> {
        match self.0.blocking_recv() {
            Some(Piece::Data(bytes)) => Ok(Some(bytes)),
            Some(Piece::End) => Ok(None),
            None => Err(Error::failed("the stream was abandoned before its end")),
        }
    }
}

/// What a worker writes to.
pub(super) enum Outlet {
    /// Only its verdict is wanted.
    Nowhere,
    /// As it is.
    Plain(Queue),
    /// Encrypted on its way.
    Sealed(Box<StreamWriter<Queue>>),
}

/// The queue to the other half.
pub(super) struct Queue {
    sender: mpsc::Sender<Bytes>,
    /// Encrypted bytes that wait until they are a piece.
    waiting: Vec<u8>,
    sent: u64,
}

impl Queue {
    fn give(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.sent += bytes.len() as u64;
        self.sender
            .blocking_send(bytes)
            .map_err(|_| output_dropped())
    }
}

impl Write for Queue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let full = std::mem::replace(&mut self.waiting, Vec::with_capacity(PIECE));
        self.give(Bytes::from(full)).map_err(io::Error::other)
    }
}

impl Outlet {
    fn keeps_open(&self) -> Option<mpsc::Sender<Bytes>> {
        match self {
            Self::Plain(queue) => Some(queue.sender.clone()),
            Self::Nowhere | Self::Sealed(_) => None,
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        !matches!(self, Self::Nowhere)
    }

    /// Encrypts what is written from now on.
    pub(super) fn sealed(self, recipients: &Recipients) -> Result<Self> {
        match self {
            Self::Plain(queue) => Ok(Self::Sealed(Box::new(recipients.wrap(queue)?))),
            other => Ok(other),
        }
    }

    pub(super) fn write(&mut self, bytes: Bytes) -> Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Plain(queue) => queue.give(bytes),
            Self::Sealed(writer) => writer.write_all(&bytes).map_err(unwrapped),
        }
    }

    /// Ends what was written, and says how many bytes went out.
    pub(super) fn finish(self) -> Result<u64> {
        match self {
            Self::Nowhere => Ok(0),
            Self::Plain(queue) => Ok(queue.sent),
            Self::Sealed(writer) => {
                let mut queue = writer.finish().map_err(unwrapped)?;
                queue.flush().map_err(unwrapped)?;
                Ok(queue.sent)
            }
        }
    }
}

/// lifeboat's own error out of one that had to pass as an input or output error.
fn unwrapped(error: io::Error) -> Error {
    error
        .downcast::<Error>()
        .unwrap_or_else(|error| Error::failed("cannot encrypt").caused_by(error))
}

/// Starts a worker whose output is made of what it writes.
pub(super) fn through<F>(work: F) -> (Input, Output)
where
    F: FnOnce(&mut Pieces, Outlet) -> Result<Measured> + Send + 'static,
{
    let (sender, bytes) = mpsc::channel(QUEUE);
    let queue = Queue {
        sender,
        waiting: Vec::new(),
        sent: 0,
    };
    let input = start(Outlet::Plain(queue), None, work);
    let verdict = input.verdict.clone();
    (input, Output { bytes, verdict })
}

/// Starts a worker that only looks on; what is pushed comes out as it is.
pub(super) fn beside<F>(work: F) -> (Input, Output)
where
    F: FnOnce(&mut Pieces, Outlet) -> Result<Measured> + Send + 'static,
{
    let (sender, bytes) = mpsc::channel(QUEUE);
    let input = start(Outlet::Nowhere, Some(sender), work);
    let verdict = input.verdict.clone();
    (input, Output { bytes, verdict })
}

/// Starts a worker without output.
pub(super) fn into<F>(work: F) -> Input
where
    F: FnOnce(&mut Pieces, Outlet) -> Result<Measured> + Send + 'static,
{
    start(Outlet::Nowhere, None, work)
}

fn start<F>(outlet: Outlet, passage: Option<mpsc::Sender<Bytes>>, work: F) -> Input
where
    F: FnOnce(&mut Pieces, Outlet) -> Result<Measured> + Send + 'static,
{
    let (pieces, received) = mpsc::channel(QUEUE);
    let verdict = Verdict::default();
    let told = verdict.clone();
    let worker = tokio::task::spawn_blocking(move || {
        let mut received = Pieces(received);
        // A half that finds the queues closed reads the verdict: the sender that is kept here closes last.
        let keeps_open = outlet.keeps_open();
        let result = work(&mut received, outlet);
        told.set(&result);
        drop(keeps_open);
        result
    });
    Input {
        worker,
        pieces,
        passage,
        verdict,
    }
}

fn output_dropped() -> Error {
    Error::failed("the reader of the stream went away")
}
