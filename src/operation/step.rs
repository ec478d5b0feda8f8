//! The steps that plans are made of.

use super::hooks::{HookCall, When};
use crate::docker::health::Awaited;
use crate::docker::helper::Place;
use crate::docker::quiesce::{Standstill, SwappedTree};
use crate::schedule::DrillCheck;
use crate::source::redis::Layout;
use crate::stack::{ArtifactName, Quiesce, Volume};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One step. Those that make something name what undoes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Run somebody's command. One that is run after the backup is run however it ended.
    RunHook {
        /// When.
        when: When,
        /// What, and where.
        hook: HookCall,
    },
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
    /// Write down on the engine what must be put right if the run dies, and stop or pause containers. Undone by
    /// starting them.
    Quiesce {
        /// What is written down.
        standstill: Standstill,
    },
    /// Start them again: what was done stands from here on.
    Resume {
        /// What was written down.
        standstill: Standstill,
    },
    /// Start them again on what was put in the place of the old, and wait until they are well: what was done stands
    /// once this is done. Undone by stopping them.
    StartAgain {
        /// What was written down.
        standstill: Standstill,
        /// Who must be well.
        health: Vec<Awaited>,
        /// How long that may take, in seconds.
        seconds: u64,
    },
    /// Back stores up before they are replaced. Not undone: a backup more is no harm.
    BackUpFirst {
        /// Their artifacts.
        artifacts: Vec<ArtifactName>,
        /// Where to.
        repository: String,
    },
    /// Make a volume as it was. Undone by removing it.
    CreateVolume {
        /// The volume.
        volume: Volume,
    },
    /// Write an archive into an empty volume or folder.
    FillTree {
        /// The artifact.
        artifact: ArtifactName,
        /// The volume or folder.
        place: Place,
    },
    /// Copy what a volume holds into an empty one, and compare the two.
    CopyTree {
        /// The one.
        from: Place,
        /// The other.
        to: Place,
    },
    /// Remove a volume, once its copy is proven.
    RemoveVolume {
        /// The volume.
        name: String,
    },
    /// Write an archive beside what a volume or folder holds. Undone by removing it.
    StageTree {
        /// The artifact.
        artifact: ArtifactName,
        /// The volume or folder.
        place: Place,
        /// The new folder in it.
        folder: String,
    },
    /// Put what was staged in the place of what is there. Undone by the same, backwards.
    SwapTree {
        /// What, and where.
        tree: SwappedTree,
    },
    /// Remove what was kept for undoing a swap.
    RemoveTree {
        /// The volume or folder.
        place: Place,
        /// The folder in it.
        folder: String,
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
        /// The restore that has kept the one that comes in, where this is a rollback.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept_by: Option<String>,
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
    /// Load the definitions of a dump into a database, and of its rows and indexes those of some tables.
    LoadTables {
        /// The service.
        service: String,
        /// The artifact.
        artifact: ArtifactName,
        /// The database.
        side: String,
        /// The tables, as SQL writes them.
        tables: Vec<String>,
    },
    /// Count the rows of the tables, and compare them with what was dumped.
    CompareTables {
        /// The service.
        service: String,
        /// The database that they were loaded into.
        side: String,
        /// Where they are by now: database and schema. In the side database under their own names, else.
        carried: Option<(String, String)>,
    },
    /// Move the tables into a schema of their own, in the side database, and take from them what ties them to others.
    CutLoose {
        /// The service.
        service: String,
        /// The database.
        side: String,
        /// The schema.
        schema: String,
    },
    /// Bring that schema into the live database, in one transaction. Undone by dropping it there.
    Carry {
        /// The service.
        service: String,
        /// The database that it comes from.
        side: String,
        /// The live database.
        live: String,
        /// The schema.
        schema: String,
    },
    /// Gather planner statistics of the schema's tables, and write on it where it is from: it is whole from here on.
    SettleSchema {
        /// The service.
        service: String,
        /// The database that it came from.
        side: String,
        /// The live database.
        live: String,
        /// The schema.
        schema: String,
    },
    /// Start a PostgreSQL server that reaches nobody, on an empty volume. It goes with the run.
    StartThrowaway {
        /// The service that it stands for.
        service: String,
        /// Its image.
        image: String,
    },
    /// Write a snapshot into an empty volume, and start a server that reaches nobody on it. Both go with the run.
    StartOnSnapshot {
        /// The service that it stands for.
        service: String,
        /// The artifact.
        artifact: ArtifactName,
        /// Its image.
        image: String,
    },
    /// Write an archive into an empty volume, read it from there and compare. The volume goes with the run.
    ProveTree {
        /// The artifact.
        artifact: ArtifactName,
    },
    /// Write the project's files into a new or an empty folder of this machine, by way of one beside it.
    WriteFiles {
        /// The folder.
        folder: String,
    },
    /// Read the archive of the project's files to its end, and compare it with what was counted.
    CheckFiles,
    /// Have `amcheck` read the indexes of a restored database.
    CheckIndexes {
        /// The service.
        service: String,
        /// The database.
        database: String,
    },
    /// Ask what was restored a question of the person's own.
    CheckRestored {
        /// The question.
        check: DrillCheck,
        /// What is asked.
        artifact: ArtifactName,
    },
    /// Write beside the backup that it was restored.
    RecordProof {
        /// Where.
        repository: String,
    },
    /// Remove the run's servers and volumes.
    RemoveThrowaways,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RunHook { hook, .. } => write!(f, "run {hook}"),
            Self::Capture { artifact } => write!(f, "capture {artifact}"),
            Self::CaptureTogether { artifacts } => {
                let names: Vec<String> = artifacts.iter().map(ToString::to_string).collect();
                write!(f, "capture side by side {}", names.join(", "))
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
            _ => self.of_volumes(f),
        }
    }
}

