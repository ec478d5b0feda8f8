//! The steps of a restore, done and undone.

use super::first_backup::FirstBackup;
use super::load::Loading;
use super::plain::globals_script;
use super::plan::Executor;
use super::quiesce::{quiesce, resume, take_back};
use super::restore::RestoreRequest;
use super::restore_plan::{Incoming, Servers};
use super::snapshots::Snapshots;
use super::sources::some_image;
use super::step::Step;
use super::trees::Trees;
use crate::docker::lock::StackLock;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::manifest::{Artifact, BackupId, Facts};
use crate::repository::Backup;
use crate::source::postgres::{self, Role, Server, drop_database, marked};
use crate::source::{Capability, redis};
use crate::stack::{ArtifactName, Stack};
use std::collections::BTreeSet;

/// A restore at work.
pub(super) struct Work<'a> {
    pub backup: &'a Backup,
    pub run: &'a BackupId,
    pub servers: Servers,
    pub facts: &'a Facts,
    pub incoming: Vec<Incoming>,
    pub observer: &'a dyn Observer,
    pub snapshots: Snapshots<'a>,
    pub trees: Trees<'a>,
    pub stack: &'a Stack,
    pub request: &'a RestoreRequest,
    pub lock: &'a StackLock,
    /// The backup of what was replaced.
    pub safety: Option<BackupId>,
}

impl Executor for Work<'_> {
    async fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Verify { artifact } => self.verify(artifact).await,
            Step::CreateRoles { service, roles } => self.create_roles(service, roles).await,
            Step::CreateDatabase {
                service,
                side,
                target,
            } => {
                let (server, _) = self.server(service)?;
                let session = server.maintenance(&[]).await?;
                let properties = self.incoming(side)?.facts.properties.as_ref();
                server
                    .create_side(&session, side, target, self.run.as_str(), properties)
                    .await
            }
            Step::Load { service, side, .. } => self.load(service, side).await,
            Step::Settle { service, side } => {
                let (server, _) = self.server(service)?;
                server
                    .settle(side, self.incoming(side)?.facts.properties.as_ref())
                    .await
            }
            Step::Compare { service, side } => {
                let (server, _) = self.server(service)?;
                let compared = server.compare(side, &self.incoming(side)?.facts).await?;
                if !compared.unchecked.is_empty() {
                    self.observer.observe(&Event::Warning {
                        message: format!(
                            "not compared, because their names are no text in the database's encoding: {}",
                            compared.unchecked.join(", ")
                        ),
                    });
                }
                if compared.found.is_empty() {
                    return Ok(());
                }
                Err(Error::failed(format!(
                    "what was restored is not what was backed up: {}",
                    compared.found.join("; ")
                )))
            }
            Step::Swap {
                service,
                incoming,
                live,
                aside,
            } => {
                let (server, _) = self.server(service)?;
                let aside = aside.as_deref().map(|aside| (aside, Role::Kept));
                postgres::swap(server, live, incoming, aside, self.run.as_str()).await
            }
            Step::StageSnapshot {
                service,
                artifact,
                layout,
                folder,
            } => {
                let artifact = self.artifact(artifact)?;
                self.snapshots
                    .stage(service, layout, folder, self.backup, artifact)
                    .await
            }
            Step::ReplaceFiles {
                service,
                layout,
                incoming,
                aside,
            } => {
                self.snapshots
                    .replace(service, layout, incoming, aside)
                    .await
            }
            Step::CompareKeys { service, artifact } => {
                let facts = self.facts.0.get(&artifact.to_string());
                let facts = redis::snapshot_facts(facts.unwrap_or(&serde_json::Value::Null))?;
                self.snapshots.compare(service, &facts.snapshot).await
            }
            Step::FillVolume {
                service,
                artifact,
                layout,
                volume,
            } => {
                let artifact = self.artifact(artifact)?;
                self.snapshots
                    .fill_volume(service, layout, volume, self.backup, artifact)
                    .await
            }
            _ => self.perform_on_trees(step).await,
        }
    }

    async fn undo(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::CreateDatabase { service, side, .. } => {
                let (server, _) = self.server(service)?;
                let session = server.maintenance(&[]).await?;
                // After its swap this name is nobody's any more.
                drop_database(&session, side).await
            }
            Step::Swap {
                service,
                incoming,
                live,
                aside,
            } => {
                let (server, _) = self.server(service)?;
                let session = server.maintenance(&[]).await?;
                let swapped = match aside {
                    Some(aside) => marked(&session)
                        .await?
                        .iter()
                        .any(|kept| kept.name == *aside),
                    None => !server
                        .databases()
                        .await?
                        .iter()
                        .any(|known| known.name == *incoming),
                };
                match aside {
                    _ if !swapped => Ok(()),
                    Some(aside) => {
                        postgres::swap(
                            server,
                            live,
                            aside,
                            Some((incoming, Role::Side)),
                            self.run.as_str(),
                        )
                        .await
                    }
                    None => postgres::swap(server, incoming, live, None, self.run.as_str()).await,
                }
            }
            Step::StageSnapshot {
                service,
                layout,
                folder,
                ..
            } => self.snapshots.unstage(service, layout, folder).await,
            Step::ReplaceFiles {
                service,
                layout,
                incoming,
                aside,
            } => {
                self.snapshots
                    .put_back(service, layout, incoming, aside)
                    .await
            }
            // The plan was made only because there was no volume of this name.
            Step::FillVolume { volume, .. } => self.snapshots.remove_volume(volume).await,
            _ => self.undo_on_trees(step).await,
        }
    }
}

