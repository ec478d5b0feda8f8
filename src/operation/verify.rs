//! Reading every stored byte again. Deeply: decoding every stream to its end, with the inspectors that saw it
//! when it was captured, and letting the stores' own programs (`pg_restore`, `redis-check-rdb`) read every artifact.

use super::Context;
use super::plain::plain_bytes;
use crate::archive;
use crate::docker::exec::{Command, Transport};
use crate::docker::scratch::ScratchOptions;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer};
use crate::manifest::Artifact;
use crate::pipeline::{Inspector, Limits, RawInspector, examine};
use crate::repository::{Backup, Entry, Repository};
use crate::source::postgres::DUMP_MEDIA_TYPE;
use crate::source::postgres::archive::ArchiveInspector;
use crate::source::redis::RDB_MEDIA_TYPE;
use crate::source::redis::rdb::RdbInspector;
use crate::source::volume::TarInspector;
use std::time::{Duration, Instant};

/// How long a scratch container may live: a very large archive takes its time.
const SCRATCH_LIFETIME: Duration = Duration::from_hours(12);

/// What to verify.
#[derive(Debug)]
pub struct VerifyRequest {
    /// The repository.
    pub repository: Repository,
    /// The backups in it.
    pub entries: Vec<Entry>,
    /// Decode every stream, too.
    pub deep: bool,
}

/// What was found in one backup.
#[derive(Debug)]
pub struct Verified {
    /// The backup.
    pub entry: Entry,
    /// Objects that were read.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong, one object or artifact a line; empty where nothing is.
    pub damaged: Vec<String>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
    /// How long it took.
    pub duration: Duration,
}

/// Verifies backups, one after another; damage of one does not keep the others from being read.
pub async fn verify(
    context: &Context,
    request: VerifyRequest,
    observer: &dyn Observer,
) -> Result<Vec<Verified>> {
    let mut verified = Vec::new();
    for entry in &request.entries {
        let work = one(context, &request, entry, observer);
        verified.push(context.unless_cancelled(work).await?);
    }
    Ok(verified)
}

async fn one(
    context: &Context,
    request: &VerifyRequest,
    entry: &Entry,
    observer: &dyn Observer,
) -> Result<Verified> {
    let begun = Instant::now();
    let reference = entry.reference();
    let mut verified = Verified {
        entry: entry.clone(),
        objects: 0,
        bytes: 0,
        damaged: Vec::new(),
        unchecked: Vec::new(),
        duration: Duration::ZERO,
    };
    let backup = match request.repository.open_backup(entry).await {
        Ok(backup) => backup,
        Err(error) if error.kind() == Kind::Damaged => {
            verified.damaged.push(error.chain());
            return Ok(verified);
        }
        Err(error) => return Err(error),
    };
    let total: u64 = backup
        .manifest()
        .artifacts
        .iter()
        .map(|artifact| artifact.stored_size)
        .sum();
    observer.observe(&Event::ArtifactStarted {
        artifact: reference.clone(),
        expected: Some(total),
    });
    let mut read = 0;
    let report = backup
        .verify_objects(|_, bytes| {
            read += bytes;
            observer.observe(&Event::Progress {
                artifact: reference.clone(),
                bytes: read,
            });
        })
        .await?;
    verified.objects = report.objects;
    verified.bytes = report.bytes;
    verified
        .damaged
        .extend(report.damaged.iter().map(|damage| damage.reason.clone()));
    if request.deep && verified.damaged.is_empty() {
        deep(context, &backup, &mut verified, observer).await?;
    }
    verified.duration = begun.elapsed();
    observer.observe(&Event::VerifyFinished {
        artifact: reference,
        bytes: verified.bytes,
        damaged: verified.damaged.len(),
        seconds: verified.duration.as_secs_f64(),
    });
    Ok(verified)
}

