//! Which volumes and folders belong to a stack, who has them mounted, and what else covers them.

use super::sources::SourceService;
use crate::docker::Engine;
use crate::docker::helper::Place;
use crate::error::{Error, Result};
use crate::source::{postgres, redis};
use crate::stack::{ArtifactName, Mount, Service, SourceKind, Stack, Volume};
use std::collections::{BTreeMap, BTreeSet};

/// What stands before a folder's path in the configuration and on the command line.
pub const BIND: &str = "bind:";

/// A volume or a folder, and what is known of it.
#[derive(Debug, Clone)]
pub struct Store {
    /// Where it is.
    pub place: Place,
    /// What the engine knows of it; `None` for a folder.
    pub volume: Option<Volume>,
    /// Who has it mounted.
    pub users: Vec<User>,
    /// The service whose backup covers it: its database's data are in it.
    pub covered_by: Option<Covered>,
}

/// A container that has a store mounted.
#[derive(Debug, Clone)]
pub struct User {
    /// The stack that it is of.
    pub stack: String,
    /// The container.
    pub service: Service,
    /// Where it has it.
    pub destination: String,
    /// Whether it cannot write to it.
    pub read_only: bool,
}

/// What covers a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// What its server is.
    pub kind: SourceKind,
    /// The stack.
    pub stack: String,
    /// The service.
    pub service: String,
}

impl Covered {
    /// What the artifacts begin with that cover it: `postgres/db`.
    pub fn folder(&self) -> String {
        let kind = match self.kind {
            SourceKind::Postgres => "postgres",
            SourceKind::Redis | SourceKind::Volume | SourceKind::Files => "redis",
        };
        format!("{kind}/{}", crate::stack::encode(&self.service))
    }
}

impl Store {
    /// The artifact that its archive is.
    pub fn artifact(&self) -> ArtifactName {
        match &self.place {
            Place::Volume(name) => ArtifactName::Volume { name: name.clone() },
            Place::Folder(path) => ArtifactName::Bind { path: path.clone() },
        }
    }

    /// Whether it is gone when nobody has it mounted.
    pub fn in_memory(&self) -> bool {
        self.volume.as_ref().is_some_and(Volume::in_memory)
    }

    /// Who may be writing to it now.
    pub fn writers(&self) -> impl Iterator<Item = &User> {
        self.users
            .iter()
            .filter(|user| user.service.running && !user.read_only)
    }

    /// Whether somebody wants it left alone: it itself, or everyone who uses it, has `lifeboat.enable=false`.
    pub(super) fn is_disabled(&self) -> bool {
        let off = |labels: &BTreeMap<String, String>| {
            labels.get("lifeboat.enable").map(String::as_str) == Some("false")
        };
        self.volume
            .as_ref()
            .is_some_and(|volume| off(&volume.labels))
            || (!self.users.is_empty() && self.users.iter().all(|user| off(&user.service.labels)))
    }
}

/// Everything on an engine that holds files for containers.
#[derive(Debug)]
pub struct Stores {
    /// Every stack, stopped containers included.
    pub stacks: Vec<Stack>,
    /// Every volume, by name.
    pub volumes: Vec<Volume>,
}

impl Stores {
    /// Asks the engine.
    pub async fn of(engine: &Engine) -> Result<Self> {
        let (stacks, volumes) = tokio::try_join!(engine.containers(), engine.volumes())?;
        Ok(Self { stacks, volumes })
    }

    /// One volume. `sources` are the database services that may cover it.
    pub fn volume(&self, volume: &Volume, sources: &[(String, SourceService)]) -> Store {
        self.store(Place::Volume(volume.name.clone()), Some(volume), sources)
    }

    /// A folder of the engine's machine.
    pub fn folder(&self, path: &str, sources: &[(String, SourceService)]) -> Store {
        self.store(Place::Folder(path.to_owned()), None, sources)
    }

    fn store(
        &self,
        place: Place,
        volume: Option<&Volume>,
        sources: &[(String, SourceService)],
    ) -> Store {
        let users = self.users(&place);
        let covered_by = sources
            .iter()
            .find(|(_, source)| data_mount(source).is_some_and(|mount| is_at(mount, &place)))
            .map(|(stack, source)| Covered {
                kind: source.kind,
                stack: stack.clone(),
                service: source.service.name.clone(),
            });
        Store {
            place,
            volume: volume.cloned(),
            users,
            covered_by,
        }
    }

