//! A process in a container that is fed from here.

use super::reader::LastWords;
use super::wire::{Event, Input, Wire};
use crate::error::{Error, Result};
use bytes::{Buf, Bytes};
use std::io;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

/// How long the end of a process that stopped reading may take to be understood.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(10);

/// A process whose input the caller writes. Dropping it does not end its input: the engine never
/// sees an end of file then (measured). Call [`finish`](Self::finish) or [`abort`](Self::abort).
pub struct Consumer {
    wire: Wire,
    input: Input,
    stdout: LastWords,
    written: u64,
    ended: bool,
}

/// How a consumer ended, which was well.
#[derive(Debug)]
pub struct ConsumerEnd {
    /// The end of what it wrote to stdout, 64 KiB at the most.
    pub stdout: String,
    /// The end of what it wrote to stderr, 64 KiB at the most.
    pub stderr: String,
    /// How many bytes it was sent, as they travelled.
    pub written: u64,
    /// How many bytes of its (decoded) input it left unread when it ended; `None` where the
    /// container has no `wc` to count them.
    pub unread: Option<u64>,
}

impl Consumer {
    pub(super) fn new((wire, input): (Wire, Input)) -> Self {
        Self {
            wire,
            input,
            stdout: LastWords::default(),
            written: 0,
            ended: false,
        }
    }

    /// Sends it the next bytes. What it writes is read meanwhile: a process that nobody reads
    /// stops reading itself.
    ///
    /// An error says how the process ended, not that a pipe broke.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        if self.ended {
            return Err(self.ended_early(None).await);
        }
        self.wire.attend();
        while bytes.has_remaining() {
            tokio::select! {
                wrote = self.input.write_buf(&mut bytes) => match wrote {
                    Ok(0) => return Err(self.ended_early(None).await),
                    Ok(count) => {
                        self.written += count as u64;
                        self.wire.attend();
                    }
                    Err(cause) => return Err(self.ended_early(Some(cause)).await),
                },
                event = self.wire.event() => {
                    let event = event?;
                    if self.take(event)? {
                        return Err(self.ended_early(None).await);
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends its input and waits for its end, however long that takes: indexes are built after the
    /// last byte. Gives the same assurance as a producer's proof: every status is zero and the
    /// engine agrees.
    pub async fn finish(mut self) -> Result<ConsumerEnd> {
        if self.ended {
            return Err(self.ended_early(None).await);
        }
        let close = async {
            self.input.flush().await?;
            // A drop is not enough: only a shutdown sends the end of file.
            self.input.shutdown().await
        };
        if let Err(cause) = close.await {
            return Err(self.ended_early(Some(cause)).await);
        }
        self.wire.attend();
        let mut until = None;
        loop {
            let event = match until {
                None => self.wire.event().await?,
                Some(until) => tokio::time::timeout_at(until, self.wire.event())
                    .await
                    .map_err(|_| {
                        Error::failed(format!(
                            "{} has ended, but its stream does not",
                            self.wire.program()
                        ))
                    })??,
            };
            if matches!(event, Event::End) {
                break;
            }
            if self.take(event)? {
                until = Some(Instant::now() + self.wire.end_timeout());
            }
        }
        let Some(ends) = self.wire.ends()? else {
            return Err(self.wire.explain().await);
        };
        self.wire.check(ends)?;
        self.wire.confirm().await?;
        Ok(ConsumerEnd {
            stdout: self.stdout.text(),
            stderr: self.wire.stderr.text(),
            written: self.written,
            unread: ends.unread,
        })
    }

    /// Ends the process in the container, by best effort and within seconds.
    pub async fn abort(self) {
        let Self { wire, input, .. } = self;
        drop(input);
        wire.end_processes().await;
    }

    /// Takes what the process said; true when that was its end.
    fn take(&mut self, event: Event) -> Result<bool> {
        match event {
            Event::End => self.ended = true,
            Event::Stderr => {}
            Event::Stdout(chunk) => {
                let data = self.wire.scanner.feed(chunk).map_err(|_| {
                    Error::failed(format!(
                        "the end mark of {} is garbled or not at the end",
                        self.wire.program()
                    ))
                })?;
                self.stdout.push(&data);
                self.ended |= self.wire.scanner.statuses().is_some();
            }
        }
        Ok(self.ended)
    }

    /// Why it took no more: reads what it still says, and judges that.
    async fn ended_early(&mut self, cause: Option<io::Error>) -> Error {
        self.ended = true;
        let until = Instant::now() + LAST_WORDS_WAIT;
        while let Ok(Ok(event)) = tokio::time::timeout_at(until, self.wire.event()).await {
            if matches!(event, Event::End) || self.take(event).is_err() {
                break;
            }
        }
        let error = match self.wire.ends() {
            Err(error) => error,
            Ok(None) => self.wire.explain().await,
            Ok(Some(ends)) => match self.wire.check(ends) {
                Err(error) => error,
                Ok(()) => Error::failed(format!(
                    "{} ended before it was sent all of its input",
                    self.wire.program()
                )),
            },
        };
        match cause {
            Some(cause) => error.caused_by(cause),
            None => error,
        }
    }
}
