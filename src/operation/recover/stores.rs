//! Which volumes and folders of a backup come back, and from what.

use super::Left;
use crate::docker::helper::Place;
use crate::manifest::Artifact;
use crate::operation::homes::DataHome;
use crate::stack::{ArtifactName, SourceKind};
use std::collections::BTreeMap;

/// A volume or a folder that comes back.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub place: Place,
    pub content: Content,
}

/// What comes back into it.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// A server's data.
    Server(Box<DataHome>),
    /// A tree of files.
    Tree(ArtifactName),
}

impl Store {
    /// Whether an artifact is a part of what comes back into it.
    pub(super) fn is_from(&self, name: &ArtifactName) -> bool {
        match &self.content {
            Content::Server(home) => {
                name.source_kind() == home.kind && name.service() == Some(&home.service)
            }
            Content::Tree(tree) => tree == name,
        }
    }
}

/// What of a backup can come back onto an empty engine, servers first; and what cannot.
pub(super) fn sorted_out(artifacts: &[Artifact], homes: &[DataHome]) -> (Vec<Store>, Vec<Left>) {
    let (mut stores, mut left) = (Vec::<Store>::new(), Vec::new());
    for (name, (kind, service)) in servers(artifacts) {
        let mut known = homes.iter();
        let home = known.find(|home| home.kind == kind && home.service == service);
        match placed(home) {
            Ok((home, place)) if stores.iter().all(|store| store.place != place) => {
                stores.push(Store {
                    place,
                    content: Content::Server(Box::new(home.clone())),
                });
            }
            Ok((_, place)) => left.push(Left {
                artifact: name,
                why: format!("another server has its data in {place}, too"),
                hint: in_place(&service),
            }),
            Err(why) => left.push(Left {
                artifact: name,
                why: why.to_owned(),
                hint: in_place(&service),
            }),
        }
    }
    for artifact in artifacts {
        let place = match &artifact.name {
            ArtifactName::Volume { name } => Place::Volume(name.clone()),
            ArtifactName::Bind { path } => Place::Folder(path.clone()),
            _ => continue,
        };
        let why = match &place {
            Place::Volume(name) if is_anonymous(name) => {
                "it is an anonymous volume: Compose makes a new one when it starts the service"
            }
            place if stores.iter().any(|store| store.place == *place) => {
                "the database in it comes back from its own artifact"
            }
            _ => {
                stores.push(Store {
                    place,
                    content: Content::Tree(artifact.name.clone()),
                });
                continue;
            }
        };
        left.push(Left {
            artifact: artifact.name.to_string(),
            why: why.to_owned(),
            hint: format!("lifeboat restore BACKUP --only {} --as NAME", artifact.name),
        });
    }
    (stores, left)
}

/// The servers of a backup by what their artifacts begin with: `postgres/db`.
fn servers(artifacts: &[Artifact]) -> BTreeMap<String, (SourceKind, String)> {
    let of_servers = artifacts.iter().filter_map(|artifact| {
        let (kind, service) = (artifact.name.source_kind(), artifact.name.service()?);
        let product = match kind {
            SourceKind::Postgres => "postgres",
            _ => "redis",
        };
        let name = format!("{product}/{}", crate::stack::encode(service));
        Some((name, (kind, service.to_owned())))
    });
    of_servers.collect()
}

/// Where a server's data go, where they outlive its container.
fn placed(home: Option<&DataHome>) -> Result<(&DataHome, Place), &'static str> {
    let home = home.ok_or("the backup does not say where its server had its data")?;
    match (&home.place, home.below_mount()) {
        (Some(Place::Volume(name)), _) if is_anonymous(name) => Err(
            "its server had its data in an anonymous volume: Compose makes a new one when it starts the service",
        ),
        (Some(place), Some(_)) => Ok((home, place.clone())),
        _ => Err("its server had its data on no volume"),
    }
}

fn in_place(service: &str) -> String {
    format!("start service {service}, then lifeboat restore BACKUP --in-place --only its artifacts")
}

/// Whether the engine made the name up: 64 hexadecimal digits.
pub(super) fn is_anonymous(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit())
}
