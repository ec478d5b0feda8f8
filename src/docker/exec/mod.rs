//! Commands in containers, with proof that every byte arrived.
//!
//! lifeboat's first promise is that a backup that is listed can be restored. It stands or falls
//! here, because an exec stream does not say whether it is whole:
//!
//! * The engine can drop the end of an exec's output and still report exit code 0 (moby#39383,
//!   moby#45689; measured on Docker 20.10 with a slow reader: 67 to 120 KB lost in 3 runs of 7).
//! * A connection that is cut looks like a clean end of stream to the client library.
//! * Exec start errors arrive as text on stdout, where data is expected.
//! * A pipeline's exit status is its last process's; a dead `pg_dump` before a healthy `zstd`
//!   would pass.
//!
//! So a producer's success rests on an *end proof*. The command is wrapped in a script that prints
//! an end mark after the last byte: a nonce made for this run, and the exit status of every
//! process. Then the script waits. lifeboat reads the mark, acknowledges it, and only then may the
//! script end; a process that has not ended cannot lose its output. [`Producer::finish`] gives a
//! [`Proof`](crate::proof::Proof) only when
//!
//! 1. the mark was read, with this run's nonce,
//! 2. nothing came after it and the stream then ended,
//! 3. every status in it is zero, and
//! 4. the engine says that the exec has ended with code 0.
//!
//! Everything else is an error, and nothing else makes a `Proof`.
//!
//! A consumer cannot wait for an acknowledgement, since its input is the payload; it prints the
//! same mark, which is short and is read while the payload is written. Should lifeboat die in the
//! middle, the consumer sees a clean end of input and may well succeed (measured): whoever feeds
//! one feeds a side store and swaps it in last.
//!
//! No terminal is ever allocated: on a terminal stdout and stderr are one and newlines change.

mod command;
mod consumer;
mod duplex;
mod producer;
mod reader;
mod script;
mod verdict;
mod wire;

pub use command::{Command, Transport};
pub use consumer::{Consumer, ConsumerEnd};
pub use duplex::{Duplex, Stderr};
pub use producer::Producer;
pub(in crate::docker) use reader::LastWords;

use crate::docker::Engine;
use crate::error::{Error, Result};
use wire::Wire;

/// How much [`Engine::run`] takes from a command's stdout.
const LARGEST_OUTPUT: usize = 16 * 1024 * 1024;

/// What a short command said, all of it.
#[derive(Debug)]
pub struct Output {
    /// Its whole stdout.
    pub stdout: Vec<u8>,
    /// The end of its stderr, 64 KiB at the most.
    pub stderr: String,
    /// Its exit status.
    pub status: i32,
}

/// How a command came to its end.
#[derive(Debug)]
pub enum Stop<T> {
    /// By itself, with this exit status.
    Ended(i32),
    /// It was ended, for this reason.
    Stopped(T),
}

impl Engine {
    /// Starts a producer. Nothing that it writes counts until [`Producer::finish`] has given its
    /// proof.
    pub async fn produce(
        &self,
        container_id: &str,
        command: &Command,
        transport: Transport,
    ) -> Result<Producer> {
        let script = script::produce(transport, command.preamble);
        let wire = Wire::open(self, container_id, command, &script, transport).await?;
        Ok(Producer::new(wire))
    }

    /// Runs a consumer whose input the caller writes, through `zstd -dc` in the container where the
    /// transport says so.
    pub async fn consume(
        &self,
        container_id: &str,
        command: &Command,
        transport: Transport,
    ) -> Result<Consumer> {
        let script = script::consume(transport, command.preamble);
        let wire = Wire::open(self, container_id, command, &script, transport).await?;
        Ok(Consumer::new(wire))
    }

    /// Runs a short command without input to its end, with the same proof of its end. A status
    /// other than zero is returned, it is no error; output of more than 16 MiB is one.
    pub async fn run(&self, container_id: &str, command: &Command) -> Result<Output> {
        let mut producer = self.produce(container_id, command, Transport::Raw).await?;
        let mut stdout = Vec::new();
        while let Some(bytes) = producer.next().await? {
            if stdout.len() + bytes.len() > LARGEST_OUTPUT {
                let program = command.program();
                producer.abort().await;
                return Err(Error::failed(format!(
                    "{program} wrote more than {LARGEST_OUTPUT} bytes where a short answer was \
                     expected"
                )));
            }
            stdout.extend_from_slice(&bytes);
        }
        let (stderr, status) = producer.finish_with_status().await?;
        Ok(Output {
            stdout,
            stderr,
            status,
        })
    }

    /// Whether a short command ends well. One whose program, or the shell around it, the image does not have does not,
    /// nor does one in a container that has stopped.
    ///
    /// # Errors
    /// Where the engine does not let it run: then nobody knows.
    pub async fn succeeds(&self, container_id: &str, command: &Command) -> Result<bool> {
        match self.run(container_id, command).await {
            Ok(output) => Ok(output.status == 0),
            Err(error) => {
                let text = error.chain();
                let cannot = wire::missing_hint(&text, command.program()).is_some()
                    || text.contains("not running")
                    || text.contains("stopped container")
                    || text.contains("is paused")
                    || text.contains("is restarting")
                    || text.contains("No such container");
                match cannot {
                    true => Ok(false),
                    false => Err(error),
                }
            }
        }
    }

    /// Runs a command without input, and hands its stdout to `heard` as it comes, its stderr at its end. Where
    /// `stop` comes first, the command and what it has started are ended in the container.
    pub async fn run_until<T>(
        &self,
        container_id: &str,
        command: &Command,
        stop: impl Future<Output = T>,
        mut heard: impl FnMut(&[u8]),
    ) -> Result<Stop<T>> {
        tokio::pin!(stop);
        let mut producer = self.produce(container_id, command, Transport::Raw).await?;
        loop {
            tokio::select! {
                biased;
                piece = producer.next() => match piece? {
                    Some(bytes) => heard(&bytes),
                    None => break,
                },
                why = &mut stop => {
                    heard(producer.said().as_bytes());
                    producer.abort().await;
                    return Ok(Stop::Stopped(why));
                }
            }
        }
        let (stderr, status) = producer.finish_with_status().await?;
        heard(stderr.as_bytes());
        Ok(Stop::Ended(status))
    }

    /// A stream in both directions, for protocols that know their own ends. It carries no proof:
    /// nothing that is stored may come this way.
    pub async fn duplex(&self, container_id: &str, command: &Command) -> Result<Duplex> {
        Duplex::open(self, container_id, command).await
    }
}
