//! Which volumes and folders of a backup come back, and from what.

use super::Left;
use crate::docker::helper::Place;
use crate::manifest::Artifact;
use crate::operation::homes::DataHome;
use crate::stack::{ArtifactName, SourceKind, Volume};
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

/// What of a backup can come back, and what cannot.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Servers first.
    pub stores: Vec<Store>,
    pub left: Vec<Left>,
    pub notes: Vec<String>,
}

/// Sorts out what of a backup, `reference`, can come back onto an empty engine. `volumes` are those that the engine had.
pub(super) fn sorted_out(
    artifacts: &[Artifact],
    homes: &[DataHome],
    volumes: &[Volume],
    reference: &str,
) -> Sorted {
    let mut sorted = Sorted::default();
    for (name, (kind, service)) in servers(artifacts) {
        let mut known = homes.iter();
        let home = known.find(|home| home.kind == kind && home.service == service);
        let why = match placed(home) {
            Ok((home, place)) if !sorted.has(&place) => match unkept(&place, volumes) {
                None => {
                    sorted.stores.push(Store {
                        place,
                        content: Content::Server(Box::new(home.clone())),
                    });
                    continue;
                }
                Some(why) => format!("its server had its data in {place}: {why}"),
            },
            Ok((_, place)) => format!("another server has its data in {place}, too"),
            Err(why) => why.to_owned(),
        };
        sorted.leave(&name, &why, &service, reference);
    }
    for artifact in artifacts {
        let place = match &artifact.name {
            ArtifactName::Volume { name } => Place::Volume(name.clone()),
            ArtifactName::Bind { path } => Place::Folder(path.clone()),
            _ => continue,
        };
        let name = artifact.name.to_string();
        if sorted.has(&place) {
            sorted.notes.push(format!(
                "{name} is not used: the database in it comes back from its own artifacts"
            ));
            continue;
        }
        match unkept(&place, volumes) {
            None => sorted.stores.push(Store {
                place,
                content: Content::Tree(artifact.name.clone()),
            }),
            Some(why) => sorted.leave(&name, why, "that uses it", reference),
        }
    }
    sorted
}

impl Sorted {
    fn has(&self, place: &Place) -> bool {
        self.stores.iter().any(|store| store.place == *place)
    }

    fn leave(&mut self, artifact: &str, why: &str, service: &str, reference: &str) {
        self.left.push(Left {
            artifact: artifact.to_owned(),
            why: why.to_owned(),
            hint: format!(
                "start the service {service}, then lifeboat restore {reference} --in-place --only {artifact}"
            ),
        });
    }
}

/// Why what is written into a volume now would not be there when Compose starts the stack.
fn unkept(place: &Place, volumes: &[Volume]) -> Option<&'static str> {
    let Place::Volume(name) = place else {
        return None;
    };
    let mut known = volumes.iter();
    if is_anonymous(name) {
        return Some("an anonymous volume: Compose makes a new one when it starts the service");
    }
    let in_memory = known.any(|volume| volume.name == *name && volume.in_memory());
    in_memory.then_some("a volume in memory, which is gone while no container has it mounted")
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
        (Some(place), Some(_)) => Ok((home, place.clone())),
        _ => Err("its server had its data on no volume"),
    }
}

/// Whether the engine made the name up: 64 hexadecimal digits.
pub(super) fn is_anonymous(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_gone_again_is_left() {
        let anonymous = "0a".repeat(32);
        let memory = Volume {
            options: [("type".to_owned(), "tmpfs".to_owned())].into(),
            ..Volume::plain("memory")
        };
        let why = |name: &str| {
            unkept(
                &Place::Volume(name.to_owned()),
                &[memory.clone(), Volume::plain("data")],
            )
        };
        assert!(why(&anonymous).unwrap().contains("anonymous"));
        assert!(why("memory").unwrap().contains("in memory"));
        assert_eq!(why("data"), None);
        assert_eq!(unkept(&Place::Folder(anonymous.clone()), &[]), None);
    }

    #[test]
    fn a_server_without_a_volume_cannot_be_filled() {
        let home = |place: Option<Place>, mounted_at: Option<&str>| DataHome {
            service: "db".to_owned(),
            kind: SourceKind::Postgres,
            folder: "/var/lib/data/17".to_owned(),
            place,
            mounted_at: mounted_at.map(str::to_owned),
            layout: None,
            user: None,
            initial: BTreeMap::new(),
        };
        let volume = Place::Volume("pg".to_owned());
        let inside = home(Some(volume.clone()), Some("/var/lib/data/"));
        assert_eq!(inside.below_mount(), Some("/17"));
        assert_eq!(placed(Some(&inside)).unwrap().1, volume);
        assert!(placed(Some(&home(None, None))).is_err());
        assert!(placed(None).is_err());
    }
}
