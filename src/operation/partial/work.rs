//! The steps of a restore of tables, done and undone.

use super::plan::Part;
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::manifest::BackupId;
use crate::operation::load::Loading;
use crate::operation::plan::Executor;
use crate::operation::restore_plan::Servers;
use crate::operation::restore_steps::create_roles;
use crate::operation::step::Step;
use crate::operation::tree_steps::verify;
use crate::repository::Backup;
use crate::source::Capability;
use crate::source::postgres::{Server, drop_database, of_tables};

/// A restore of tables at work.
pub(super) struct Work<'a> {
    pub backup: &'a Backup,
    pub run: &'a BackupId,
    pub servers: Servers,
    pub parts: Vec<Part>,
    pub observer: &'a dyn Observer,
}

impl Executor for Work<'_> {
    async fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Verify { artifact } => verify(self.backup, artifact).await,
            Step::CreateRoles { service, roles } => {
                let (server, _) = server(&self.servers, service)?;
                create_roles(self.backup, server, roles, self.observer).await
            }
            Step::CreateDatabase {
                service,
                side,
                target,
            } => {
                let (server, _) = server(&self.servers, service)?;
                let session = server.maintenance(&[]).await?;
                let properties = self.part(side)?.facts.properties.as_ref();
                server
                    .create_side(&session, side, target, self.run.as_str(), properties)
                    .await
            }
            Step::LoadTables { service, side, .. } => self.load(service, side).await,
            Step::CompareTables {
                service,
                side,
                carried,
            } => {
                let carried = carried.as_ref();
                let place = carried.map(|(live, schema)| (live.as_str(), schema.as_str()));
                self.compare(service, side, place).await
            }
            Step::CutLoose {
                service,
                side,
                schema,
            } => {
                let (server, _) = server(&self.servers, service)?;
                server.cut_loose(side, schema, &self.roots(side)?).await?;
                // It comes into the live database with this: whoever finds it there knows that it may not be whole.
                server.mark_schema(side, schema, self.run.as_str()).await
            }
            Step::Carry {
                service,
                side,
                live,
                schema,
            } => {
                let (server, _) = server(&self.servers, service)?;
                server.carry(side, live, schema).await
            }
            Step::SettleSchema {
                service,
                side,
                live,
                schema,
            } => {
                let (server, _) = server(&self.servers, service)?;
                let from = format!(
                    "{} of the backup {}, restored by lifeboat",
                    self.part(side)?.spelled().join(", "),
                    self.backup.manifest().backup
                );
                server
                    .settle_schema(live, schema, &self.roots(side)?, &from)
                    .await
            }
            Step::DropDatabase { service, name } => self.drop_side(service, name).await,
            _ => Err(Error::failed(format!("a restore of tables cannot {step}"))),
        }
    }

    async fn undo(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::CreateDatabase { service, side, .. } => self.drop_side(service, side).await,
            // One that was there before, or that somebody else has made meanwhile, does not carry the run's mark.
            Step::Carry { service, live, .. } => {
                let (server, _) = server(&self.servers, service)?;
                server.drop_unfinished(live, self.run.as_str()).await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn server<'s>(servers: &'s Servers, service: &str) -> Result<&'s (Server, Capability)> {
    servers
        .get(service)
        .ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
}

impl Work<'_> {
    fn part(&self, side: &str) -> Result<&Part> {
        let mut parts = self.parts.iter();
        parts
            .find(|part| part.side == side)
            .ok_or_else(|| Error::failed(format!("{side} is not part of this run")))
    }

    /// The tables that were asked for, as a session writes their names.
    fn roots(&self, side: &str) -> Result<Vec<(&str, &str)>> {
        let relations = self.part(side)?.relations.iter();
        Ok(relations
            .filter(|one| one.root)
            .map(|one| (one.schema.as_str(), one.name.as_str()))
            .collect())
    }

    async fn load(&mut self, service: &str, side: &str) -> Result<()> {
        let (server, capability) = server(&self.servers, service)?;
        let observer = self.observer;
        let backup = self.backup;
        let part = self
            .parts
            .iter_mut()
            .find(|part| part.side == side)
            .ok_or_else(|| Error::failed(format!("{side} is not part of this run")))?;
        let loading = Loading {
            backup,
            artifact: &part.artifact,
            facts: &part.facts.dump,
            server,
            capability: *capability,
            side,
            observer,
        };
        let dump = &part.facts.dump;
        let names = part.names();
        let mut relations = Vec::new();
        let chosen = async || {
            relations = server.relations(side, dump, &names).await?;
            Ok(of_tables(&part.contents.entries, dump, &relations))
        };
        loading.tables(&part.contents, chosen).await?;
        part.relations = relations;
        Ok(())
    }

    async fn compare(
        &self,
        service: &str,
        side: &str,
        carried: Option<(&str, &str)>,
    ) -> Result<()> {
        let (server, _) = server(&self.servers, service)?;
        let part = self.part(side)?;
        let (database, schema) =
            carried.map_or((side, None), |(live, schema)| (live, Some(schema)));
        let compared = server
            .compare_tables(database, &part.facts.dump, &part.relations, schema)
            .await?;
        if compared.found.is_empty() {
            return Ok(());
        }
        Err(Error::failed(format!(
            "what was restored is not what was backed up: {}",
            compared.found.join("; ")
        )))
    }

    async fn drop_side(&self, service: &str, side: &str) -> Result<()> {
        let (server, _) = server(&self.servers, service)?;
        let session = server.maintenance(&[]).await?;
        drop_database(&session, side).await
    }
}
