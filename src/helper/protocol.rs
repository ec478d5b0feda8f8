//! What lifeboat and its helper say to each other: frames of a kind, a length and a payload.
//!
//! The helper begins with [`HELLO`]. Then, as often as lifeboat likes: a [`REQUEST`]; [`DATA`] in the direction that
//! the request has, lifeboat's ended by [`LAST`]; an [`END`] with the request's nonce, how many bytes of data the
//! helper has sent, and how it went; and an [`ACKNOWLEDGED`] without which the helper does not go on. The engine may
//! drop what a process wrote last (docs/design.md, "End proof"), so the helper lives until lifeboat has said that it
//! read everything. The end of the input ends the helper.

use crate::archive::{Irregular, TreeFacts};
use crate::error::{Error, Kind, OrFail, Result};
use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

/// The version of the protocol. A helper is always of the same build as whoever runs it, unless `--helper` named
/// another one.
pub const VERSION: u32 = 1;

/// The most that a frame may hold, in bytes.
pub const LONGEST: usize = 1 << 20;

/// The helper is there: [`Hello`].
pub const HELLO: u8 = b'H';
/// What is to be done: [`Envelope`].
pub const REQUEST: u8 = b'R';
/// Bytes of a stream.
pub const DATA: u8 = b'D';
/// lifeboat has no more data.
pub const LAST: u8 = b'L';
/// The work is over: [`End`].
pub const END: u8 = b'E';
/// lifeboat has read the end.
pub const ACKNOWLEDGED: u8 = b'A';

/// The helper's first words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol's version.
    pub protocol: u32,
    /// The program's version.
    pub program: String,
}

/// A request, and the number that its end will carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Random hexadecimal digits, of this request only.
    pub nonce: String,
    /// What is to be done.
    pub request: Request,
}

/// What a helper can do. Folders are paths in its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Send a tree as a compressed archive: [`Archived`].
    Archive {
        /// The tree.
        root: String,
        /// The zstd level.
        level: u8,
        /// Threads that compress.
        threads: u32,
        /// Whether somebody may be writing to it: then a running database's data folder is refused.
        live: bool,
    },
    /// Receive a compressed archive: [`TreeFacts`].
    Extract {
        /// The folder.
        root: String,
        /// A new folder in it that the tree goes to; its root itself where there is none.
        into: Option<String>,
        /// The most bytes that it decompresses to.
        raw_size: u64,
    },
    /// Read a tree: [`TreeFacts`].
    Digest {
        /// The tree.
        root: String,
    },
    /// Send a tree's lines for a comparison; nothing more at the end.
    List {
        /// The tree.
        root: String,
    },
    /// Copy a tree into an empty folder, and read the copy: [`Copied`].
    Copy {
        /// The tree.
        from: String,
        /// The folder.
        to: String,
    },
    /// How much is in trees: a [`Measure`] each.
    Measure {
        /// The trees.
        roots: Vec<String>,
    },
    /// Put the tree of one folder of `root` in the place of all else in it, which goes to another one.
    Swap {
        /// The folder.
        root: String,
        /// The folder in it that comes in.
        incoming: String,
        /// The folder in it that keeps what was there.
        aside: String,
    },
    /// Take [`Swap`](Self::Swap) back, wherever it came to.
    SwapBack {
        /// The folder.
        root: String,
        /// The folder in it that had come in.
        incoming: String,
        /// The folder in it that keeps what was there.
        aside: String,
    },
    /// Remove what lifeboat has put into a tree: names of its own, or everything.
    Remove {
        /// The folder.
        root: String,
        /// The names in it; with none, those of every run.
        names: Vec<String>,
    },
}

/// What an archive holds, and how it was to be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// What it holds.
    pub tree: TreeFacts,
    /// What no archive holds, and what was not still.
    pub irregular: Irregular,
    /// How long the archive is before compression, in bytes.
    pub raw_size: u64,
}

/// A copy and its original.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// What was read.
    pub original: TreeFacts,
    /// What was read from the copy, once it was on the disk.
    pub copy: TreeFacts,
    /// What was left out, and what changed meanwhile.
    pub irregular: Irregular,
}