    /// The containers that have a store mounted, in the order of their stacks.
    fn users(&self, place: &Place) -> Vec<User> {
        let mut users = Vec::new();
        for stack in &self.stacks {
            for service in &stack.services {
                let mounts = service.mounts.iter().filter(|mount| is_at(mount, place));
                users.extend(mounts.map(|mount| User {
                    stack: stack.name.clone(),
                    service: service.clone(),
                    destination: mount.destination.clone(),
                    read_only: mount.read_only,
                }));
            }
        }
        users
    }

    /// What belongs to a stack: the volumes that it mounts or that were made for it, and the folders of `include`.
    ///
    /// # Errors
    /// Usage where `include` names something else than folders.
    pub fn of_stack(
        &self,
        stack: &Stack,
        services: &[SourceService],
        include: &[String],
    ) -> Result<Vec<Store>> {
        let sources: Vec<(String, SourceService)> = services
            .iter()
            .map(|service| (stack.name.clone(), service.clone()))
            .collect();
        let is_mounted = |volume: &&Volume| {
            let mut mounts = stack.services.iter().flat_map(|service| &service.mounts);
            volume.project() == Some(&stack.name)
                || (volume.project().is_none() && volume.name == stack.name)
                || mounts.any(|mount| mount.volume.as_deref() == Some(&volume.name))
        };
        let mut stores: Vec<Store> = self
            .volumes
            .iter()
            .filter(is_mounted)
            .map(|volume| self.volume(volume, &sources))
            .collect();
        let folders: Result<BTreeSet<&str>> = include.iter().map(|text| bind_path(text)).collect();
        for folder in folders? {
            stores.push(self.folder(folder, &sources));
        }
        Ok(stores)
    }
}

/// The path of a `bind:/path`.
pub fn bind_path(text: &str) -> Result<&str> {
    text.strip_prefix(BIND)
        .filter(|path| path.starts_with('/') && *path != "/")
        .map(|path| path.trim_end_matches('/'))
        .ok_or_else(|| {
            Error::usage(format!("{text:?} is no folder to include"))
                .hint("include = [\"bind:/absolute/path\"] in lifeboat.toml; volumes of the stack are included anyway")
        })
}

/// Whether a mount is of this store, or of a part of it, or of what it is a part of.
fn is_at(mount: &Mount, place: &Place) -> bool {
    match place {
        Place::Volume(name) => mount.volume.as_deref() == Some(name),
        Place::Folder(path) => mount
            .folder
            .as_deref()
            .is_some_and(|folder| is_below(folder, path) || is_below(path, folder)),
    }
}

fn is_below(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The mount that holds a database's data: the innermost one around its data folder.
fn data_mount(source: &SourceService) -> Option<&Mount> {
    let folders = data_folders(source);
    folders
        .iter()
        .find_map(|folder| mount_around(&source.service, folder))
}

/// Where a server has its data, as far as its container's description tells: folders in the container.
pub(super) fn data_folders(source: &SourceService) -> Vec<String> {
    match source.kind {
        SourceKind::Postgres => postgres::data_folders(&source.service),
        SourceKind::Redis => redis::data_folders(&source.service),
        SourceKind::Volume | SourceKind::Files => Vec::new(),
    }
}

/// The innermost mount around a folder in a container.
pub(super) fn mount_around<'s>(service: &'s Service, folder: &str) -> Option<&'s Mount> {
    service
        .mounts
        .iter()
        .filter(|mount| is_below(folder, &mount.destination))
        .max_by_key(|mount| mount.destination.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_compared_part_by_part() {
        assert!(is_below("/a/b", "/a") && is_below("/a", "/a/") && is_below("/a", "/"));
        assert!(!is_below("/ab", "/a") && !is_below("/a", "/a/b"));
    }

    #[test]
    fn only_absolute_folders_are_included() {
        assert_eq!(bind_path("bind:/srv/up/").unwrap(), "/srv/up");
        for wrong in ["/srv", "bind:srv", "bind:/", "volume/x", "bind:"] {
            assert!(bind_path(wrong).is_err(), "{wrong}");
        }
    }
}
