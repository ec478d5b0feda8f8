//! The repositories of one backup: what is captured once goes to all of them, and each commits by itself.
//!
//! A repository that fails is left behind for the rest of the run, and takes none of the others with it. The run
//! fails only where none is left.

use crate::error::{Error, Result};
use crate::manifest::{BackupId, Commit, Encoding, Facts, Manifest, ObjectRef, Sealed};
use crate::repository::{BackupWriter, Protection, Repository, Upload};
use crate::stack::ArtifactName;
use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use std::sync::OnceLock;

/// How much is handed on at once. Small pieces are put together first, so that repositories that are behind share
/// the bytes that wait instead of each keeping copies.
const PIECE: usize = 1 << 20;

/// The repositories of one run, in the order in which they were named.
pub(super) struct Lanes(Vec<Lane>);

/// One repository of the run.
struct Lane {
    repository: Repository,
    writer: Option<BackupWriter>,
    broken: OnceLock<Error>,
    committed: Option<Commit>,
}

/// What became of a backup in one repository.
#[derive(Debug)]
pub struct Stored {
    /// The repository's address.
    pub repository: String,
    /// Why the backup is not in it, where it is not.
    pub failed: Option<Error>,
}

impl Lane {
    fn address(&self) -> String {
        self.repository.location().to_string()
    }

    fn breaks(&self, error: Error) {
        // The first reason is the one that matters.
        let _ = self.broken.set(error);
    }

    fn works(&self) -> bool {
        self.broken.get().is_none()
    }
}

impl Lanes {
    /// Begins a backup in each of `repositories`.
    ///
    /// # Errors
    /// What the first one said, where it could be begun in none.
    pub(super) async fn begin(
        repositories: &[Repository],
        stack: &str,
        id: &BackupId,
    ) -> Result<Self> {
        let begun = repositories.iter().map(|repository| async move {
            let mut lane = Lane {
                repository: repository.clone(),
                writer: None,
                broken: OnceLock::new(),
                committed: None,
            };
            match repository.begin(stack, id).await {
                Ok(writer) => lane.writer = Some(writer),
                Err(error) => lane.breaks(error),
            }
            lane
        });
        let mut lanes = Self(join_all(begun).await);
        lanes.check()?;
        Ok(lanes)
    }

    /// How the backup is encrypted: alike in all of them, since its bytes are made once.
    pub(super) fn protection(&self) -> Option<&Protection> {
        self.0.first().map(|lane| lane.repository.protection())
    }

    /// That there is a repository left.
    fn check(&mut self) -> Result<()> {
        if self.0.iter().any(Lane::works) {
            return Ok(());
        }
        let first = self.0.first_mut().and_then(|lane| lane.broken.take());
        Err(first.unwrap_or_else(|| Error::usage("no repository is named")))
    }

    /// Begins an artifact in every repository that is left.
    ///
    /// # Errors
    /// Where none is.
    pub(super) fn upload(&self, name: &ArtifactName, encodings: &[Encoding]) -> Result<FanOut<'_>> {
        let mut uploads = Vec::new();
        for lane in self.0.iter().filter(|lane| lane.works()) {
            let Some(writer) = &lane.writer else {
                continue;
            };
            match writer.upload(name, encodings) {
                Ok(upload) => uploads.push((lane, Some(upload))),
                Err(error) => lane.breaks(error),
            }
        }
        let fan_out = FanOut {
            uploads,
            piece: BytesMut::new(),
        };
        fan_out.check(&self.0)?;
        Ok(fan_out)
    }

    /// Makes the backup exist in one repository. That it fails there is noted; it is an error only where it exists
    /// in none after the last of them.
    pub(super) async fn commit(
        &mut self,
        address: &str,
        manifest: &Manifest,
        sealed: &[Sealed],
        facts: &Facts,
        stack_json: &serde_json::Value,
        recipe: &str,
    ) -> Result<()> {
        let count = self.0.len();
        let Some(at) = self
            .0
            .iter()
            .position(|lane| lane.address() == address && lane.committed.is_none())
        else {
            return Err(Error::failed(format!("{address} is not part of this run")));
        };
        let lane = &mut self.0[at];
        if let Some(writer) = lane.writer.take() {
            if lane.works() {
                let committed = writer
                    .commit(manifest.clone(), sealed.to_vec(), facts, stack_json, recipe)
                    .await;
                match committed {
                    Ok(commit) => lane.committed = Some(commit),
                    Err(error) => lane.breaks(error),
                }
            } else {
                // What stays is swept after a day.
                let _ = writer.abandon().await;
            }
        }
        let last = at + 1 == count;
        match last && self.committed().is_none() {
            true => self.check(),
            false => Ok(()),
        }
    }

    /// Whether no repository was left behind.
    pub(super) fn all_work(&self) -> bool {
        self.0.iter().all(Lane::works)
    }

    /// The commit, once the backup exists somewhere.
    pub(super) fn committed(&self) -> Option<&Commit> {
        self.0.iter().find_map(|lane| lane.committed.as_ref())
    }

    /// The repositories that have the backup.
    pub(super) fn holders(&self) -> impl Iterator<Item = &Repository> {
        let holders = self.0.iter().filter(|lane| lane.committed.is_some());
        holders.map(|lane| &lane.repository)
    }

    /// Takes back what was written and is not committed.
    ///
    /// # Errors
    /// What the first store that failed said. What stays is swept once it is a day old.
    pub(super) async fn abandon(&mut self) -> Result<()> {
        let writers = self.0.iter_mut().filter_map(|lane| lane.writer.take());
        let abandoned = join_all(writers.map(BackupWriter::abandon)).await;
        abandoned.into_iter().collect()
    }

    /// Who has the backup and who does not.
    pub(super) fn into_report(self) -> Vec<Stored> {
        self.0
            .into_iter()
            .map(|lane| Stored {
                repository: lane.address(),
                failed: lane.broken.into_inner(),
            })
            .collect()
    }
}