async fn deep(
    context: &Context,
    backup: &Backup,
    verified: &mut Verified,
    observer: &dyn Observer,
) -> Result<()> {
    let facts = backup.facts().await?;
    for artifact in &backup.manifest().artifacts {
        observer.observe(&Event::Detail {
            message: format!("decoding {}", artifact.name),
        });
        let (inspector, counted): (Box<dyn Inspector>, _) = match artifact.media_type.as_str() {
            DUMP_MEDIA_TYPE => (Box::new(ArchiveInspector::new()), Some("dump")),
            RDB_MEDIA_TYPE => (Box::new(RdbInspector::new()), Some("snapshot")),
            archive::MEDIA_TYPE => (Box::new(TarInspector::new()), Some("tree")),
            _ => (Box::new(RawInspector::new()), None),
        };
        match decode(backup, artifact, inspector).await {
            Ok(seen) => {
                let recorded = |counted| {
                    facts
                        .0
                        .get(&artifact.name.to_string())
                        .and_then(|facts| facts.get(counted))
                };
                if counted.is_some_and(|counted| recorded(counted) != Some(&seen)) {
                    verified.damaged.push(format!(
                        "{}: what it holds is not what facts.json says",
                        artifact.name
                    ));
                }
            }
            Err(error) if error.kind() == Kind::Damaged => {
                verified
                    .damaged
                    .push(format!("{}: {}", artifact.name, error.chain()));
            }
            Err(error) => return Err(error),
        }
        if let Some(reader) = Reader::of(artifact) {
            match reader.read(context, backup, artifact).await {
                Ok(()) => {}
                Err(Unchecked::Why(why)) => verified.unchecked.push(format!(
                    "{}: {} did not read it: {why}",
                    artifact.name, reader.program
                )),
                Err(Unchecked::Damage(error)) => {
                    verified
                        .damaged
                        .push(format!("{}: {}", artifact.name, error.chain()));
                }
            }
        }
    }
    Ok(())
}

/// Decodes an artifact to its end and gives what its inspector says.
async fn decode(
    backup: &Backup,
    artifact: &Artifact,
    inspector: Box<dyn Inspector>,
) -> Result<serde_json::Value> {
    let limits = Limits {
        raw_size: artifact.raw_size,
    };
    let mut input = examine(limits, inspector);
    let mut reader = backup.read(artifact);
    while let Some(bytes) = reader.next().await? {
        input.push(bytes).await?;
    }
    Ok(input.finish().await?.inspection.facts)
}

/// Why a store's own program has no good word for an artifact.
enum Unchecked {
    Why(String),
    Damage(Error),
}

/// The store's own program that reads an artifact to its end, in a throwaway container of the source's image.
struct Reader {
    program: &'static str,
    /// Runs it on the plain artifact on standard input.
    script: &'static str,
    /// The image's own volume: kept in memory, since an anonymous volume is made else.
    data: &'static str,
}

impl Reader {
    fn of(artifact: &Artifact) -> Option<Self> {
        match artifact.media_type.as_str() {
            DUMP_MEDIA_TYPE => Some(Self {
                program: "pg_restore",
                script: "exec pg_restore --file=/dev/null",
                data: "/var/lib/postgresql",
            }),
            RDB_MEDIA_TYPE => Some(Self {
                program: "redis-check-rdb",
                // It wants a file that it can measure, not a pipe. The file is on the container's own disk.
                script: "set -e; umask 077; file=$(mktemp); trap 'rm -f \"$file\"' EXIT; cat >\"$file\"; \
                         check=redis-check-rdb; command -v $check >/dev/null || check=valkey-check-rdb; \
                         said=$($check \"$file\" 2>&1) || { printf '%s\\n' \"$said\" | tail -n 5 >&2; exit 1; }",
                data: "/data",
            }),
            _ => None,
        }
    }

    async fn read(
        &self,
        context: &Context,
        backup: &Backup,
        artifact: &Artifact,
    ) -> Result<(), Unchecked> {
        let why = |error: Error| Unchecked::Why(error.chain());
        let Ok(engine) = context.engine() else {
            return Err(Unchecked::Why("no engine is connected".to_owned()));
        };
        let options = ScratchOptions {
            image: artifact.image.clone(),
            lifetime: SCRATCH_LIFETIME,
            tmpfs: vec![self.data.to_owned()],
            memory: 0,
            volume: None,
        };
        let run = context.new_id().map_err(why)?;
        let owner = context.owner(&run).map_err(why)?;
        let scratch = engine.scratch(&owner, &options).await.map_err(why)?;
        let command = Command::new("sh", ["-c", self.script]);
        let started = engine.consume(&scratch.id, &command, Transport::Raw).await;
        let mut consumer = match started {
            Ok(consumer) => consumer,
            Err(error) => {
                scratch.remove().await.map_err(why)?;
                // No byte was read yet.
                return Err(Unchecked::Why(error.chain()));
            }
        };
        let result = async {
            plain_bytes(backup, artifact, async |bytes| consumer.write(bytes).await).await?;
            consumer.finish().await.map(|_| ())
        }
        .await;
        scratch.remove().await.map_err(why)?;
        result.map_err(|error| {
            Unchecked::Damage(error.while_doing(format!("{} cannot read it", self.program)))
        })
    }
}
