//! What a drill is going to do. What can be known to fail fails here, before anything is made.

use super::questions::target;
use super::{DrillRequest, ImageUsed};
use crate::docker::local_image::LocalImage;
use crate::docker::throwaway::Limits;
use crate::error::{Error, Result, nearest};
use crate::manifest::{Artifact, BackupId, Facts};
use crate::operation::Context;
use crate::operation::plan::Plan;
use crate::operation::restore_plan::Incoming;
use crate::operation::step::Step;
use crate::operation::throwaway::limits;
use crate::repository::Backup;
use crate::source::postgres::{database_facts, derived_name};
use crate::stack::{ArtifactName, SourceKind};
use serde_json::Value;
use std::collections::BTreeMap;

/// The database that every new cluster has.
const FIRST_DATABASE: &str = "postgres";

/// What a server is started from.
#[derive(Debug, Clone)]
pub(super) struct Basis {
    pub image: LocalImage,
    /// Whether it is the very image that the backup was made from.
    pub exact: bool,
    pub limits: Limits,
}

/// A plan, and what its steps refer to.
pub(super) struct Planned {
    pub plan: Plan,
    /// By service.
    pub bases: BTreeMap<String, Basis>,
    pub incoming: Vec<Incoming>,
}

impl Planned {
    pub(super) fn images(&self) -> Vec<ImageUsed> {
        let used = |(service, basis): (&String, &Basis)| ImageUsed {
            service: service.clone(),
            image: basis.image.name.clone(),
            id: basis.image.id.clone(),
            exact: basis.exact,
        };
        self.bases.iter().map(used).collect()
    }
}

/// What a plan is made from.
pub(super) struct Planner<'a> {
    pub context: &'a Context,
    pub request: &'a DrillRequest,
    pub backup: &'a Backup,
    pub facts: &'a Facts,
    /// What the engine said of the stack.
    pub described: &'a Value,
    pub run: &'a BackupId,
}

