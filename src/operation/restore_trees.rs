//! What a restore is going to do with volumes and folders.

use super::Context;
use super::quiesce;
use super::restore::{RestoreRequest, Target};
use super::step::Step;
use super::trees::{BEFORE, RESTORING};
use super::volume_source::{ROOT, open_session};
use super::volumes::{Store, Stores};
use crate::docker::helper::{HelperMount, Place};
use crate::docker::quiesce::{Standstill, SwappedTree};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::helper::protocol::{Measure, Request};
use crate::manifest::{Artifact, BackupId};
use crate::repository::{Backup, Location};
use crate::stack::{ArtifactName, SourceKind, Volume};
use serde::Deserialize;

/// What is done with trees, by the time at which it is done.
#[derive(Debug, Default)]
pub(super) struct TreeSteps {
    /// What makes new volumes and fills them, or writes beside what is there: nothing that serves is touched.
    pub beside: Vec<Step>,
    /// What is stopped, and what is put right if the run dies.
    pub standstill: Standstill,
    /// Once nothing writes any more.
    pub swaps: Vec<Step>,
    /// Once everything runs again.
    pub after: Vec<Step>,
}

/// What a plan for trees is made from.
pub(super) struct TreePlanner<'a> {
    pub context: &'a Context,
    pub request: &'a RestoreRequest,
    pub backup: &'a Backup,
    pub selected: &'a [Artifact],
    pub run: &'a BackupId,
    pub observer: &'a dyn Observer,
}

impl TreePlanner<'_> {
    /// Looks at what is there.
    ///
    /// # Errors
    /// Usage where the request cannot be met.
    pub(super) async fn make(&self) -> Result<TreeSteps> {
        let mut steps = TreeSteps::default();
        let mut fills = Vec::new();
        let mut made = Vec::new();
        let mut first = Vec::new();
        let trees = self
            .selected
            .iter()
            .filter(|artifact| artifact.name.source_kind() == SourceKind::Volume);
        let mut trees = trees.peekable();
        if trees.peek().is_none() {
            return Ok(steps);
        }
        let stores = Stores::of(self.context.engine()?).await?;
        for artifact in trees {
            let place = self.target(&artifact.name).await?;
            let present = present(&place, &stores);
            if let (Target::InPlace, Some(store)) = (&self.request.target, &present) {
                refuse_unknown_folder(store)?;
            }
            match (&place, present) {
                (_, Some(store)) if self.request.target == Target::InPlace => {
                    self.swap(artifact, &store, &stores, &mut steps)?;
                    first.push(artifact.name.clone());
                }
                (Place::Volume(name), _) => {
                    made.push(name.clone());
                    fills.push(Step::CreateVolume {
                        volume: self.volume(&artifact.name, name, &stores).await?,
                    });
                    fills.push(fill(artifact, &place));
                }
                (Place::Folder(_), _) => fills.push(fill(artifact, &place)),
            }
        }
        if !made.is_empty() {
            let standstill = Standstill {
                volumes: made,
                ..Standstill::default()
            };
            fills.insert(
                0,
                Step::Quiesce {
                    standstill: standstill.clone(),
                },
            );
            fills.push(Step::Resume { standstill });
        }
        steps.beside.splice(0..0, fills);
        if !first.is_empty() {
            let repository = address(self.request.repository.location());
            let artifacts = first;
            steps.swaps.insert(
                0,
                Step::BackUpFirst {
                    artifacts,
                    repository,
                },
            );
        }
        Ok(steps)
    }

    /// Where an artifact goes.
    async fn target(&self, name: &ArtifactName) -> Result<Place> {
        let place =
            match (name, &self.request.target) {
                (ArtifactName::Bind { path }, Target::InPlace) => Place::Folder(path.clone()),
                (ArtifactName::Volume { name }, Target::InPlace) => Place::Volume(name.clone()),
                (ArtifactName::Bind { .. }, Target::As(path)) => {
                    if !path.starts_with('/') || path.trim_matches('/').is_empty() {
                        return Err(Error::usage(format!(
                            "{path:?} is no folder of the engine's machine"
                        ))
                        .hint("--as /absolute/path: a folder that is empty, or not there yet"));
                    }
                    self.check_empty(path).await?;
                    Place::Folder(path.trim_end_matches('/').to_owned())
                }
                (_, Target::As(name)) => {
                    if self.context.engine()?.volume_exists(name).await? {
                        return Err(Error::usage(format!("there is a volume {name:?} already")).hint(
                        "choose another name, or --in-place to replace what the backup is of",
                    ));
                    }
                    Place::Volume(name.clone())
                }
                (other, Target::InPlace | Target::Beside) => {
                    return Err(Error::failed(format!("{other} is no tree of files")));
                }
            };
        Ok(place)
    }

    /// A folder that something is restored into beside must not hold anything yet.
    async fn check_empty(&self, path: &str) -> Result<()> {
        let mount = HelperMount::read(&Place::Folder(path.to_owned()), ROOT);
        let mut session = match open_session(self.context, self.run, vec![mount], false).await {
            Ok(session) => session,
            // The engine's words for a folder that is not there.
            Err(error) if error.chain().contains("does not exist") => return Ok(()),
            Err(error) => return Err(error),
        };
        let roots = vec![ROOT.to_owned()];
        let measured = session.perform(Request::Measure { roots }).await;
        session.close().await?;
        let measured: Vec<Result<Measure, String>> = measured?;
        match measured.first() {
            Some(Ok(measure)) if measure.files + measure.directories == 0 => Ok(()),
            Some(Err(error)) => Err(Error::failed(format!("cannot look into {path}: {error}"))),
            _ => Err(Error::usage(format!("the folder {path} is not empty"))
                .hint("choose one that is, or --in-place to replace what the backup is of")),
        }
    }

    /// Writes beside, stops who writes to it, and swaps.
    fn swap(
        &self,
        artifact: &Artifact,
        store: &Store,
        stores: &Stores,
        steps: &mut TreeSteps,
    ) -> Result<()> {
        let place = store.place.clone();
        let incoming = format!("{RESTORING}{}", self.run);
        let aside = format!("{BEFORE}{}", self.run);
        steps.beside.push(Step::StageTree {
            artifact: artifact.name.clone(),
            place: place.clone(),
            folder: incoming.clone(),
        });
        let containers = quiesce::to_stop(store, &stores.stacks)?;
        for one in containers {
            let is_captured = self
                .selected
                .iter()
                .any(|artifact| artifact.name.service() == Some(&one.service));
            if is_captured {
                return Err(Error::usage(format!(
                    "service {} is restored while it runs, and writes to {place}, which is replaced while it does not",
                    one.service
                ))
                .hint("restore the two one after the other: --only"));
            }
            let known = &mut steps.standstill.containers;
            if !known
                .iter()
                .any(|known| known.container_id == one.container_id)
            {
                known.push(one);
            }
        }
        let tree = SwappedTree {
            place: place.clone(),
            incoming,
            aside: aside.clone(),
        };
        steps.standstill.trees.push(tree.clone());
        steps.swaps.push(Step::SwapTree { tree });
        steps.after.push(Step::RemoveTree {
            place,
            folder: aside,
        });
        Ok(())
    }

    /// The volume that is made: exactly as it was under its own name. Under another one without what Compose would
    /// compare with the name, and without options that name a folder or device that somebody else has.
    async fn volume(&self, artifact: &ArtifactName, name: &str, stores: &Stores) -> Result<Volume> {
        let original = match artifact {
            ArtifactName::Volume { name } => name.as_str(),
            _ => name,
        };
        let recorded = recorded_volume(self.backup, original).await?;
        let Some(recorded) = recorded else {
            return Ok(Volume::plain(name));
        };
        let volume = renamed(&recorded, name);
        let shared = recorded.device().filter(|device| {
            let mut others = stores.volumes.iter();
            others.any(|other| other.device() == Some(device))
        });
        match shared {
            None => Ok(volume),
            Some(device) => {
                self.observer.observe(&Event::Warning {
                    message: format!(
                        "volume {name} is made without the options of {original}: they name {device}, and both would \
                         hold the same files"
                    ),
                });
                Ok(Volume {
                    labels: volume.labels,
                    ..Volume::plain(name)
                })
            }
        }
    }
}

