//! What a run is going to do, as values: printed by `--dry-run`, run by one executor, kept in a journal.

use super::Context;
use super::journal::Journal;
use crate::docker::lock::StackLock;
use crate::docker::quiesce::Quiesced;
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::source::redis::Layout;
use crate::stack::{ArtifactName, Quiesce};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Everything that one run does, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The operation, as its command is called.
    pub operation: String,
    /// The run's id.
    pub run: String,
    /// The stack.
    pub stack: String,
    /// The steps.
    pub steps: Vec<Step>,
}

/// What would be done, a line a step.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps
            .iter()
            .try_for_each(|step| writeln!(f, "would {step}"))
    }
}

/// One step. Those that make something name what undoes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Stream an artifact out of its container into the repository. Undone by abandoning the backup.
    Capture {
        /// The artifact.
        artifact: ArtifactName,
    },
    /// Capture artifacts of several services side by side. Undone by abandoning the backup.
    CaptureTogether {
        /// The artifacts.
        artifacts: Vec<ArtifactName>,
    },
    /// Stop or pause containers while their volumes are read. Undone by starting them.
    Quiesce {
        /// The containers, in the order in which they are started again.
        containers: Vec<Quiesced>,
    },
    /// Start them again.
    Resume {
        /// The containers, in the order in which they are started.
        containers: Vec<Quiesced>,
    },
    /// Make the backup exist.
    Commit {
        /// Where.
        repository: String,
    },
    /// Read every stored byte of an artifact and check it, before anything is touched.
    Verify {
        /// The artifact.
        artifact: ArtifactName,
    },
    /// Make the roles that the server lacks. Not undone: a role without objects harms nobody, and
    /// dropping one that somebody has begun to use would.
    CreateRoles {
        /// The service.
        service: String,
        /// The roles; empty where all of the backup's are meant.
        roles: Vec<String>,
    },
    /// Make an empty database. Undone by dropping it.
    CreateDatabase {
        /// The service.
        service: String,
        /// Its name for now.
        side: String,
        /// The name that it will get.
        target: String,
    },
    /// Load a dump into it.
    Load {
        /// The service.
        service: String,
        /// The artifact.
        artifact: ArtifactName,
        /// The database.
        side: String,
    },
    /// Gather planner statistics, put settings, grants and comment on it.
    Settle {
        /// The service.
        service: String,
        /// The database.
        side: String,
    },
    /// Count rows, sequences and large objects, and compare them with what was dumped.
    Compare {
        /// The service.
        service: String,
        /// The database.
        side: String,
    },
    /// Give it its name. Where a database serves under that name, that one is kept aside; both
    /// renames are one transaction.
    Swap {
        /// The service.
        service: String,
        /// The database that comes in.
        incoming: String,
        /// The name that it gets.
        live: String,
        /// What the present one becomes, where there is one.
        aside: Option<String>,
    },
    /// Write a snapshot beside a server's data, where the server will be able to read it, and let the image's
    /// own check read it. Undone by removing it.
    StageSnapshot {
        /// The service.
        service: String,
        /// The artifact.
        artifact: ArtifactName,
        /// Where its data files are.
        layout: Layout,
        /// The folder on the data's volume.
        folder: String,
    },
    /// Stop a service, put files in the place of its data files, start it. Undone by the same, backwards.
    ReplaceFiles {
        /// The service.
        service: String,
        /// Where its data files are.
        layout: Layout,
        /// The folder that the files come from.
        incoming: String,
        /// The folder that keeps the present ones.
        aside: String,
    },
    /// Compare what the server has loaded with what was captured.
    CompareKeys {
        /// The service.
        service: String,
        /// The artifact.
        artifact: ArtifactName,
    },
    /// Write a snapshot into a new volume, as the service would read it. Undone by removing the volume.
    FillVolume {
        /// The service.
        service: String,
        /// The artifact.
        artifact: ArtifactName,
        /// Where its data files are.
        layout: Layout,
        /// The volume.
        volume: String,
    },
    /// Remove a folder of data files that lifeboat keeps.
    RemoveFiles {
        /// The service.
        service: String,
        /// Where its data files are.
        layout: Layout,
        /// The folder.
        folder: String,
    },
    /// Drop a database that lifeboat keeps.
    DropDatabase {
        /// The service.
        service: String,
        /// The database.
        name: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capture { artifact } => write!(f, "capture {artifact}"),
            Self::CaptureTogether { artifacts } => {
                let names: Vec<String> = artifacts.iter().map(ToString::to_string).collect();
                write!(f, "capture side by side {}", names.join(", "))
            }
            Self::Quiesce { containers } => {
                let done: Vec<String> = containers
                    .iter()
                    .rev()
                    .map(|one| match one.how {
                        Quiesce::Stop => format!("stop {}", one.container_name),
                        Quiesce::Pause => format!("pause {}", one.container_name),
                    })
                    .collect();
                f.write_str(&done.join(", "))
            }
            Self::Resume { containers } => {
                let names: Vec<&str> = containers
                    .iter()
                    .map(|one| one.container_name.as_str())
                    .collect();
                write!(f, "start again {}", names.join(", "))
            }
            Self::Commit { repository } => write!(f, "commit the backup to {repository}"),
            Self::Verify { artifact } => write!(f, "verify the stored bytes of {artifact}"),
            Self::CreateRoles { service, roles } if roles.is_empty() => {
                write!(f, "create the backup's roles that service {service} lacks")
            }
            Self::CreateRoles { service, roles } => {
                write!(
                    f,
                    "create the roles {} in service {service}",
                    roles.join(", ")
                )
            }
            Self::CreateDatabase { service, side, .. } => {
                write!(f, "create database {side:?} in service {service}")
            }
            Self::Load { artifact, side, .. } => write!(f, "load {artifact} into {side:?}"),
            Self::Settle { side, .. } => {
                write!(f, "analyze {side:?} and give it its settings and grants")
            }
            Self::Compare { side, .. } => write!(f, "compare {side:?} with the backup's facts"),
            Self::Swap {
                incoming,
                live,
                aside: Some(aside),
                ..
            } => write!(
                f,
                "swap: {live:?} becomes {aside:?}, {incoming:?} becomes {live:?}"
            ),
            Self::Swap { incoming, live, .. } => write!(f, "rename {incoming:?} to {live:?}"),
            Self::StageSnapshot {
                service, artifact, ..
            } => write!(f, "write {artifact} beside the data of service {service}"),
            Self::ReplaceFiles {
                service,
                incoming,
                aside,
                ..
            } => write!(
                f,
                "stop service {service}, put what is in {incoming} in the place of its files, which are kept in {aside}, start it"
            ),
            Self::CompareKeys { service, .. } => {
                write!(
                    f,
                    "compare what service {service} has loaded with the backup's facts"
                )
            }
            Self::FillVolume {
                artifact, volume, ..
            } => write!(f, "write {artifact} into the new volume {volume}"),
            Self::RemoveFiles {
                service, folder, ..
            } => write!(f, "remove the files kept in {folder} of service {service}"),
            Self::DropDatabase { service, name } => {
                write!(f, "drop database {name:?} of service {service}")
            }
        }
    }
}

