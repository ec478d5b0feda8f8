//! Evidence that a capture came to its proper end. Lying is a type error: only a [`Proof`] makes a
//! [`Sealed`](crate::manifest::Sealed), and a repository commits nothing else.

use serde::Serialize;

/// Says that a producer ended well **and** that every byte it wrote was read.
///
/// Made in three places: `docker/exec`, when the trailer has been read, every exit status in it is
/// zero and the engine confirms the exit; `source/volume/session.rs`, when a helper's end has been read and
/// agrees with what was received; and `source/files/capture.rs`, whose producer is a thread of this very process, when it
/// has ended well. `tests/it/layers.rs` holds that nothing else calls [`Proof::attest`].
#[derive(Debug, Clone, Serialize)]
pub struct Proof {
    bytes: u64,
}

impl Proof {
    /// For the reader of the end proof only.
    pub(crate) fn attest(bytes: u64) -> Self {
        Self { bytes }
    }

    /// How many bytes the producer's stream held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
