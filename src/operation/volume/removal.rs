//! Removing volumes, and whole projects with theirs: only what nobody has mounted, and only what a backup holds as it
//! is now.

use super::super::Context;
use super::super::first_backup::FirstBackup;
use super::super::lock::release;
use super::super::sources::{SourceOptions, SourcesByStack};
use super::super::volume_source::{ROOT, with_session};
use super::super::volumes::Store;
use super::copy::refuse_mounted;
use super::list::newest;
use super::{Surroundings, take_lock};
use crate::archive::TreeFacts;
use crate::docker::helper::HelperMount;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer};
use crate::helper::protocol::Request;
use crate::manifest::BackupId;
use crate::repository::{Entry, Repository};
use crate::source::volume::volume_facts;
use crate::stack::Stack;
use serde::Serialize;
use std::time::Duration;

/// What to remove.
#[derive(Debug)]
pub struct RemoveRequest {
    /// The volumes.
    pub names: Vec<String>,
    /// Where their backups are; `None` where none are wanted.
    pub repository: Option<Repository>,
    /// How long to wait for another run on the stack.
    pub wait: Option<Duration>,
}

/// A volume that may be removed, or not.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// The stack that it was made for.
    pub stack: String,
    /// The backup that holds it as it is now: `STACK/ID`, re-read to its last byte.
    pub backup: Option<String>,
    /// Why it stays.
    pub kept: Option<String>,
    /// What to do about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Looks at volumes that are to be removed: each is read, and its newest backup is.
///
/// # Errors
/// Not found where there is no such volume. Why one would stay is no error here.
pub async fn look(
    context: &Context,
    request: &RemoveRequest,
    observer: &dyn Observer,
) -> Result<Vec<Candidate>> {
    let surroundings = Surroundings::of(context.engine()?).await?;
    let mut stores = Vec::new();
    for name in &request.names {
        let store = surroundings.store(name)?;
        if store.volume.is_none() {
            return Err(Error::usage(format!(
                "{name} is a folder, and only volumes are removed"
            )));
        }
        stores.push(store);
    }
    judge_all(
        context,
        &surroundings,
        stores,
        request.repository.as_ref(),
        observer,
    )
    .await
}

/// The volumes that no container has mounted, of one stack or of all; each looked at as [`look`] does.
pub async fn orphans(
    context: &Context,
    stack: Option<&str>,
    repository: Option<&Repository>,
    observer: &dyn Observer,
) -> Result<Vec<Candidate>> {
    let surroundings = Surroundings::of(context.engine()?).await?;
    let volumes = &surroundings.stores.volumes;
    let stores = volumes
        .iter()
        .map(|volume| surroundings.stores.volume(volume, &surroundings.sources))
        .filter(|store| store.users.is_empty())
        .filter(|store| stack.is_none_or(|stack| surroundings.stack_of(store).name == stack))
        .collect();
    judge_all(context, &surroundings, stores, repository, observer).await
}

async fn judge_all(
    context: &Context,
    surroundings: &Surroundings,
    stores: Vec<Store>,
    repository: Option<&Repository>,
    observer: &dyn Observer,
) -> Result<Vec<Candidate>> {
    let entries = match repository {
        Some(repository) => super::super::catalog::list(repository, None).await?,
        None => Vec::new(),
    };
    let mut candidates = Vec::new();
    for store in stores {
        let volume = store.volume.as_ref();
        let name = volume.map(|volume| volume.name.clone()).unwrap_or_default();
        observer.observe(&Event::Detail {
            message: format!("looking at {name}"),
        });
        let judged = async {
            refuse_mounted(&store)?;
            match repository {
                Some(repository) => {
                    let proven = proven(context, &store, repository, &entries);
                    context.unless_cancelled(proven).await.map(Some)
                }
                None => Ok(None),
            }
        };
        let (backup, kept, hint) = match judged.await {
            Ok(backup) => (backup, None, None),
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => (
                None,
                Some(error.chain()),
                error.hint_text().map(str::to_owned),
            ),
        };
        candidates.push(Candidate {
            name,
            stack: surroundings.stack_of(&store).name,
            backup,
            kept,
            hint,
        });
    }
    Ok(candidates)
}

/// The backup that holds a volume as it is now.
///
/// # Errors
/// With the reason where none does.
async fn proven(
    context: &Context,
    store: &Store,
    repository: &Repository,
    entries: &[Entry],
) -> Result<String> {
    let name = store.artifact();
    let again = format!(
        "lifeboat volume backup {} makes one; --no-backup removes it without",
        store
            .volume
            .as_ref()
            .map(|volume| volume.name.as_str())
            .unwrap_or_default()
    );
    let entry = newest(store, entries)
        .ok_or_else(|| Error::failed("no backup has it").hint(again.as_str()))?;
    let backup = repository.open_backup(entry).await?;
    let mut artifacts = backup.manifest().artifacts.iter();
    let artifact = artifacts
        .find(|artifact| artifact.name == name)
        .ok_or_else(|| Error::failed("no backup has it").hint(again.as_str()))?;
    let mut reader = backup.read(artifact);
    while reader.next().await?.is_some() {}
    let facts = backup.facts().await?;
    let facts = facts.0.get(&name.to_string());
    let recorded = volume_facts(facts.unwrap_or(&serde_json::Value::Null))?.tree;
    let now = digest(context, store).await?;
    if now == recorded {
        return Ok(entry.reference());
    }
    Err(Error::failed(format!(
        "it has changed since its newest backup {}",
        entry.reference()
    ))
    .hint(again))
}