/// How much is in a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// The files' lengths in bytes, holes included, each file once.
    pub bytes: u64,
    /// What they take on the disk, in bytes.
    pub allocated: u64,
    /// Files, links and pipes.
    pub files: u64,
    /// Folders, the root not among them.
    pub directories: u64,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// The request's own.
    pub nonce: String,
    /// How many bytes of data the helper has sent for it.
    pub sent: u64,
    /// What the request gives.
    pub outcome: std::result::Result<serde_json::Value, Failure>,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whether it is the data that was not what it should be.
    pub damaged: bool,
    /// What went wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            damaged: error.kind() == Kind::Damaged,
            message: error.chain(),
            hint: error.hint_text().map(str::to_owned),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let error = match failure.damaged {
            true => Self::damaged(failure.message),
            false => Self::failed(failure.message),
        };
        match failure.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which of the kinds above.
    pub kind: u8,
    /// What it holds.
    pub payload: Bytes,
}

impl Frame {
    /// A frame of JSON.
    pub fn json(kind: u8, value: &impl Serialize) -> Result<Self> {
        let payload = serde_json::to_vec(value).or_fail(|| "cannot write a frame")?;
        Ok(Self {
            kind,
            payload: payload.into(),
        })
    }

    /// What stands before the payload.
    pub fn head(kind: u8, length: usize) -> [u8; 5] {
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        [kind, length[0], length[1], length[2], length[3]]
    }

    /// The whole frame.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(5 + self.payload.len());
        bytes.extend_from_slice(&Self::head(self.kind, self.payload.len()));
        bytes.extend_from_slice(&self.payload);
        bytes.freeze()
    }

    /// Takes a whole frame off the front of `bytes`; `None` where it is not all there yet.
    ///
    /// # Errors
    /// Where the length is no frame's: whatever this is, it is not a helper.
    pub fn decode(bytes: &mut BytesMut) -> Result<Option<Self>> {
        let Some(head) = bytes.get(..5) else {
            return Ok(None);
        };
        let (kind, length) = (head[0], length(head)?);
        if bytes.len() < 5 + length {
            return Ok(None);
        }
        bytes.advance(5);
        Ok(Some(Self {
            kind,
            payload: bytes.split_to(length).freeze(),
        }))
    }

    /// Reads a frame; `None` where the stream ends before one.
    pub fn read(source: &mut impl Read) -> Result<Option<Self>> {
        let cut = || "the stream of frames was cut";
        let mut head = [0; 5];
        if source.read(&mut head[..1]).or_fail(cut)? == 0 {
            return Ok(None);
        }
        source.read_exact(&mut head[1..]).or_fail(cut)?;
        let mut payload = vec![0; length(&head)?];
        source.read_exact(&mut payload).or_fail(cut)?;
        Ok(Some(Self {
            kind: head[0],
            payload: payload.into(),
        }))
    }

    /// Writes a frame.
    pub fn write(kind: u8, payload: &[u8], sink: &mut impl Write) -> Result<()> {
        let cut = || "cannot write a frame";
        sink.write_all(&Self::head(kind, payload.len()))
            .or_fail(cut)?;
        sink.write_all(payload).or_fail(cut)
    }

    /// The payload, as JSON.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.payload).or_fail(|| "a frame of the helper's cannot be read")
    }
}

fn length(head: &[u8]) -> Result<usize> {
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= LONGEST)
        .ok_or_else(|| Error::failed("what comes from the helper are no frames"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_frame_is_noticed() {
        let mut noise = BytesMut::from(&b"standard_init_linux.go: exec user process caused"[..]);
        assert!(Frame::decode(&mut noise).is_err());
        assert!(Frame::read(&mut &b"R\x00\x00\x00\x04abc"[..]).is_err());
        assert_eq!(Frame::read(&mut &b""[..]).unwrap(), None);
    }

    proptest! {
        #[test]
        fn frames_come_through_in_any_pieces(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..6),
            size in 1usize..40,
        ) {
            let frames: Vec<Frame> = payloads
                .into_iter()
                .map(|payload| Frame { kind: DATA, payload: payload.into() })
                .collect();
            let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.encode().to_vec()).collect();
            let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(size) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(&seen, &frames);
            let mut source = &stream[..];
            for frame in frames {
                prop_assert_eq!(Frame::read(&mut source).unwrap(), Some(frame));
            }
        }
    }
}
