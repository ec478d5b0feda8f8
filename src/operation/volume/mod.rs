//! What people do with volumes: look at them, copy, move, compare and remove them.

pub mod copy;
pub mod diff;
pub mod list;
mod migrate;
pub mod removal;

pub use migrate::{MigrateRequest, migrate};

use super::Context;
use super::lock::Claim;
use super::sources::{SourceOptions, SourceService, source_services};
use super::volumes::{BIND, Store, Stores, bind_path};
use crate::docker::Engine;
use crate::docker::helper::Place;
use crate::docker::lock::StackLock;
use crate::error::{Error, Result, nearest};
use crate::event::Observer;
use crate::manifest::BackupId;
use crate::stack::{ArtifactName, SourceKind, Stack};
use std::time::Duration;

/// Everything on an engine that holds files, and the databases that cover some of it.
pub(super) struct Surroundings {
    pub stores: Stores,
    /// Database services with their stacks.
    pub sources: Vec<(String, SourceService)>,
}

impl Surroundings {
    pub(super) async fn of(engine: &Engine) -> Result<Self> {
        let stores = Stores::of(engine).await?;
        let mut sources = Vec::new();
        for stack in &stores.stacks {
            let found = source_services(engine, stack).await?;
            sources.extend(found.into_iter().map(|source| (stack.name.clone(), source)));
        }
        Ok(Self { stores, sources })
    }

    /// The volume of this name, or the folder of a `bind:/path`.
    ///
    /// # Errors
    /// Not found, with the nearest names, where there is no such volume.
    pub(super) fn store(&self, name: &str) -> Result<Store> {
        if name.starts_with(BIND) {
            return Ok(self.stores.folder(bind_path(name)?, &self.sources));
        }
        let mut volumes = self.stores.volumes.iter();
        if let Some(volume) = volumes.find(|volume| volume.name == name) {
            return Ok(self.stores.volume(volume, &self.sources));
        }
        let names = self
            .stores
            .volumes
            .iter()
            .map(|volume| volume.name.as_str());
        let near = nearest(name, names).join(" or ");
        let error = Error::not_found(format!("there is no volume {name:?}"));
        Err(match near.is_empty() {
            true => error.hint("lifeboat volume ls shows what there is; a folder is bind:/path"),
            false => error.hint(format!("did you mean {near}?")),
        })
    }

    /// The stack that a store's backups and locks are of: the one that it was made for, else that of the first
    /// container that has it mounted, else its own name.
    pub(super) fn stack_of(&self, store: &Store) -> Stack {
        let project = store.volume.as_ref().and_then(|volume| volume.project());
        let user = store.users.first().map(|user| user.stack.as_str());
        let own = match &store.place {
            Place::Volume(name) | Place::Folder(name) => name.as_str(),
        };
        self.stack(project.or(user).unwrap_or(own))
    }

    /// The stack of this name; an empty one where there is none.
    pub(super) fn stack(&self, name: &str) -> Stack {
        let mut stacks = self.stores.stacks.iter();
        let found = stacks.find(|stack| stack.name == name);
        found.cloned().unwrap_or_else(|| Stack {
            name: name.to_owned(),
            services: Vec::new(),
        })
    }

    /// The database services of a stack.
    pub(super) fn services(&self, stack: &str) -> Vec<SourceService> {
        let own = self.sources.iter().filter(|(name, _)| name == stack);
        own.map(|(_, source)| source.clone()).collect()
    }
}

/// Takes the lock on a stack for work on its volumes; `None` for a dry run.
pub(super) async fn take_lock(
    context: &Context,
    stack: &Stack,
    run: &BackupId,
    operation: &'static str,
    wait: Option<Duration>,
    dry_run: bool,
    observer: &dyn Observer,
) -> Result<Option<StackLock>> {
    let options = SourceOptions::default();
    // Whatever a dead run left to put right is on the engine; its journal may know more, of servers.
    let services = source_services(context.engine()?, stack).await?;
    let claim = Claim {
        stack,
        services: &services,
        options: &options,
        observer,
        run,
        operation,
        wait,
        dry_run,
    };
    claim.take(context).await
}

/// The stack that backups of a volume or folder are of, for `volume backup`.
pub async fn stack_of(context: &Context, name: &str) -> Result<(String, String)> {
    let surroundings = Surroundings::of(context.engine()?).await?;
    let store = surroundings.store(name)?;
    Ok((
        surroundings.stack_of(&store).name,
        store.artifact().to_string(),
    ))
}

/// The artifact that a volume's or a folder's archive is: `data` is `volume/data`.
pub fn artifact_of(name: &str) -> Result<String> {
    let artifact = match name.starts_with(BIND) {
        true => ArtifactName::Bind {
            path: bind_path(name)?.to_owned(),
        },
        false => ArtifactName::Volume {
            name: name.to_owned(),
        },
    };
    Ok(artifact.to_string())
}

/// What a kind of source is called.
fn kind_name(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Postgres => "PostgreSQL",
        SourceKind::Redis => "Redis",
        SourceKind::Volume => "volume",
        SourceKind::Files => "files",
    }
}
