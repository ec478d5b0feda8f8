//! The steps that put a volume's or a folder's content in place, and those that take that back.

use super::Context;
use super::volume_source::{ROOT, open_session, with_session};
use crate::archive::{Line, TreeFacts};
use crate::docker::helper::{HelperMount, Place};
use crate::docker::quiesce::SwappedTree;
use crate::error::{Error, OrFail, Result};
use crate::event::{Event, Observer};
use crate::helper::protocol::Request;
use crate::manifest::{Artifact, BackupId};
use crate::repository::Backup;
use crate::source::volume::{Session, volume_facts};
use crate::stack::Volume;
use bytes::BytesMut;
use std::time::Instant;

/// What a folder's name begins with that holds a tree on its way in.
pub(super) const RESTORING: &str = ".lifeboat-restoring-";
/// What a folder's name begins with that holds what was there before.
pub(super) const BEFORE: &str = ".lifeboat-before-";

/// How a tree that was written differs from the one that was captured; `None` where it does not.
pub(super) fn tree_difference(expected: &TreeFacts, written: &TreeFacts) -> Option<String> {
    let counted = |tree: &TreeFacts| {
        format!(
            "{} files, {} folders and {} links with {} bytes",
            tree.files,
            tree.directories,
            tree.symlinks + tree.hard_links,
            tree.bytes
        )
    };
    let (before, after) = (counted(expected), counted(written));
    match (before == after, expected == written) {
        (_, true) => None,
        (true, false) => Some(format!(
            "{after} as before, but not the same ones: their digest is {} instead of {}",
            written.digest, expected.digest
        )),
        (false, false) => Some(format!("{after} instead of {before}")),
    }
}

/// Who puts trees in place, and for which run.
pub(super) struct Trees<'a> {
    pub context: &'a Context,
    pub run: &'a BackupId,
    pub observer: &'a dyn Observer,
    /// Helpers that do nothing but keep volumes mounted that are in memory.
    keepers: Vec<Session>,
}

impl<'a> Trees<'a> {
    /// With nothing begun.
    pub(super) fn new(context: &'a Context, run: &'a BackupId, observer: &'a dyn Observer) -> Self {
        Self {
            context,
            run,
            observer,
            keepers: Vec::new(),
        }
    }

    /// Keeps volumes in memory from vanishing with the last container that has them mounted.
    pub(super) async fn keep(&mut self, trees: &[SwappedTree]) -> Result<()> {
        for tree in trees {
            let Place::Volume(name) = &tree.place else {
                continue;
            };
            let volume = self.context.engine()?.volume(name).await?;
            if volume.is_some_and(|volume| volume.in_memory()) {
                let mount = HelperMount::read(&tree.place, ROOT);
                let keeper = open_session(self.context, self.run, vec![mount], true).await?;
                self.keepers.push(keeper);
            }
        }
        Ok(())
    }

    /// Ends that.
    pub(super) async fn let_go(&mut self) {
        for keeper in self.keepers.drain(..) {
            // One that stays is swept later.
            let _ = keeper.close().await;
        }
    }

    /// Writes an archive into a new folder of the store, where nobody looks yet. Clears what dead restores have left
    /// there: the stack's lock is held.
    pub(super) async fn stage(
        &self,
        place: &Place,
        folder: &str,
        backup: &Backup,
        artifact: &Artifact,
    ) -> Result<()> {
        self.at_work(place, false, async |session| {
            let root = ROOT.to_owned();
            let names = Vec::new();
            session
                .perform::<()>(Request::Remove { root, names })
                .await?;
            self.write(session, Some(folder), backup, artifact).await
        })
        .await
    }

    /// Takes [`stage`](Self::stage) back.
    pub(super) async fn remove(&self, place: &Place, folder: &str) -> Result<()> {
        self.at_work(place, false, async |session| {
            let root = ROOT.to_owned();
            let names = vec![folder.to_owned()];
            session.perform(Request::Remove { root, names }).await
        })
        .await
    }

    /// Puts what was staged in the place of what is there.
    pub(super) async fn swap(&self, tree: &SwappedTree) -> Result<()> {
        self.at_work(&tree.place, false, async |session| {
            session
                .perform(Request::Swap {
                    root: ROOT.to_owned(),
                    incoming: tree.incoming.clone(),
                    aside: tree.aside.clone(),
                })
                .await
        })
        .await
    }

    /// Takes [`swap`](Self::swap) back, however far it came.
    pub(super) async fn swap_back(&self, tree: &SwappedTree) -> Result<()> {
        self.at_work(&tree.place, false, async |session| {
            session
                .perform(Request::SwapBack {
                    root: ROOT.to_owned(),
                    incoming: tree.incoming.clone(),
                    aside: tree.aside.clone(),
                })
                .await
        })
        .await
    }

    /// Makes a volume.
    pub(super) async fn create(&self, volume: &Volume) -> Result<()> {
        if volume.in_memory() {
            self.observer.observe(&Event::Warning {
                message: format!(
                    "volume {} is in memory: what is written to it is gone while no container has it mounted; start \
                     the stack first and restore in place",
                    volume.name
                ),
            });
        }
        self.context.engine()?.create_volume(volume).await
    }

    /// Takes [`create`](Self::create) back. Only for what this run has made, or was going to.
    pub(super) async fn discard(&self, name: &str) -> Result<()> {
        let engine = self.context.engine()?;
        // A helper that still works on it would keep it.
        engine.end_scratches(self.run.as_str()).await?;
        match engine.volume_exists(name).await? {
            true => engine.remove_volume(name).await,
            false => Ok(()),
        }
    }