impl Work<'_> {
    async fn perform_on_trees(&mut self, step: &Step) -> Result<()> {
        let context = self.snapshots.context;
        match step {
            Step::Quiesce { standstill } => {
                self.trees.keep(&standstill.trees).await?;
                let image = some_image(context, self.stack).await?;
                quiesce(context, self.run, &self.stack.name, &image, standstill).await
            }
            Step::Resume { standstill } => {
                resume(context, self.run.as_str(), standstill).await?;
                self.trees.let_go().await;
                Ok(())
            }
            Step::BackUpFirst { artifacts, .. } => {
                let first = FirstBackup {
                    context,
                    stack: self.stack,
                    services: self.snapshots.services,
                    options: self.snapshots.options,
                    repository: &self.request.repository,
                    lock: self.lock,
                    observer: self.observer,
                };
                self.safety = Some(first.of(artifacts, self.run).await?);
                Ok(())
            }
            Step::CreateVolume { volume } => self.trees.create(volume).await,
            Step::FillTree { artifact, place } => {
                let artifact = self.artifact(artifact)?;
                self.trees.fill(place, self.backup, artifact).await
            }
            Step::StageTree {
                artifact,
                place,
                folder,
            } => {
                let artifact = self.artifact(artifact)?;
                self.trees.stage(place, folder, self.backup, artifact).await
            }
            Step::SwapTree { tree } => self.trees.swap(tree).await,
            Step::RemoveTree { place, folder } => {
                // Everything runs again, and what was there before is in a backup: this is no reason to take it back.
                if let Err(error) = self.trees.remove(place, folder).await {
                    self.observer.observe(&Event::Warning {
                        message: format!(
                            "{folder} is still in {place}, the next restore removes it: {}",
                            error.chain()
                        ),
                    });
                }
                Ok(())
            }
            _ => Err(Error::failed("a restore has no such step")),
        }
    }

    async fn undo_on_trees(&mut self, step: &Step) -> Result<()> {
        let context = self.snapshots.context;
        match step {
            // Not everything came up on what was put in place: what did is stopped for putting the old back.
            Step::Resume { standstill } => {
                for container in standstill.containers.iter().rev() {
                    let _ = context.engine()?.quiesce(container).await;
                }
                Ok(())
            }
            Step::Quiesce { standstill } => {
                let resumed = take_back(context, self.run.as_str(), standstill).await;
                self.trees.let_go().await;
                resumed
            }
            Step::CreateVolume { volume } => self.trees.discard(&volume.name).await,
            Step::StageTree { place, folder, .. } => self.trees.remove(place, folder).await,
            Step::SwapTree { tree } => self.trees.swap_back(tree).await,
            _ => Ok(()),
        }
    }

    fn server(&self, service: &str) -> Result<&(Server, Capability)> {
        self.servers
            .get(service)
            .ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
    }

    fn incoming(&self, side: &str) -> Result<&Incoming> {
        self.incoming
            .iter()
            .find(|incoming| incoming.side == side)
            .ok_or_else(|| Error::failed(format!("{side} is not part of this run")))
    }

    fn artifact(&self, name: &ArtifactName) -> Result<&Artifact> {
        self.backup
            .manifest()
            .artifacts
            .iter()
            .find(|artifact| artifact.name == *name)
            .ok_or_else(|| Error::failed(format!("{name} is not part of the backup")))
    }

    /// Reads every stored byte once, before anything is touched.
    async fn verify(&self, name: &ArtifactName) -> Result<()> {
        let mut reader = self.backup.read(self.artifact(name)?);
        while reader.next().await?.is_some() {}
        Ok(())
    }

    async fn create_roles(&self, service: &str, roles: &[String]) -> Result<()> {
        let name = ArtifactName::Globals {
            service: service.to_owned(),
        };
        let script = globals_script(self.backup, self.artifact(&name)?).await?;
        let (server, _) = self.server(service)?;
        let session = server.maintenance(&[]).await?;
        let wanted: BTreeSet<String> = roles.iter().cloned().collect();
        let wanted = (!roles.is_empty()).then_some(&wanted);
        let replay = server.replay_globals(&session, &script, wanted).await?;
        if !replay.created.is_empty() {
            let message = format!(
                "created in service {service}: {}",
                replay.created.join(", ")
            );
            self.observer.observe(&Event::Detail { message });
        }
        for message in replay.skipped {
            self.observer.observe(&Event::Warning { message });
        }
        Ok(())
    }

    async fn load(&self, service: &str, side: &str) -> Result<()> {
        let (server, capability) = self.server(service)?;
        let incoming = self.incoming(side)?;
        let loading = Loading {
            backup: self.backup,
            artifact: &incoming.artifact,
            facts: &incoming.facts.dump,
            server,
            capability: *capability,
            side,
            observer: self.observer,
        };
        loading.run().await
    }
}