/// Where a repository is, seen from any folder: whoever undoes this later may be in another one.
fn address(location: &Location) -> String {
    let absolute = location.path().map(std::path::absolute);
    match absolute {
        Some(Ok(path)) => path.display().to_string(),
        _ => location.to_string(),
    }
}

/// What is there now; a folder that is restored in place is taken to be.
fn present(place: &Place, stores: &Stores) -> Option<Store> {
    match place {
        Place::Volume(name) => {
            let volume = stores.volumes.iter().find(|volume| volume.name == *name)?;
            Some(stores.volume(volume, &[]))
        }
        Place::Folder(path) => Some(stores.folder(path, &[])),
    }
}

/// A backup names folders of the engine's machine, and whoever wrote the backup chose them: only those that
/// containers have mounted are replaced.
fn refuse_unknown_folder(store: &Store) -> Result<()> {
    match &store.place {
        Place::Folder(path) if store.users.is_empty() => Err(Error::usage(format!(
            "no container has the folder {path} mounted, and nothing else is replaced"
        ))
        .hint("--as PATH restores it into an empty or new folder")),
        _ => Ok(()),
    }
}

fn fill(artifact: &Artifact, place: &Place) -> Step {
    Step::FillTree {
        artifact: artifact.name.clone(),
        place: place.clone(),
    }
}

/// A volume as it is, under another name. Compose's own digest of its description goes: it counts the name, and
/// where it does not agree, Compose asks whether to make the volume anew and lose its data.
pub(super) fn renamed(volume: &Volume, name: &str) -> Volume {
    let mut renamed = Volume {
        name: name.to_owned(),
        ..volume.clone()
    };
    if volume.name != name {
        renamed.labels.remove("com.docker.compose.config-hash");
    }
    renamed
}

/// What the engine said of a volume when the backup was made.
async fn recorded_volume(backup: &Backup, name: &str) -> Result<Option<Volume>> {
    #[derive(Deserialize)]
    struct Described {
        #[serde(default)]
        volumes: Vec<Volume>,
    }
    let described = backup.stack_json().await?;
    let described: Described = serde_json::from_value(described).map_err(|error| {
        Error::damaged("stack.json does not say what volumes there were").caused_by(error)
    })?;
    Ok(described
        .volumes
        .into_iter()
        .find(|volume| volume.name == name))
}
