//! A conversation with a helper.
//!
//! What a helper sends counts only with its *end*: a frame with the request's nonce, the number of bytes that it
//! sent, and how its work went. The helper lives until that was acknowledged, so the engine cannot have dropped
//! anything before it.

use crate::docker::Engine;
use crate::docker::helper::{Helper, HelperMount, HelperOptions};
use crate::docker::owner::Owner;
use crate::error::{Error, OrFail, Result};
use crate::helper::protocol::{
    ACKNOWLEDGED, DATA, END, End, Envelope, Frame, HELLO, Hello, LAST, LONGEST, REQUEST, Request,
    VERSION,
};
use crate::proof::Proof;
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;

/// How long a helper may take to say that it is there.
const GREETING: Duration = Duration::from_mins(1);

/// What a helper is started from.
#[derive(Debug, Clone)]
pub struct HelperImage {
    /// The image's id on the engine.
    pub id: String,
    /// The program in it, and its arguments.
    pub command: Vec<String>,
    /// Its environment: `NAME=value`.
    pub environment: Vec<String>,
    /// A folder for sockets that a helper on this very machine can come to.
    pub sockets: PathBuf,
}

/// A helper that takes requests, one after another. [`close`](Self::close) it: dropping does nothing but end it.
pub struct Session {
    helper: Helper,
    buffer: BytesMut,
    nonce: String,
    received: u64,
    end: Option<End>,
}

impl Session {
    /// Starts a helper next to `mounts` and waits until it is there.
    pub async fn open(
        engine: &Engine,
        owner: &Owner,
        image: &HelperImage,
        mounts: Vec<HelperMount>,
        in_memory: bool,
    ) -> Result<Self> {
        let options = HelperOptions {
            image: image.id.clone(),
            command: image.command.clone(),
            environment: image.environment.clone(),
            mounts,
            in_memory,
            sockets: image.sockets.clone(),
        };
        let mut session = Self {
            helper: engine.helper(owner, &options).await?,
            buffer: BytesMut::new(),
            nonce: String::new(),
            received: 0,
            end: None,
        };
        let greeted = tokio::time::timeout(GREETING, session.greeting())
            .await
            .unwrap_or_else(|_| Err(Error::failed("lifeboat's helper says nothing")));
        match greeted {
            Ok(()) => Ok(session),
            Err(error) => {
                let _ = session.close().await;
                Err(error)
            }
        }
    }

    async fn greeting(&mut self) -> Result<()> {
        let frame = self.frame().await?;
        let hello: Hello = match frame.kind {
            HELLO => frame.parse()?,
            _ => {
                return Err(Error::failed(
                    "lifeboat's helper says something else than hello",
                ));
            }
        };
        match hello.protocol {
            VERSION => Ok(()),
            other => Err(Error::failed(format!(
                "the helper is of lifeboat {} and speaks version {other}, this lifeboat speaks {VERSION}",
                hello.program
            ))
            .hint("take a helper of this very version: --helper PATH")),
        }
    }

    /// Gives it work. The data that it gives comes by [`data`](Self::data), what it needs goes by
    /// [`send`](Self::send); either way [`finish`](Self::finish) follows.
    pub async fn ask(&mut self, request: Request) -> Result<()> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).or_fail(|| "the system gives no random numbers")?;
        self.nonce = hex::encode(nonce);
        self.received = 0;
        self.end = None;
        let envelope = Envelope {
            nonce: self.nonce.clone(),
            request,
        };
        self.put(Frame::json(REQUEST, &envelope)?).await
    }

    /// The next bytes of its data; `None` once its end was read. Nothing is lost when this is cancelled.
    pub async fn data(&mut self) -> Result<Option<Bytes>> {
        while self.end.is_none() {
            let frame = self.frame().await?;
            if let Some(data) = self.take(frame)? {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Sends it the next bytes of its data.
    ///
    /// # Errors
    /// With its own words where it gave up.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(LONGEST));
            let frame = Frame {
                kind: DATA,
                payload: piece,
            };
            self.put(frame).await?;
            if self.end.is_some() {
                return Err(self.gave_up());
            }
        }
        Ok(())
    }

    /// Says that there is no more to send.
    pub async fn sent_all(&mut self) -> Result<()> {
        self.put(Frame {
            kind: LAST,
            payload: Bytes::new(),
        })
        .await
    }

    /// Waits for the end of its work, however long that takes, and gives what it found.
    pub async fn finish<T: DeserializeOwned>(&mut self) -> Result<T> {
        self.finish_with_proof().await.map(|(_, answer)| answer)
    }

    /// As [`finish`](Self::finish), with evidence that every byte of its data was read.
    pub async fn finish_with_proof<T: DeserializeOwned>(&mut self) -> Result<(Proof, T)> {
        while self.data().await?.is_some() {}
        let Some(end) = self.end.take() else {
            return Err(Error::failed("lifeboat's helper has no end"));
        };
        if end.nonce != self.nonce || end.sent != self.received {
            return Err(Error::failed(format!(
                "lifeboat's helper sent {} bytes, and {} arrived",
                end.sent, self.received
            )));
        }
        self.put(Frame {
            kind: ACKNOWLEDGED,
            payload: Bytes::new(),
        })
        .await?;
        let answer = end.outcome.map_err(Error::from)?;
        let answer = serde_json::from_value(answer)
            .or_fail(|| "the answer of lifeboat's helper cannot be read")?;
        Ok((Proof::attest(self.received), answer))
    }

    /// A request with no data either way.
    pub async fn perform<T: DeserializeOwned>(&mut self, request: Request) -> Result<T> {
        self.ask(request).await?;
        self.finish().await
    }

    /// Ends the helper and removes its container.
    pub async fn close(self) -> Result<()> {
        self.helper.remove().await
    }

    /// Its own words, where it ended its work before it had all of its data.
    fn gave_up(&mut self) -> Error {
        match self.end.take().map(|end| end.outcome) {
            Some(Err(failure)) => failure.into(),
            _ => Error::failed("lifeboat's helper ended before it was sent everything"),
        }
    }

    /// Data, where the frame has some; an end is remembered.
    fn take(&mut self, frame: Frame) -> Result<Option<Bytes>> {
        match frame.kind {
            DATA => {
                self.received += frame.payload.len() as u64;
                Ok(Some(frame.payload))
            }
            END => {
                self.end = Some(frame.parse()?);
                Ok(None)
            }
            _ => Err(Error::failed(
                "lifeboat's helper says something that was not asked",
            )),
        }
    }

    async fn frame(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer)? {
                return Ok(frame);
            }
            let said = self.helper.next().await?;
            self.buffer.extend_from_slice(&said);
        }
    }

    /// Sends a frame. What the helper says meanwhile is read, or it could not go on.
    async fn put(&mut self, frame: Frame) -> Result<()> {
        let mut bytes = frame.encode();
        while let Some(said) = self.helper.exchange(&mut bytes).await? {
            self.buffer.extend_from_slice(&said);
            // Only an end can come while it is being sent something: data is for [`data`](Self::data) to read.
            if self.end.is_none()
                && let Some(frame) = Frame::decode(&mut self.buffer)?
                && self.take(frame)?.is_some()
            {
                return Err(Error::failed(
                    "lifeboat's helper sends where it should listen",
                ));
            }
        }
        Ok(())
    }
}