/// Performs the steps of one operation.
pub(super) trait Executor {
    /// Does a step.
    async fn perform(&mut self, step: &Step) -> Result<()>;
    /// Takes back what a step made. Called for steps that were begun, last first, when a later one failed.
    async fn undo(&mut self, step: &Step) -> Result<()>;
}

/// Runs `plan` step by step, journalled, for as long as `lock` is held; where a step fails, undoes
/// those that were begun.
pub(super) async fn execute(
    plan: &Plan,
    executor: &mut impl Executor,
    mut journal: Journal,
    context: &Context,
    lock: &StackLock,
    observer: &dyn Observer,
) -> Result<()> {
    for (index, step) in plan.steps.iter().enumerate() {
        observer.observe(&Event::StepStarted {
            step: step.to_string(),
        });
        journal.started(index)?;
        let performed = context.unless_cancelled(async {
            tokio::select! {
                biased;
                lost = lock.lost() => Err(lost),
                performed = executor.perform(step) => performed,
            }
        });
        if let Err(error) = performed.await {
            for begun in plan.steps[..=index].iter().rev() {
                if let Err(left) = executor.undo(begun).await {
                    observer.observe(&Event::Warning {
                        message: format!(
                            "could not undo \"{begun}\": {}; the next run tries again",
                            left.chain()
                        ),
                    });
                }
            }
            journal.ended(Some(&error.chain()))?;
            return Err(error);
        }
        journal.done(index)?;
    }
    journal.ended(None)
}
