//! A process in a container whose output is read here, and the proof that all of it was.

use super::reader::BadMark;
use super::wire::{Event, Input, Wire};
use crate::error::{Error, Result};
use crate::proof::Proof;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

/// A process whose output is being read. Call [`next`](Self::next) until it gives `None`, then
/// [`finish`](Self::finish); without the latter nothing that was read counts.
///
/// Dropping it leaves the process running in the container: see [`abort`](Self::abort).
pub struct Producer {
    wire: Wire,
    input: Input,
    bytes: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Output comes.
    Reading,
    /// The end mark was read and is to be acknowledged.
    Acknowledging,
    /// It was acknowledged; nothing may come but the end.
    Ending { until: Instant },
    /// The stream ended where it should.
    Ended,
    /// An error was given out: there is no way back from it.
    Failed,
}

impl Producer {
    pub(super) fn new((wire, input): (Wire, Input)) -> Self {
        Self {
            wire,
            input,
            bytes: 0,
            state: State::Reading,
        }
    }

    /// The next piece of output, or `None` once the end mark was read and the stream has ended
    /// where it should. A piece is what the engine sent at once, 32 KiB at the most.
    ///
    /// Nothing is lost when this is cancelled.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let result = self.advance().await;
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    /// How many bytes were given out until now.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the process ended well and every byte of it was read.
    ///
    /// An error names the process that ended badly, its status and the last lines of its stderr.
    pub async fn finish(mut self) -> Result<Proof> {
        let ends = self.ends()?;
        self.wire.check(ends)?;
        self.wire.confirm().await?;
        Ok(Proof::attest(self.bytes))
    }

    /// Like [`finish`](Self::finish), but for a command whose status is the caller's business.
    pub(super) async fn finish_with_status(mut self) -> Result<(String, i32)> {
        let ends = self.ends()?;
        self.wire.confirm().await?;
        Ok((self.wire.stderr.text(), ends.command))
    }

    /// The end of what it has written to stderr until now.
    pub(super) fn said(&self) -> String {
        self.wire.stderr.text()
    }

    /// Ends the process in the container, by best effort and within seconds.
    pub async fn abort(self) {
        let Self { wire, input, .. } = self;
        drop(input);
        wire.end_processes().await;
    }

    fn ends(&self) -> Result<super::script::Ends> {
        match (self.state, self.wire.ends()?) {
            (State::Ended, Some(ends)) => Ok(ends),
            _ => Err(Error::failed(format!(
                "the output of {} was not read to its end",
                self.wire.program()
            ))),
        }
    }

    async fn advance(&mut self) -> Result<Option<Bytes>> {
        self.wire.attend();
        loop {
            match self.state {
                State::Reading => {
                    if let Some(data) = self.read().await? {
                        return Ok(Some(data));
                    }
                }
                State::Acknowledging => {
                    self.acknowledge().await?;
                    self.state = State::Ending {
                        until: Instant::now() + self.wire.end_timeout(),
                    };
                }
                State::Ending { until } => {
                    self.end(until).await?;
                    self.state = State::Ended;
                }
                State::Ended => return Ok(None),
                State::Failed => {
                    return Err(Error::failed(format!(
                        "the stream of {} has failed before",
                        self.wire.program()
                    )));
                }
            }
        }
    }

    /// One event; gives back the producer's bytes in it, if there are any.
    async fn read(&mut self) -> Result<Option<Bytes>> {
        match self.wire.event().await? {
            Event::Stderr => Ok(None),
            Event::End => Err(self.wire.explain().await),
            Event::Stdout(chunk) => {
                let data = self.wire.scanner.feed(chunk).map_err(|bad| match bad {
                    BadMark::Followed => self.wrote_on(),
                    BadMark::Garbled => Error::failed(format!(
                        "the end mark of {} is garbled",
                        self.wire.program()
                    )),
                })?;
                if self.wire.scanner.statuses().is_some() {
                    self.state = State::Acknowledging;
                }
                self.bytes += data.len() as u64;
                Ok((!data.is_empty()).then_some(data))
            }
        }
    }

    /// Says yes to the end mark, so that the script may end.
    async fn acknowledge(&mut self) -> Result<()> {
        let done = async {
            self.input.write_all(b"\n").await?;
            self.input.flush().await
        };
        done.await.map_err(|cause| {
            Error::failed(format!(
                "the connection was cut when the end of {} was to be confirmed",
                self.wire.program()
            ))
            .caused_by(cause)
        })?;
        // The newline is the acknowledgement. Closing the input as well only helps a script that
        // still waits for more, and a connection that is closing already cannot be closed: the end
        // of the stream and of the exec, which are required next, tell.
        let _ = self.input.shutdown().await;
        Ok(())
    }

    /// Waits for the end of the stream.
    async fn end(&mut self, until: Instant) -> Result<()> {
        loop {
            match tokio::time::timeout_at(until, self.wire.event()).await {
                Ok(Ok(Event::End)) => return Ok(()),
                Ok(Ok(Event::Stderr)) => {}
                Ok(Ok(Event::Stdout(_))) => return Err(self.wrote_on()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    return Err(Error::failed(format!(
                        "{} has written all of its output, but its stream does not end",
                        self.wire.program()
                    )));
                }
            }
        }
    }

    fn wrote_on(&self) -> Error {
        Error::failed(format!(
            "something that {} had started wrote to its output after its end",
            self.wire.program()
        ))
    }
}
