//! What a drill is going to do. What can be known to fail fails here, before anything is made.

use super::questions::target;
use super::{DrillRequest, ImageUsed};
use crate::error::Result;
use crate::manifest::{BackupId, Facts};
use crate::operation::Context;
use crate::operation::bases::{Basis, Images};
use crate::operation::plan::Plan;
use crate::operation::restore_plan::{Incoming, all_incoming};
use crate::operation::step::Step;
use crate::repository::Backup;
use crate::source::postgres::derived_name;
use crate::stack::{ArtifactName, SourceKind};
use serde_json::Value;
use std::collections::BTreeMap;

/// The database that every new cluster has.
const FIRST_DATABASE: &str = "postgres";

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
        let images = Images {
            context: self.context,
            artifacts: &self.backup.manifest().artifacts,
            described: self.described,
            given: &self.request.images,
        };
        let bases = images.find().await?.whole();
        let bases = bases.map_err(|error| self.request.unproven(error))?;
        let incoming = all_incoming(self.backup, self.facts, self.run)?;
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
        ArtifactName::Files => steps.push(Step::CheckFiles),
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