    /// Writes an archive into an empty volume or folder.
    pub(super) async fn fill(
        &self,
        place: &Place,
        backup: &Backup,
        artifact: &Artifact,
    ) -> Result<()> {
        self.at_work(place, true, async |session| {
            self.write(session, None, backup, artifact).await
        })
        .await
    }

    /// What a volume or folder holds, read from its disk.
    pub(super) async fn examine(&self, place: &Place) -> Result<TreeFacts> {
        let mount = HelperMount::read(place, ROOT);
        with_session(
            self.context,
            self.run,
            vec![mount],
            false,
            async |session| {
                let root = ROOT.to_owned();
                session.perform(Request::Digest { root }).await
            },
        )
        .await
    }

    /// Whether there is nothing in a volume or folder but what dead runs have left; one that is not there has nothing.
    pub(super) async fn is_empty(&self, place: &Place) -> Result<bool> {
        let mount = HelperMount::read(place, ROOT);
        let mut session = match open_session(self.context, self.run, vec![mount], false).await {
            Ok(session) => session,
            // The engine's words for a folder that is not there.
            Err(error) if error.chain().contains("does not exist") => return Ok(true),
            Err(error) => return Err(error),
        };
        let root = ROOT.to_owned();
        let empty = async {
            session.ask(Request::List { root }).await?;
            let mut rest = BytesMut::new();
            while let Some(bytes) = session.data().await? {
                rest.extend_from_slice(&bytes);
                while let Some(end) = memchr::memchr(b'\n', &rest) {
                    let line: Line = serde_json::from_slice(&rest.split_to(end + 1))
                        .or_fail(|| "what the helper lists cannot be read")?;
                    if !line.path.is_empty() && line.path != b"." {
                        return Ok(false);
                    }
                }
            }
            Ok(true)
        }
        .await;
        session.close().await?;
        empty
    }

    /// Removes what dead runs have left in a volume or folder, which is made where it is not there yet.
    pub(super) async fn clear(&self, place: &Place) -> Result<()> {
        self.at_work(place, true, async |session| {
            let root = ROOT.to_owned();
            let names = Vec::new();
            session.perform(Request::Remove { root, names }).await
        })
        .await
    }

    /// Which of `paths` a volume or folder has, in their order.
    pub(super) async fn has(&self, place: &Place, paths: &[&str]) -> Result<Vec<bool>> {
        let mount = HelperMount::read(place, ROOT);
        with_session(
            self.context,
            self.run,
            vec![mount],
            false,
            async |session| {
                let root = ROOT.to_owned();
                session.ask(Request::List { root }).await?;
                let mut found = vec![false; paths.len()];
                let mut rest = BytesMut::new();
                while let Some(bytes) = session.data().await? {
                    rest.extend_from_slice(&bytes);
                    while let Some(end) = memchr::memchr(b'\n', &rest) {
                        let line: Line = serde_json::from_slice(&rest.split_to(end + 1))
                            .or_fail(|| "what the helper lists cannot be read")?;
                        for (path, found) in paths.iter().zip(&mut found) {
                            *found |= line.path == path.as_bytes();
                        }
                    }
                }
                session.finish::<()>().await?;
                Ok(found)
            },
        )
        .await
    }

    /// The archive into the folder, as stored: it is decompressed where it is written. What was written must be what
    /// was captured.
    async fn write(
        &self,
        session: &mut Session,
        into: Option<&str>,
        backup: &Backup,
        artifact: &Artifact,
    ) -> Result<()> {
        let begun = Instant::now();
        let facts = backup.facts().await?;
        let facts = facts.0.get(&artifact.name.to_string());
        let expected = volume_facts(facts.unwrap_or(&serde_json::Value::Null))?.tree;
        self.observer.observe(&Event::ArtifactStarted {
            artifact: artifact.name.to_string(),
            expected: Some(artifact.stored_size),
        });
        session
            .ask(Request::Extract {
                root: ROOT.to_owned(),
                into: into.map(str::to_owned),
                raw_size: artifact.raw_size,
            })
            .await?;
        let mut reader = backup.read(artifact);
        let mut sent = 0;
        while let Some(bytes) = reader.next().await? {
            sent += bytes.len() as u64;
            session.send(bytes).await?;
            self.observer.observe(&Event::Progress {
                artifact: artifact.name.to_string(),
                bytes: sent,
            });
        }
        session.sent_all().await?;
        let written: TreeFacts = session.finish().await?;
        if let Some(difference) = tree_difference(&expected, &written) {
            return Err(Error::failed(format!(
                "what was restored is not what was backed up: {}: {difference}",
                artifact.name
            )));
        }
        self.observer.observe(&Event::ArtifactFinished {
            artifact: artifact.name.to_string(),
            raw_size: artifact.raw_size,
            stored_size: artifact.stored_size,
            seconds: begun.elapsed().as_secs_f64(),
        });
        Ok(())
    }

    /// Works on a store; the helper for it is gone afterwards, however the work came out.
    async fn at_work<T>(
        &self,
        place: &Place,
        create: bool,
        work: impl AsyncFnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let in_memory = match place {
            Place::Volume(name) => {
                let volume = self.context.engine()?.volume(name).await?;
                let volume = volume
                    .ok_or_else(|| Error::failed(format!("there is no volume {name} any more")))?;
                volume.in_memory()
            }
            Place::Folder(_) => false,
        };
        let mount = HelperMount {
            create,
            ..HelperMount::write(place, ROOT)
        };
        with_session(self.context, self.run, vec![mount], in_memory, work).await
    }
}
