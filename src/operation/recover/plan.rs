//! What a recovery is going to do. What can be known to fail fails here, before anything is made.

use super::stores::{Content, Store, is_anonymous, sorted_out};
use super::{Left, RecoverRequest};
use crate::docker::helper::Place;
use crate::docker::network::RecordedNetwork;
use crate::docker::quiesce::{Standstill, SwappedTree};
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::manifest::{Artifact, BackupId, Facts};
use crate::operation::Context;
use crate::operation::bases::{Bases, Images, Missing};
use crate::operation::files;
use crate::operation::homes::{DataHome, recorded};
use crate::operation::journal::{self, Past};
use crate::operation::new_cluster::globals;
use crate::operation::plan::Plan;
use crate::operation::restore_plan::{Incoming, all_incoming};
use crate::operation::step::Step;
use crate::operation::trees::{BEFORE, RESTORING, Trees};
use crate::repository::Backup;
use crate::source::postgres::derived_name;
use crate::stack::{ArtifactName, SourceKind, Volume};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;

/// The database that every new cluster has.
const FIRST_DATABASE: &str = "postgres";

/// A plan, and what its steps refer to.
pub(super) struct Planned {
    pub plan: Plan,
    /// What comes back.
    pub stores: Vec<Store>,
    /// What an earlier run has brought back.
    pub kept: Vec<Place>,
    pub left: Vec<Left>,
    pub notes: Vec<String>,
    pub bases: Bases,
    pub incoming: Vec<Incoming>,
}

/// What a plan is made from.
pub(super) struct Planner<'a> {
    pub context: &'a Context,
    pub request: &'a RecoverRequest,
    pub backup: &'a Backup,
    pub facts: &'a Facts,
    /// What the engine said of the stack.
    pub described: &'a Value,
    pub run: &'a BackupId,
    pub observer: &'a dyn Observer,
}

/// What there is of a store.
enum Present {
    Nothing,
    /// A volume with nothing in it.
    Empty,
    /// All of it, from an earlier run of this recovery.
    Finished,
    /// Something else.
    Taken,
}