fn names_of(standstill: &Standstill) -> String {
    let names = standstill.containers.iter();
    let names: Vec<&str> = names.map(|one| one.container_name.as_str()).collect();
    names.join(", ")
}

impl Step {
    /// Whether it is taken however the steps before it ended.
    pub(super) fn is_always_taken(&self) -> bool {
        let after = When::After;
        matches!(self, Self::RunHook { when, .. } if *when == after)
    }

    /// The service whose server gets something else to serve.
    pub(super) fn service(&self) -> Option<&str> {
        match self {
            Self::Swap { service, .. } | Self::ReplaceFiles { service, .. } => Some(service),
            _ => None,
        }
    }

    /// The steps around volumes and folders.
    fn of_volumes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quiesce { standstill } if standstill.containers.is_empty() => {
                f.write_str("write down on the engine what is to be put right if this dies")
            }
            Self::Quiesce { standstill } => {
                let done: Vec<String> = standstill
                    .containers
                    .iter()
                    .rev()
                    .map(|one| match one.how {
                        Quiesce::Stop => format!("stop {}", one.container_name),
                        Quiesce::Pause => format!("pause {}", one.container_name),
                    })
                    .collect();
                f.write_str(&done.join(", "))
            }
            Self::Resume { standstill } | Self::StartAgain { standstill, .. }
                if standstill.containers.is_empty() =>
            {
                f.write_str("remove that record")
            }
            Self::StartAgain {
                standstill,
                health,
                seconds,
            } => {
                write!(f, "start again {}", names_of(standstill))?;
                let waited: Vec<&str> = health
                    .iter()
                    .map(|one| one.container_name.as_str())
                    .collect();
                write!(
                    f,
                    ", wait until these are well, {seconds} seconds at most: {}",
                    waited.join(", ")
                )
            }
            Self::BackUpFirst {
                artifacts,
                repository,
            } => {
                let names: Vec<String> = artifacts.iter().map(ToString::to_string).collect();
                write!(f, "back up {} to {repository} first", names.join(", "))
            }
            Self::CreateVolume { volume } => write!(f, "create volume {}", volume.name),
            Self::FillTree { artifact, place } => write!(f, "write {artifact} into {place}"),
            Self::StageTree {
                artifact, place, ..
            } => write!(f, "write {artifact} beside what {place} holds"),
            Self::CopyTree { from, to } => {
                write!(
                    f,
                    "copy what {from} holds to {to}, read the copy, compare the two"
                )
            }
            Self::RemoveVolume { name } => write!(f, "remove volume {name}"),
            Self::SwapTree { tree } => {
                write!(f, "put it in the place of what {} holds", tree.place)
            }
            Self::RemoveTree { place, .. } => {
                write!(f, "remove from {place} what it held before")
            }
            Self::Resume { standstill } => write!(f, "start again {}", names_of(standstill)),
            _ => self.of_drills(f),
        }
    }

    /// The steps of a drill alone.
    fn of_drills(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartThrowaway { service, image } => write!(
                f,
                "start a throwaway server for service {service} from {image}, with no network"
            ),
            Self::StartOnSnapshot {
                service,
                artifact,
                image,
            } => write!(
                f,
                "write {artifact} into a throwaway volume and start a server on it for service {service} from {image}, with \
                 no network"
            ),
            Self::ProveTree { artifact } => write!(
                f,
                "write {artifact} into a throwaway volume, read it from there, compare it with the backup's facts"
            ),
            Self::WriteFiles { folder } => {
                write!(f, "write the project's files into {folder}")
            }
            Self::CheckFiles => f.write_str(
                "read the archive of the project's files to its end, compare it with the backup's facts",
            ),
            Self::CheckIndexes { service, database } => write!(
                f,
                "let amcheck read the indexes of {database:?} in service {service}"
            ),
            Self::CheckRestored { check, artifact } => write!(f, "ask {artifact}: {check}"),
            Self::RecordProof { repository } => {
                write!(f, "write the proof beside the backup in {repository}")
            }
            Self::RemoveThrowaways => f.write_str("remove the throwaway servers and their volumes"),
            _ => self.of_tables(f),
        }
    }

    /// The steps of a restore of tables.
    fn of_tables(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoadTables {
                artifact,
                side,
                tables,
                ..
            } => write!(f, "load {} of {artifact} into {side:?}", tables.join(", ")),
            Self::CompareTables {
                carried: Some((live, schema)),
                ..
            } => write!(
                f,
                "compare the schema {schema:?} of {live:?} with the backup's facts"
            ),
            Self::CompareTables { side, .. } => {
                write!(f, "compare the tables in {side:?} with the backup's facts")
            }
            Self::CutLoose { side, schema, .. } => write!(
                f,
                "move them into the schema {schema:?} of {side:?}, without what ties them to other tables"
            ),
            Self::Carry {
                side, live, schema, ..
            } => write!(
                f,
                "bring the schema {schema:?} from {side:?} into {live:?}, in one transaction"
            ),
            Self::SettleSchema { live, schema, .. } => {
                write!(f, "analyze the schema {schema:?} of {live:?} and label it")
            }
            _ => Ok(()),
        }
    }
}
