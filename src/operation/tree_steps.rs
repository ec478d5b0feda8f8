//! The steps of a restore or a rollback around volumes and folders and the containers that use them, done and undone.

use super::Context;
use super::first_backup::FirstBackup;
use super::quiesce::{quiesce, resume, take_back};
use super::snapshots::Snapshots;
use super::sources::some_image;
use super::standing::Anew;
use super::step::Step;
use super::trees::Trees;
use crate::docker::lock::StackLock;
use crate::docker::quiesce::Standstill;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::manifest::{Artifact, BackupId};
use crate::repository::{Backup, Repository};
use crate::stack::{ArtifactName, Stack};
use std::time::Duration;

/// Who takes these steps, and for which run.
pub(super) struct TreeWork<'a> {
    pub snapshots: Snapshots<'a>,
    pub trees: Trees<'a>,
    pub stack: &'a Stack,
    pub lock: &'a StackLock,
    /// Where archives come from and where what is replaced is backed up to; none where no tree is concerned.
    pub archives: Option<(&'a Repository, &'a Backup)>,
    /// The backup of what was replaced.
    pub safety: Option<BackupId>,
}

/// An artifact of a backup.
pub(super) fn artifact_of<'b>(backup: &'b Backup, name: &ArtifactName) -> Result<&'b Artifact> {
    let mut artifacts = backup.manifest().artifacts.iter();
    artifacts
        .find(|artifact| artifact.name == *name)
        .ok_or_else(|| Error::failed(format!("{name} is not part of the backup")))
}

/// Reads every stored byte once, before anything is touched.
pub(super) async fn verify(backup: &Backup, name: &ArtifactName) -> Result<()> {
    let mut reader = backup.read(artifact_of(backup, name)?);
    while reader.next().await?.is_some() {}
    Ok(())
}

impl TreeWork<'_> {
    fn context(&self) -> &Context {
        self.snapshots.context
    }

    fn archives(&self) -> Result<(&Repository, &Backup)> {
        self.archives
            .ok_or_else(|| Error::failed("this run has no backup to read from"))
    }

    /// Those who are started on what was put in place, or stopped again.
    fn anew<'s>(&'s self, image: &'s str, standstill: &'s Standstill) -> Anew<'s> {
        Anew {
            context: self.context(),
            run: self.snapshots.run,
            stack: &self.stack.name,
            image,
            standstill,
            observer: self.snapshots.observer,
        }
    }

    pub(super) async fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Quiesce { standstill } => {
                self.trees.keep(&standstill.trees).await?;
                let image = some_image(self.context(), self.stack).await?;
                quiesce(
                    self.context(),
                    self.snapshots.run,
                    &self.stack.name,
                    &image,
                    standstill,
                )
                .await
            }
            Step::Resume { standstill } => {
                resume(self.context(), self.snapshots.run.as_str(), standstill).await?;
                self.trees.let_go().await;
                Ok(())
            }
            Step::StartAgain {
                standstill,
                health,
                seconds,
            } => {
                let image = some_image(self.context(), self.stack).await?;
                let limit = Duration::from_secs(*seconds);
                self.anew(&image, standstill).start(health, limit).await?;
                self.trees.let_go().await;
                Ok(())
            }
            Step::BackUpFirst { artifacts, .. } => {
                let (repository, _) = self.archives()?;
                let first = FirstBackup {
                    context: self.context(),
                    stack: self.stack,
                    services: self.snapshots.services,
                    options: self.snapshots.options,
                    repository,
                    lock: self.lock,
                    observer: self.snapshots.observer,
                };
                let made = first.of(artifacts, self.snapshots.run).await?;
                self.safety = Some(made);
                Ok(())
            }
            Step::CreateVolume { volume } => self.trees.create(volume).await,
            Step::FillTree { artifact, place } => {
                let (_, backup) = self.archives()?;
                let artifact = artifact_of(backup, artifact)?;
                self.trees.fill(place, backup, artifact).await
            }
            Step::StageTree {
                artifact,
                place,
                folder,
            } => {
                let (_, backup) = self.archives()?;
                let artifact = artifact_of(backup, artifact)?;
                self.trees.stage(place, folder, backup, artifact).await
            }
            Step::SwapTree { tree } => self.trees.swap(tree).await,
            Step::RemoveTree { place, folder } => {
                // Everything runs again, and what was there before is in a backup: this is no reason to take it back.
                if let Err(error) = self.trees.remove(place, folder).await {
                    self.snapshots.observer.observe(&Event::Warning {
                        message: format!(
                            "{folder} is still in {place}, the next restore removes it: {}",
                            error.chain()
                        ),
                    });
                }
                Ok(())
            }
            _ => Err(Error::failed(format!("this run has no step \"{step}\""))),
        }
    }

    pub(super) async fn undo(&mut self, step: &Step) -> Result<()> {
        match step {
            // Not everything came up on what was put in place: what did is stopped for putting the old back.
            Step::StartAgain { standstill, .. } => {
                let image = some_image(self.context(), self.stack).await?;
                self.anew(&image, standstill).stop().await
            }
            Step::Quiesce { standstill } => {
                let run = self.snapshots.run.as_str();
                let resumed = take_back(self.context(), run, standstill).await;
                self.trees.let_go().await;
                resumed
            }
            Step::CreateVolume { volume } => self.trees.discard(&volume.name).await,
            Step::StageTree { place, folder, .. } => self.trees.remove(place, folder).await,
            Step::SwapTree { tree } => self.trees.swap_back(tree).await,
            _ => Ok(()),
        }
    }
}