/// What a volume holds now.
async fn digest(context: &Context, store: &Store) -> Result<TreeFacts> {
    let run = context.new_id()?;
    let mount = HelperMount::read(&store.place, ROOT);
    with_session(context, &run, vec![mount], false, async |session| {
        let root = ROOT.to_owned();
        session.perform(Request::Digest { root }).await
    })
    .await
}

/// Removes one volume that was looked at. What has come to use it since, the engine itself protects.
pub async fn remove(
    context: &Context,
    candidate: &Candidate,
    wait: Option<Duration>,
    observer: &dyn Observer,
) -> Result<()> {
    let surroundings = Surroundings::of(context.engine()?).await?;
    let run = context.new_id()?;
    let stack = surroundings.stack(&candidate.stack);
    let lock = take_lock(context, &stack, &run, "volume rm", wait, false, observer).await?;
    let removed = context.engine()?.remove_volume(&candidate.name).await;
    release(lock, observer).await;
    removed
}

/// What to take down.
#[derive(Debug)]
pub struct ProjectRequest {
    /// The Compose project.
    pub stack: String,
    /// Where it is backed up first; `None` where it is not wanted.
    pub repository: Option<Repository>,
    /// The sources' configuration.
    pub sources: SourcesByStack,
    /// How long to wait for another run on the stack.
    pub wait: Option<Duration>,
    /// Look and stop.
    pub dry_run: bool,
}

/// What goes, or went.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectReport {
    /// The Compose project.
    pub stack: String,
    /// Its containers.
    pub containers: Vec<String>,
    /// The volumes that were made for it.
    pub volumes: Vec<String>,
    /// Its networks.
    pub networks: Vec<String>,
    /// The pinned backup of all of it.
    pub backup: Option<String>,
    /// Whether it was done.
    pub done: bool,
}

/// Takes a Compose project down with its volumes, as `docker compose down -v` does, after a backup of all of it that is
/// pinned and was read again to its last byte.
///
/// # Errors
/// Usage where there is no such project; whatever keeps it from being backed up keeps it from being removed.
pub async fn remove_project(
    context: &Context,
    request: &ProjectRequest,
    observer: &dyn Observer,
) -> Result<ProjectReport> {
    let engine = context.engine()?;
    let surroundings = Surroundings::of(engine).await?;
    let stack = surroundings.stack(&request.stack);
    let volumes = surroundings.stores.volumes.iter();
    let volumes: Vec<String> = volumes
        .filter(|volume| volume.project() == Some(&stack.name))
        .map(|volume| volume.name.clone())
        .collect();
    let containers = stack.services.iter();
    let mut report = ProjectReport {
        containers: containers
            .map(|service| service.container_name.clone())
            .collect(),
        networks: engine.networks_of(&stack.name).await?,
        stack: stack.name.clone(),
        volumes,
        backup: None,
        done: false,
    };
    if report.containers.is_empty() && report.volumes.is_empty() {
        return Err(
            Error::usage(format!("there is no Compose project {:?}", request.stack))
                .hint("docker compose ls --all shows what there is"),
        );
    }
    for name in &report.volumes {
        let store = surroundings.store(name)?;
        let mut users = store.users.iter();
        if let Some(user) = users.find(|user| user.stack != stack.name) {
            return Err(Error::usage(format!(
                "volume {name} is mounted by {}, which is not of {}",
                user.service.container_name, stack.name
            ))
            .hint("remove that container first, running or not"));
        }
    }
    if request.dry_run {
        return Ok(report);
    }
    let run = context.new_id()?;
    let lock = take_lock(
        context,
        &stack,
        &run,
        "volume rm",
        request.wait,
        false,
        observer,
    )
    .await?;
    let outcome = async {
        if let (Some(repository), Some(lock)) = (&request.repository, &lock) {
            let options = request
                .sources
                .get(&stack.name)
                .cloned()
                .unwrap_or_default();
            let services = surroundings.services(&stack.name);
            let first = FirstBackup {
                context,
                stack: &stack,
                services: &services,
                options: &options,
                repository,
                lock,
                observer,
            };
            let id = back_up_and_read(&first, repository, &stack, &options, &run).await?;
            report.backup = Some(format!("{}/{id}", stack.name));
        }
        for service in stack.services.iter().rev() {
            engine.stop(&service.container_id).await?;
            engine.remove_container(&service.container_id).await?;
        }
        for network in &report.networks {
            engine.remove_network(network).await?;
        }
        for volume in &report.volumes {
            engine.remove_volume(volume).await?;
        }
        report.done = true;
        Ok(())
    }
    .await;
    release(lock, observer).await;
    outcome.map(|()| report)
}

async fn back_up_and_read(
    first: &FirstBackup<'_>,
    repository: &Repository,
    stack: &Stack,
    options: &SourceOptions,
    run: &BackupId,
) -> Result<BackupId> {
    let id = first.of_all(options, run).await?;
    let entry = repository.resolve(id.as_str(), Some(&stack.name)).await?;
    let report = repository
        .open_backup(&entry)
        .await?
        .verify_objects(|_, _| {})
        .await?;
    match report.damaged.first() {
        None => Ok(id),
        Some(damage) => Err(Error::damaged(format!(
            "the backup {id} is not what was written: {}",
            damage.reason
        ))),
    }
}