impl Planner<'_> {
    /// Looks at the engine.
    ///
    /// # Errors
    /// Usage where something is there already; failed where an image is missing that is not to be fetched.
    pub(super) async fn make(&self) -> Result<Planned> {
        let artifacts = &self.backup.manifest().artifacts;
        let sorted = sorted_out(
            artifacts,
            &recorded(self.described)?,
            &self.described_as::<Volume>("volumes")?,
            &self.request.entry.reference(),
        );
        let past = self.past();
        let (mut stores, mut kept) = (Vec::new(), Vec::new());
        let mut filling = Vec::new();
        let incoming = all_incoming(self.backup, self.facts, self.run)?;
        for store in sorted.stores {
            match self.present(&store.place, &past).await? {
                Present::Finished => kept.push(store.place),
                Present::Taken => return Err(self.taken(&store.place)),
                present => {
                    let makes = matches!(present, Present::Nothing);
                    filling.extend(self.store(&store, makes, &incoming)?);
                    stores.push(store);
                }
            }
        }
        let needed: Vec<Artifact> = artifacts
            .iter()
            .filter(|artifact| stores.iter().any(|store| store.is_from(&artifact.name)))
            .cloned()
            .collect();
        let files = self.files(&past)?;
        let verify = needed.iter().map(|artifact| Step::Verify {
            artifact: artifact.name.clone(),
        });
        let mut steps: Vec<Step> = verify.collect();
        let (bases, fetching) = self.images(&needed).await?;
        steps.extend(fetching);
        steps.extend(self.networks().await?);
        for step in &mut filling {
            name_image(step, &bases);
        }
        steps.extend(filling);
        steps.extend(self.empty_volumes(&stores).await?);
        steps.extend(files);
        let mut notes = sorted.notes;
        notes.extend(self.missing_images(&needed).await?);
        Ok(Planned {
            plan: Plan {
                operation: "recover".to_owned(),
                run: self.run.to_string(),
                stack: self.request.entry.stack.clone(),
                steps,
            },
            stores,
            kept,
            left: sorted.left,
            notes,
            bases,
            incoming,
        })
    }

    /// The earlier runs of this recovery that did not come to their end.
    fn past(&self) -> Vec<Past> {
        let id = self.request.entry.id.to_string();
        let past = journal::past(&self.context.state, &self.request.entry.stack);
        let is_of_this = |past: &Past| {
            let mut steps = past.plan.steps.iter();
            past.plan.operation == "recover"
                && !past.is_whole()
                && steps
                    .any(|step| matches!(step, Step::FinishStore { backup, .. } if *backup == id))
        };
        past.into_iter().filter(is_of_this).collect()
    }

    async fn present(&self, place: &Place, past: &[Past]) -> Result<Present> {
        let engine = self.context.engine()?;
        if let Place::Volume(name) = place
            && !engine.volume_exists(name).await?
        {
            return Ok(Present::Nothing);
        }
        // Whoever only plans has not put right yet what a dead run left.
        if self.request.dry_run {
            let dead = engine.abandoned().await?;
            let mut dead = dead.iter().map(|one| &one.standstill);
            let is_begun = |standstill: &Standstill| match place {
                Place::Volume(name) => standstill.volumes.contains(name),
                Place::Folder(_) => false,
            };
            if dead.any(is_begun) {
                return Ok(Present::Nothing);
            }
        }
        let trees = Trees::new(self.context, self.run, self.observer);
        if trees.is_empty(place).await? {
            return Ok(Present::Empty);
        }
        let stands = |past: &Past| {
            past.has_begun(
                |step| matches!(step, Step::FinishStore { place: finished, .. } if finished == place),
            )
        };
        Ok(match past.iter().any(stands) {
            true => Present::Finished,
            false => Present::Taken,
        })
    }

    fn taken(&self, place: &Place) -> Error {
        let remove = match place {
            Place::Volume(name) => format!("docker volume rm {name}"),
            Place::Folder(path) => format!("move {path} away"),
        };
        Error::usage(format!("there is something in {place} already")).hint(format!(
            "lifeboat restore {} --in-place replaces it, once the stack runs; or, if nothing in it is of use: {remove}",
            self.request.entry.reference()
        ))
    }

    /// The steps that bring one store back.
    fn store(&self, store: &Store, makes: bool, incoming: &[Incoming]) -> Result<Vec<Step>> {
        let place = store.place.clone();
        let folder = format!("{RESTORING}{}", self.run);
        let tree = SwappedTree {
            place: place.clone(),
            incoming: folder.clone(),
            aside: format!("{BEFORE}{}", self.run),
        };
        let mut steps = Vec::new();
        let standstill = match &place {
            Place::Volume(name) if makes => {
                steps.push(Step::CreateVolume {
                    volume: self.volume(name)?,
                });
                Standstill {
                    volumes: vec![name.clone()],
                    ..Standstill::default()
                }
            }
            _ => Standstill {
                trees: vec![tree.clone()],
                ..Standstill::default()
            },
        };
        steps.insert(0, Step::Quiesce { standstill });
        match &store.content {
            Content::Tree(artifact) => steps.push(Step::StageTree {
                artifact: artifact.clone(),
                place: place.clone(),
                folder,
            }),
            Content::Server(home) => {
                steps.extend(self.server(home, &place, &folder, incoming)?);
                steps.push(Step::EndServer {
                    service: home.service.clone(),
                });
            }
        }
        let aside = tree.aside.clone();
        steps.extend([
            Step::SwapTree { tree },
            Step::RemoveTree {
                place: place.clone(),
                folder: aside,
            },
            Step::FinishStore {
                place,
                backup: self.request.entry.id.to_string(),
            },
        ]);
        Ok(steps)
    }

    /// The steps that fill a server, as a restore would.
    fn server(
        &self,
        home: &DataHome,
        place: &Place,
        folder: &str,
        incoming: &[Incoming],
    ) -> Result<Vec<Step>> {
        let service = home.service.clone();
        if home.kind == SourceKind::Redis {
            let artifact = ArtifactName::Redis {
                service: service.clone(),
            };
            return Ok(vec![
                Step::StartOnStore {
                    service: service.clone(),
                    artifact: artifact.clone(),
                    image: String::new(),
                    place: place.clone(),
                    folder: folder.to_owned(),
                },
                Step::CompareKeys { service, artifact },
            ]);
        }
        let mut artifacts = self.backup.manifest().artifacts.iter();
        if !artifacts.any(|artifact| artifact.name == globals(&service)) {
            return Err(Error::failed(format!(
                "the backup has no roles of service {service}: nobody could log in to a new cluster"
            ))
            .hint("choose a whole backup: --backup; or start the stack and restore its databases in place"));
        }
        let mut steps = vec![
            Step::StartCluster {
                service: service.clone(),
                image: String::new(),
                place: place.clone(),
                folder: folder.to_owned(),
            },
            Step::CreateRoles {
                service: service.clone(),
                roles: Vec::new(),
            },
        ];
        for one in incoming {
            let ArtifactName::Database {
                service: of,
                database,
            } = &one.artifact.name
            else {
                continue;
            };
            if *of == service {
                steps.extend(self.database(one, &service, database));
            }
        }
        Ok(steps)
    }

    fn database(&self, one: &Incoming, service: &str, database: &str) -> Vec<Step> {
        let (service, side) = (service.to_owned(), one.side.clone());
        let aside = (database == FIRST_DATABASE)
            .then(|| derived_name(database, "before", self.run.as_str()));
        let mut steps = vec![
            Step::CreateDatabase {
                service: service.clone(),
                side: side.clone(),
                target: database.to_owned(),
            },
            Step::Load {
                service: service.clone(),
                artifact: one.artifact.name.clone(),
                side: side.clone(),
            },
            Step::Settle {
                service: service.clone(),
                side: side.clone(),
            },
            Step::Compare {
                service: service.clone(),
                side: side.clone(),
            },
            Step::Swap {
                service: service.clone(),
                incoming: side,
                live: database.to_owned(),
                aside: aside.clone(),
                kept_by: None,
            },
        ];
        // The empty one that the new cluster began with.
        steps.extend(aside.map(|name| Step::DropDatabase { service, name }));
        steps
    }

    /// The images that are there, and the steps that bring the others.
    async fn images(&self, needed: &[Artifact]) -> Result<(Bases, Vec<Step>)> {
        let images = Images {
            context: self.context,
            artifacts: &self.backup.manifest().artifacts,
            described: self.described,
            given: &self.request.images,
        };
        let mut found = images.find().await?;
        found.missing.retain(|missing| {
            let mut needed = needed.iter();
            needed.any(|artifact| artifact.name.service() == Some(&missing.service))
        });
        if let Some(file) = &self.request.load {
            if !file.is_file() {
                return Err(Error::usage(format!("there is no file {}", file.display()))
                    .hint("docker save -o FILE IMAGE… writes one where the images are"));
            }
            return Ok((found.bases, vec![Step::LoadImages { file: file.clone() }]));
        }
        if !self.request.pull {
            return Ok((found.whole()?, Vec::new()));
        }
        let pull = |one: &Missing| Step::PullImage {
            service: one.service.clone(),
            image: one.image.clone(),
            digest: one.digest.clone(),
        };
        let steps = found.missing.iter().map(pull).collect();
        Ok((found.bases, steps))
    }

    /// The networks that Compose wants to find, and that are not there.
    async fn networks(&self) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for network in self.described_as::<RecordedNetwork>("networks")? {
            let engine = self.context.engine()?;
            if network.is_external() && !engine.network_exists(network.name()).await? {
                steps.push(Step::CreateNetwork { network });
            }
        }
        Ok(steps)
    }

    /// The volumes that the stack had and the backup has nothing for: Compose wants the external ones to be there.
    async fn empty_volumes(&self, stores: &[Store]) -> Result<Vec<Step>> {
        let planned: BTreeSet<&Place> = stores.iter().map(|store| &store.place).collect();
        let mut steps = Vec::new();
        for volume in self.described_as::<Volume>("volumes")? {
            let place = Place::Volume(volume.name.clone());
            let is_left = is_anonymous(&volume.name) || volume.in_memory();
            let engine = self.context.engine()?;
            if !is_left && !planned.contains(&place) && !engine.volume_exists(&volume.name).await? {
                steps.push(Step::CreateVolume { volume });
            }
        }
        Ok(steps)
    }

    /// A volume as it was.
    fn volume(&self, name: &str) -> Result<Volume> {
        let mut recorded = self.described_as::<Volume>("volumes")?.into_iter();
        let found = recorded.find(|volume| volume.name == name);
        Ok(found.unwrap_or_else(|| Volume::plain(name)))
    }

    fn described_as<T: DeserializeOwned>(&self, what: &str) -> Result<Vec<T>> {
        let value = self.described.get(what).cloned();
        let value = value.filter(|value| !value.is_null());
        let read = value.map(serde_json::from_value).transpose();
        read.map(Option::unwrap_or_default).map_err(|error| {
            Error::damaged(format!("stack.json does not say what {what} there were"))
                .caused_by(error)
        })
    }

    fn files(&self, past: &[Past]) -> Result<Option<Step>> {
        let Some(folder) = &self.request.files_to else {
            return Ok(None);
        };
        let mut artifacts = self.backup.manifest().artifacts.iter();
        if !artifacts.any(|artifact| artifact.name == ArtifactName::Files) {
            return Err(Error::usage("the backup does not have the project's files")
                .hint("it was made with files = [] or where they could not be read"));
        }
        let step = Step::WriteFiles {
            folder: folder.to_string_lossy().into_owned(),
        };
        if folder.is_dir() && past.iter().any(|past| past.has_done(|done| *done == step)) {
            return Ok(None);
        }
        files::check_target(folder)?;
        Ok(Some(step))
    }

    /// What Compose is going to ask for besides.
    async fn missing_images(&self, needed: &[Artifact]) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let services = self.described.pointer("/stack/services");
        let services = services.and_then(Value::as_array).into_iter().flatten();
        let text = |service: &Value, name: &str| {
            let text = service.get(name).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        for service in services {
            let (name, image) = (text(service, "name"), text(service, "image"));
            let is_needed = needed
                .iter()
                .any(|artifact| artifact.name.service() == Some(&name));
            if !is_needed && self.context.engine()?.local_image(&image).await?.is_none() {
                notes.push(format!(
                    "service {name} runs {image}, which this engine does not have: Compose pulls or builds it"
                ));
            }
        }
        Ok(notes)
    }
}

/// Says in a step what its server is started from.
fn name_image(step: &mut Step, bases: &Bases) {
    if let Step::StartCluster { service, image, .. } | Step::StartOnStore { service, image, .. } =
        step
    {
        let found = bases.get(service.as_str());
        *image = match found {
            Some(found) => found.image.name.clone(),
            None => "the image that is fetched".to_owned(),
        };
    }
}
