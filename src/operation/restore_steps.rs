//! The steps of a restore, done and undone.

use super::exchange::swap_back;
use super::load::Loading;
use super::plain::globals_script;
use super::plan::Executor;
use super::restore_plan::{Incoming, Servers};
use super::step::Step;
use super::tree_steps::{TreeWork, artifact_of, verify};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::manifest::{BackupId, Facts};
use crate::repository::Backup;
use crate::source::postgres::{self, Role, Server, drop_database};
use crate::source::{Capability, redis};
use crate::stack::ArtifactName;
use std::collections::BTreeSet;

/// A restore at work.
pub(super) struct Work<'a> {
    pub backup: &'a Backup,
    pub run: &'a BackupId,
    pub servers: Servers,
    pub facts: &'a Facts,
    pub incoming: Vec<Incoming>,
    pub observer: &'a dyn Observer,
    pub trees: TreeWork<'a>,
}

impl Executor for Work<'_> {
    async fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Verify { artifact } => verify(self.backup, artifact).await,
            Step::CreateRoles { service, roles } => {
                let (server, _) = self.server(service)?;
                create_roles(self.backup, server, roles, self.observer).await
            }
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
                ..
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
                let artifact = artifact_of(self.backup, artifact)?;
                self.trees
                    .snapshots
                    .stage(service, layout, folder, self.backup, artifact)
                    .await
            }
            Step::ReplaceFiles {
                service,
                layout,
                incoming,
                aside,
            } => {
                self.trees
                    .snapshots
                    .replace(service, layout, incoming, aside)
                    .await
            }
            Step::CompareKeys { service, artifact } => {
                let facts = self.facts.0.get(&artifact.to_string());
                let facts = redis::snapshot_facts(facts.unwrap_or(&serde_json::Value::Null))?;
                self.trees.snapshots.compare(service, &facts.snapshot).await
            }
            Step::FillVolume {
                service,
                artifact,
                layout,
                volume,
            } => {
                let artifact = artifact_of(self.backup, artifact)?;
                self.trees
                    .snapshots
                    .fill_volume(service, layout, volume, self.backup, artifact)
                    .await
            }
            _ => self.trees.perform(step).await,
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
            Step::Swap { service, .. } => {
                let (server, _) = self.server(service)?;
                swap_back(server, step, self.run.as_str()).await
            }
            Step::StageSnapshot {
                service,
                layout,
                folder,
                ..
            } => self.trees.snapshots.unstage(service, layout, folder).await,
            Step::ReplaceFiles {
                service,
                layout,
                incoming,
                aside,
            } => {
                self.trees
                    .snapshots
                    .put_back(service, layout, incoming, aside)
                    .await
            }
            // The plan was made only because there was no volume of this name.
            Step::FillVolume { volume, .. } => self.trees.snapshots.remove_volume(volume).await,
            _ => self.trees.undo(step).await,
        }
    }
}

impl Work<'_> {
    pub(super) fn server(&self, service: &str) -> Result<&(Server, Capability)> {
        self.servers
            .get(service)
            .ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
    }

    pub(super) fn incoming(&self, side: &str) -> Result<&Incoming> {
        self.incoming
            .iter()
            .find(|incoming| incoming.side == side)
            .ok_or_else(|| Error::failed(format!("{side} is not part of this run")))
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

/// Makes the roles of the backup's globals that a server lacks: `roles`, or all where that is empty.
pub(super) async fn create_roles(
    backup: &Backup,
    server: &Server,
    roles: &[String],
    observer: &dyn Observer,
) -> Result<()> {
    let service = &server.service().name;
    let name = ArtifactName::Globals {
        service: service.clone(),
    };
    let script = globals_script(backup, artifact_of(backup, &name)?).await?;
    let session = server.maintenance(&[]).await?;
    let wanted: BTreeSet<String> = roles.iter().cloned().collect();
    let wanted = (!roles.is_empty()).then_some(&wanted);
    let replay = server.replay_globals(&session, &script, wanted).await?;
    if !replay.created.is_empty() {
        let message = format!(
            "created in service {service}: {}",
            replay.created.join(", ")
        );
        observer.observe(&Event::Detail { message });
    }
    for message in replay.skipped {
        observer.observe(&Event::Warning { message });
    }
    Ok(())
}
