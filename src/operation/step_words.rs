//! Steps in words: what a plan says that it would do.

use super::step::Step;
use crate::docker::quiesce::Standstill;
use crate::stack::Quiesce;
use std::fmt;

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
            _ => self.of_recoveries(f),
        }
    }

    /// The steps of a recovery alone.
    fn of_recoveries(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoadImages { file } => write!(f, "load the images of {}", file.display()),
            Self::PullImage {
                service,
                image,
                digest,
            } => {
                let reference = digest.as_ref().unwrap_or(image);
                write!(f, "pull {reference} for service {service}")
            }
            Self::CreateNetwork { network } => write!(f, "create network {}", network.name()),
            Self::StartCluster {
                service,
                image,
                place,
                ..
            } => write!(
                f,
                "make a cluster in {place} and start a server on it for service {service} from {image}, with no network"
            ),
            Self::StartOnStore {
                service,
                artifact,
                image,
                place,
                ..
            } => write!(
                f,
                "write {artifact} into {place} and start a server on it for service {service} from {image}, with no network"
            ),
            Self::EndServer { service } => write!(
                f,
                "end the server for service {service} cleanly, so that all of it is on the disk"
            ),
            Self::FinishStore { place, .. } => write!(f, "let {place} stand"),
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