impl Planner<'_> {
    pub(super) async fn make(&self) -> Result<Planned> {
        let bases = self.bases().await?;
        let incoming = self.incoming()?;
        let artifacts = &self.backup.manifest().artifacts;
        let mut steps: Vec<Step> = artifacts
            .iter()
            .map(|artifact| Step::Verify {
                artifact: artifact.name.clone(),
            })
            .collect();
        for (service, basis) in &bases {
            self.add_databases(service, basis, &incoming, &mut steps);
        }
        for artifact in artifacts {
            add_store(&artifact.name, &bases, &mut steps);
        }
        // From here on everything serves again: what follows is not a part of the recovery's time.
        steps.extend(incoming.iter().filter_map(check_indexes));
        for check in &self.request.checks {
            steps.push(Step::CheckRestored {
                check: check.clone(),
                artifact: target(check, artifacts, &self.request.entry.stack)?,
            });
        }
        steps.push(Step::RecordProof {
            repository: self.request.repository.location().to_string(),
        });
        steps.push(Step::RemoveThrowaways);
        let plan = Plan {
            operation: "drill".to_owned(),
            run: self.run.to_string(),
            stack: self.request.entry.stack.clone(),
            steps,
        };
        Ok(Planned {
            plan,
            bases,
            incoming,
        })
    }

    /// The steps that bring back one PostgreSQL server, as a restore would.
    fn add_databases(
        &self,
        service: &str,
        basis: &Basis,
        incoming: &[Incoming],
        steps: &mut Vec<Step>,
    ) {
        let mine = |name: &ArtifactName| {
            name.source_kind() == SourceKind::Postgres && name.service() == Some(service)
        };
        let artifacts = &self.backup.manifest().artifacts;
        if !artifacts.iter().any(|artifact| mine(&artifact.name)) {
            return;
        }
        let service = service.to_owned();
        steps.push(Step::StartThrowaway {
            service: service.clone(),
            image: basis.image.name.clone(),
        });
        steps.push(Step::CreateRoles {
            service: service.clone(),
            roles: Vec::new(),
        });
        for one in incoming.iter().filter(|one| mine(&one.artifact.name)) {
            let ArtifactName::Database { database, .. } = &one.artifact.name else {
                continue;
            };
            let (service, side) = (service.clone(), one.side.clone());
            let aside = (database == FIRST_DATABASE)
                .then(|| derived_name(database, "before", self.run.as_str()));
            steps.extend([
                Step::CreateDatabase {
                    service: service.clone(),
                    side: side.clone(),
                    target: database.clone(),
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
                    service,
                    incoming: side,
                    live: database.clone(),
                    aside,
                    kept_by: None,
                },
            ]);
        }
    }

    /// The databases of the backup, with their facts.
    fn incoming(&self) -> Result<Vec<Incoming>> {
        let mut incoming = Vec::new();
        for artifact in &self.backup.manifest().artifacts {
            let ArtifactName::Database { database, .. } = &artifact.name else {
                continue;
            };
            let facts = self.facts.0.get(&artifact.name.to_string());
            let facts = facts.ok_or_else(|| {
                Error::damaged(format!("the facts say nothing about {}", artifact.name))
            })?;
            incoming.push(Incoming {
                artifact: artifact.clone(),
                facts: database_facts(facts)?,
                side: derived_name(database, "restoring", self.run.as_str()),
            });
        }
        Ok(incoming)
    }

    /// What each service's server is started from. All images that are missing are said at once.
    async fn bases(&self) -> Result<BTreeMap<String, Basis>> {
        let (whole, known) = limits(self.context, self.described).await?;
        let (mut bases, mut missing) = (BTreeMap::new(), Vec::new());
        for artifact in &self.backup.manifest().artifacts {
            let Some(service) = artifact.name.service() else {
                continue;
            };
            if bases.contains_key(service) {
                continue;
            }
            match self.image(service, artifact).await? {
                Some((image, exact)) => {
                    let limits = known.get(service).copied().unwrap_or(whole);
                    let made = Basis {
                        image,
                        exact,
                        limits,
                    };
                    bases.insert(service.to_owned(), made);
                }
                None => missing.push((service.to_owned(), self.wanted(service, artifact))),
            }
        }
        self.refuse_unknown_services(&bases, &missing)?;
        missing.dedup();
        let Some((service, image)) = missing.first() else {
            return Ok(bases);
        };
        let all: Vec<String> = missing
            .iter()
            .map(|(service, image)| format!("{image} of service {service}"))
            .collect();
        Err(Error::failed(format!(
            "the engine does not have the image {}",
            all.join(", nor ")
        ))
        .hint(format!(
            "docker pull {image}; or give another one: --image {service}=IMAGE"
        )))
    }

    /// The image for a service, and whether it is the backup's own; `None` where the engine has none.
    async fn image(
        &self,
        service: &str,
        artifact: &Artifact,
    ) -> Result<Option<(LocalImage, bool)>> {
        let engine = self.context.engine()?;
        if let Some(given) = self.request.images.get(service) {
            let exact = |image: &LocalImage| image.id == artifact.image_digest;
            let image = engine.local_image(given).await?;
            return Ok(image.map(|image| {
                let exact = exact(&image);
                (image, exact)
            }));
        }
        if let Some(image) = engine.local_image(&artifact.image_digest).await? {
            // By its own name it can be recognised; what was found is what counts.
            let name = artifact.image.clone();
            return Ok(Some((LocalImage { name, ..image }, true)));
        }
        let image = engine.local_image(&artifact.image).await?;
        Ok(image.map(|image| (image, false)))
    }

    fn wanted(&self, service: &str, artifact: &Artifact) -> String {
        let given = self.request.images.get(service);
        given.unwrap_or(&artifact.image).clone()
    }

    fn refuse_unknown_services(
        &self,
        bases: &BTreeMap<String, Basis>,
        missing: &[(String, String)],
    ) -> Result<()> {
        let known = || {
            let missing = missing.iter().map(|(service, _)| service.as_str());
            bases.keys().map(String::as_str).chain(missing)
        };
        for service in self.request.images.keys() {
            if known().all(|name| name != service) {
                let near = nearest(service, known()).join(" or ");
                return Err(Error::usage(format!(
                    "the backup has no service {service:?} to give an image to"
                ))
                .hint(match near.is_empty() {
                    true => format!("it has {}", known().collect::<Vec<_>>().join(", ")),
                    false => format!("did you mean {near}?"),
                }));
            }
        }
        Ok(())
    }
}

/// The steps that bring back a snapshot, a volume or a folder.
fn add_store(name: &ArtifactName, bases: &BTreeMap<String, Basis>, steps: &mut Vec<Step>) {
    match name {
        ArtifactName::Redis { service } => {
            let image = bases.get(service).map(|basis| basis.image.name.clone());
            steps.extend([
                Step::StartOnSnapshot {
                    service: service.clone(),
                    artifact: name.clone(),
                    image: image.unwrap_or_default(),
                },
                Step::CompareKeys {
                    service: service.clone(),
                    artifact: name.clone(),
                },
            ]);
        }
        ArtifactName::Volume { .. } | ArtifactName::Bind { .. } => {
            steps.push(Step::ProveTree {
                artifact: name.clone(),
            });
        }
        ArtifactName::Database { .. } | ArtifactName::Globals { .. } => {}
    }
}

/// Databases have their own names when their indexes are read.
fn check_indexes(incoming: &Incoming) -> Option<Step> {
    match &incoming.artifact.name {
        ArtifactName::Database { service, database } => Some(Step::CheckIndexes {
            service: service.clone(),
            database: database.clone(),
        }),
        _ => None,
    }
}
