//! A plain stream in both directions, for a protocol of its own.

use super::command::Command;
use super::reader::LastWords;
use super::script;
use super::wire::{self, Frames, Input};
use crate::docker::Engine;
use crate::error::Result;
use bollard::container::LogOutput;
use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A process's stdout and stdin as one stream. It has no end proof: the protocol spoken over it
/// must know its own ends.
pub struct Duplex {
    frames: Frames,
    input: Input,
    pending: Bytes,
    silent: bool,
    stderr: Stderr,
}

/// The last words of a [`Duplex`]'s process, also after the stream was given away.
#[derive(Clone, Default)]
pub struct Stderr(Arc<Mutex<LastWords>>);

impl Stderr {
    /// The last few lines that say something, on one line; empty if there were none.
    pub fn brief(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .brief()
    }
}

impl Duplex {
    pub(super) async fn open(
        engine: &Engine,
        container_id: &str,
        command: &Command,
    ) -> Result<Self> {
        let mut argv = Vec::new();
        if let Some(preamble) = command.preamble {
            argv.extend(["sh", "-c", &script::replace(preamble), "sh"].map(ToOwned::to_owned));
        }
        argv.extend(command.argv.iter().cloned());
        let started = wire::start(engine, container_id, command, argv).await?;
        Ok(Self {
            frames: started.frames,
            input: started.input,
            pending: Bytes::new(),
            silent: true,
            stderr: Stderr::default(),
        })
    }

    /// A handle on its stderr, for messages.
    pub fn stderr(&self) -> Stderr {
        self.stderr.clone()
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.pending.is_empty() {
            match ready!(self.frames.as_mut().poll_next(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(LogOutput::StdOut { message })) => {
                    // Exec start errors arrive on stdout as text (measured): not as an answer of
                    // the protocol, please.
                    if self.silent && message.starts_with(b"OCI runtime exec failed") {
                        let said = String::from_utf8_lossy(&message).trim().to_owned();
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::NotFound, said)));
                    }
                    self.silent = false;
                    self.pending = message;
                }
                Some(Ok(LogOutput::StdErr { message })) => self
                    .stderr
                    .0
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(&message),
                Some(Ok(LogOutput::Console { .. } | LogOutput::StdIn { .. })) => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the connection to the engine was cut",
                    )));
                }
                Some(Err(cause)) => return Poll::Ready(Err(io::Error::other(cause))),
            }
        }
        let count = self.pending.len().min(buffer.remaining());
        buffer.put_slice(&self.pending[..count]);
        self.pending.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.input.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_shutdown(context)
    }
}
