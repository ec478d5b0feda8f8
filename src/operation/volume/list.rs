//! What volumes there are, how much is in them, who uses them, and what backs them up.

use super::super::Context;
use super::super::volume_source::with_session;
use super::super::volumes::Store;
use super::{Surroundings, kind_name};
use crate::docker::helper::{HelperMount, Place};
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::helper::protocol::{Measure, Request};
use crate::repository::{Entry, Repository};
use crate::stack::ArtifactName;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What to look at.
#[derive(Debug)]
pub struct ListRequest {
    /// Only this stack's; everything on the engine without.
    pub stack: Option<String>,
    /// Only this volume or folder.
    pub name: Option<String>,
    /// Where backups are looked for.
    pub repository: Option<Repository>,
    /// Whether to measure how much is in each.
    pub sizes: bool,
}

/// A volume or a mounted folder.
#[derive(Debug, Clone, Serialize)]
pub struct VolumeReport {
    /// Its name; `bind:/path` for a folder.
    pub name: String,
    /// What keeps it; `bind` for a folder.
    pub driver: String,
    /// What its driver was told.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The stack that it belongs to.
    pub stack: Option<String>,
    /// The containers that have it mounted.
    pub mounted_by: Vec<MountReport>,
    /// Whether no container has it mounted.
    pub orphan: bool,
    /// The service whose dump covers it: `PostgreSQL service db`.
    pub covered_by: Option<String>,
    /// The newest backup of it, or of what covers it.
    pub backup: Option<BackupReport>,
    /// How much is in it, where it was measured.
    pub size: Option<Measure>,
    /// Why it could not be measured.
    pub unmeasured: Option<String>,
}

/// A container that has it mounted.
#[derive(Debug, Clone, Serialize)]
pub struct MountReport {
    /// The container's name.
    pub container: String,
    /// Where.
    pub destination: String,
    /// Whether it cannot write to it.
    pub read_only: bool,
    /// Whether it runs.
    pub running: bool,
}

/// A backup that has it.
#[derive(Debug, Clone, Serialize)]
pub struct BackupReport {
    /// `STACK/ID`.
    pub backup: String,
    /// When it started.
    pub started: DateTime<Utc>,
}

/// Looks at every volume and mounted folder.
pub async fn list(
    context: &Context,
    request: &ListRequest,
    observer: &dyn Observer,
) -> Result<Vec<VolumeReport>> {
    let surroundings = Surroundings::of(context.engine()?).await?;
    let stores = match &request.name {
        Some(name) => vec![surroundings.store(name)?],
        None => all(&surroundings),
    };
    let of_stack = |store: &Store| {
        request.stack.as_ref().is_none_or(|wanted| {
            store.users.iter().any(|user| user.stack == *wanted)
                || surroundings.stack_of(store).name == *wanted
        })
    };
    let stores: Vec<Store> = stores.into_iter().filter(of_stack).collect();
    let entries = match &request.repository {
        Some(repository) => super::super::catalog::list(repository, None).await?,
        None => Vec::new(),
    };
    let mut reports: Vec<VolumeReport> = stores
        .iter()
        .map(|store| report(store, &surroundings, &entries))
        .collect();
    if request.sizes {
        let measured = context
            .unless_cancelled(measure(context, &stores, observer))
            .await?;
        for (report, measured) in reports.iter_mut().zip(measured) {
            match measured {
                Ok(size) => report.size = Some(size),
                Err(error) => report.unmeasured = Some(error),
            }
        }
    }
    Ok(reports)
}

/// Every volume by name, then every folder that is mounted somewhere.
fn all(surroundings: &Surroundings) -> Vec<Store> {
    let stores = &surroundings.stores;
    let volumes = stores
        .volumes
        .iter()
        .map(|volume| stores.volume(volume, &surroundings.sources));
    let folders: BTreeSet<&str> = stores
        .stacks
        .iter()
        .flat_map(|stack| &stack.services)
        .flat_map(|service| &service.mounts)
        .filter_map(|mount| mount.folder.as_deref())
        .collect();
    let folders = folders
        .into_iter()
        .map(|folder| stores.folder(folder, &surroundings.sources));
    volumes.chain(folders).collect()
}