/// One artifact on its way into several repositories.
pub(super) struct FanOut<'a> {
    uploads: Vec<(&'a Lane, Option<Upload>)>,
    /// Bytes that wait until they are a piece.
    piece: BytesMut,
}

impl FanOut<'_> {
    /// That a repository still takes the artifact.
    fn check(&self, lanes: &[Lane]) -> Result<()> {
        if self.uploads.iter().any(|(_, upload)| upload.is_some()) {
            return Ok(());
        }
        let reason = lanes.iter().find_map(|lane| lane.broken.get());
        Err(nobody(reason))
    }

    /// Hands over the next bytes; waits for the slowest repository.
    ///
    /// # Errors
    /// Where no repository takes them any more.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if self.piece.is_empty() && bytes.len() >= PIECE {
            return self.hand_on(bytes).await;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if self.piece.capacity() == 0 {
                self.piece.reserve(PIECE);
            }
            let (some, after) = rest.split_at(rest.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(some);
            rest = after;
            if self.piece.len() == PIECE {
                let full = std::mem::take(&mut self.piece).freeze();
                self.hand_on(full).await?;
            }
        }
        Ok(())
    }

    async fn hand_on(&mut self, bytes: Bytes) -> Result<()> {
        let writes = self.uploads.iter_mut().map(|(lane, slot)| {
            let bytes = bytes.clone();
            async move {
                let Some(upload) = slot else {
                    return;
                };
                if let Err(error) = upload.write(bytes).await {
                    lane.breaks(error);
                    // A write that failed has taken the upload back.
                    *slot = None;
                }
            }
        });
        join_all(writes).await;
        self.left()
    }

    fn left(&self) -> Result<()> {
        if self.uploads.iter().any(|(_, upload)| upload.is_some()) {
            return Ok(());
        }
        let mut reasons = self
            .uploads
            .iter()
            .filter_map(|(lane, _)| lane.broken.get());
        Err(nobody(reasons.next()))
    }

    /// Waits until every byte has landed everywhere that is left, and says under which keys.
    ///
    /// # Errors
    /// Where no repository has them all.
    pub(super) async fn finish(mut self) -> Result<Vec<ObjectRef>> {
        if !self.piece.is_empty() {
            let last = std::mem::take(&mut self.piece).freeze();
            self.hand_on(last).await?;
        }
        let finished = self.uploads.iter_mut().map(|(lane, slot)| async move {
            match slot.take()?.finish().await {
                Ok(objects) => Some((*lane, objects)),
                Err(error) => {
                    lane.breaks(error);
                    None
                }
            }
        });
        let finished = join_all(finished).await;
        let mut objects: Option<Vec<ObjectRef>> = None;
        for (lane, landed) in finished.into_iter().flatten() {
            match &objects {
                None => objects = Some(landed),
                Some(first) if *first == landed => {}
                Some(_) => lane.breaks(Error::failed(format!(
                    "{} stored other bytes than the other repositories",
                    lane.address()
                ))),
            }
        }
        objects.ok_or_else(|| {
            let mut reasons = self
                .uploads
                .iter()
                .filter_map(|(lane, _)| lane.broken.get());
            nobody(reasons.next())
        })
    }

    /// Takes back what was written.
    pub(super) async fn abort(mut self) {
        let uploads = self.uploads.iter_mut().filter_map(|(_, slot)| slot.take());
        join_all(uploads.map(Upload::abort)).await;
    }
}

fn nobody(reason: Option<&Error>) -> Error {
    reason.map_or_else(|| Error::failed("no repository takes the artifact"), again)
}

/// An error that is kept elsewhere, once more.
pub(super) fn again(reason: &Error) -> Error {
    let error = Error::new(reason.kind(), reason.chain());
    match reason.hint_text() {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
