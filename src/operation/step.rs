//! The steps that plans are made of.

use super::hooks::{HookCall, When};
use crate::docker::health::Awaited;
use crate::docker::helper::Place;
use crate::docker::network::RecordedNetwork;
use crate::docker::quiesce::{Standstill, SwappedTree};
use crate::schedule::DrillCheck;
use crate::source::redis::Layout;
use crate::stack::{ArtifactName, Volume};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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
    /// Load the images of a file of `docker save`. Not undone.
    LoadImages {
        /// The file.
        file: PathBuf,
    },
    /// Pull an image from its registry. Not undone.
    PullImage {
        /// The service.
        service: String,
        /// Its image.
        image: String,
        /// The digest in the registry, where it is known.
        digest: Option<String>,
    },
    /// Make a network as it was. Not undone: Compose wants it.
    CreateNetwork {
        /// The network.
        network: RecordedNetwork,
    },
    /// Make a cluster in a folder of a volume, and start a PostgreSQL server that reaches nobody on it. Undone by
    /// removing both.
    StartCluster {
        /// The service that it stands for.
        service: String,
        /// Its image.
        image: String,
        /// The volume or folder.
        place: Place,
        /// The new folder in it.
        folder: String,
    },
    /// Write a snapshot into a folder of a volume, and start a Redis server that reaches nobody on it. Undone by
    /// removing both.
    StartOnStore {
        /// The service that it stands for.
        service: String,
        /// The artifact.
        artifact: ArtifactName,
        /// Its image.
        image: String,
        /// The volume or folder.
        place: Place,
        /// The new folder in it.
        folder: String,
    },
    /// End a server that reaches nobody, so that all that it holds is in its files, and those are on the disk.
    EndServer {
        /// The service that it stands for.
        service: String,
    },
    /// Let a volume or folder stand as it is, whatever becomes of the rest.
    FinishStore {
        /// The volume or folder.
        place: Place,
        /// The backup that it is from.
        backup: String,
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
}