fn report(store: &Store, surroundings: &Surroundings, entries: &[Entry]) -> VolumeReport {
    let (name, driver) = match (&store.place, &store.volume) {
        (Place::Volume(name), Some(volume)) => (name.clone(), volume.driver.clone()),
        (Place::Volume(name), None) => (name.clone(), String::new()),
        (Place::Folder(path), _) => (format!("bind:{path}"), "bind".to_owned()),
    };
    let volume = store.volume.as_ref();
    let project = volume.and_then(|volume| volume.project());
    let has_stack = project.is_some() || !store.users.is_empty();
    VolumeReport {
        name,
        driver,
        options: volume
            .map(|volume| volume.options.clone())
            .unwrap_or_default(),
        labels: volume
            .map(|volume| volume.labels.clone())
            .unwrap_or_default(),
        stack: has_stack.then(|| surroundings.stack_of(store).name),
        mounted_by: store
            .users
            .iter()
            .map(|user| MountReport {
                container: user.service.container_name.clone(),
                destination: user.destination.clone(),
                read_only: user.read_only,
                running: user.service.running,
            })
            .collect(),
        orphan: store.users.is_empty(),
        covered_by: store
            .covered_by
            .as_ref()
            .map(|covered| format!("{} service {}", kind_name(covered.kind), covered.service)),
        backup: newest(store, entries).map(|entry| BackupReport {
            backup: entry.reference(),
            started: entry.id.started(),
        }),
        size: None,
        unmeasured: None,
    }
}

/// The newest backup that has a store's archive, or the dump that covers it.
pub(super) fn newest<'e>(store: &Store, entries: &'e [Entry]) -> Option<&'e Entry> {
    let own = store.artifact();
    let covers = |name: &ArtifactName, stack: &str| {
        *name == own
            || store
                .covered_by
                .as_ref()
                .is_some_and(|covered| covered.stack == stack && name.matches(&covered.folder()))
    };
    entries
        .iter()
        .filter(|entry| {
            let artifacts = entry.commit.iter().flat_map(|commit| &commit.artifacts);
            artifacts.into_iter().any(|name| covers(name, &entry.stack))
        })
        .max_by_key(|entry| entry.id.started())
}

/// How much is in stores: one helper for all of them, which works on several at once.
async fn measure(
    context: &Context,
    stores: &[Store],
    observer: &dyn Observer,
) -> Result<Vec<Result<Measure, String>>> {
    if stores.is_empty() {
        return Ok(Vec::new());
    }
    observer.observe(&Event::Detail {
        message: format!("measuring {} volumes and folders", stores.len()),
    });
    if let Ok(measured) = together(context, stores).await {
        return Ok(measured);
    }
    // One that cannot be mounted keeps all of them from being looked at.
    let mut measured = Vec::new();
    for store in stores {
        observer.observe(&Event::Detail {
            message: format!("measuring {}", store.place),
        });
        let alone = together(context, std::slice::from_ref(store)).await;
        measured.push(match alone {
            Ok(mut one) => one
                .pop()
                .unwrap_or_else(|| Err("it was not measured".to_owned())),
            Err(error) => Err(error.chain()),
        });
    }
    Ok(measured)
}

async fn together(context: &Context, stores: &[Store]) -> Result<Vec<Result<Measure, String>>> {
    let run = context.new_id()?;
    let roots: Vec<String> = (0..stores.len())
        .map(|number| format!("/volumes/{number}"))
        .collect();
    let mounts = stores.iter().zip(&roots);
    let mounts = mounts.map(|(store, root)| HelperMount::read(&store.place, root));
    with_session(context, &run, mounts.collect(), false, async |session| {
        session.perform(Request::Measure { roots }).await
    })
    .await
}
