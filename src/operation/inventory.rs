//! What of a stack is going to be captured.

use super::Context;
use super::backup::BackupRequest;
use super::files;
use super::lock::Claim;
use super::quiesce;
use super::sources::{SourceOptions, SourceService, end_dead_sessions, ready_redis, ready_server};
use super::volume_source::VolumeSource;
use super::volumes::{Store, Stores};
use crate::docker::quiesce::Quiesced;
use crate::error::{Error, Kind, Result, nearest};
use crate::manifest::{BackupId, Consistency};
use crate::source::files::Selection;
use crate::source::postgres::{Database, Server};
use crate::source::{self, Capability, Capture, redis};
use crate::stack::{ArtifactName, Compress, Quiesce, Service, SourceKind, encode};

/// One artifact that is going to be captured.
pub(super) struct Planned {
    pub name: ArtifactName,
    pub source: Source,
    /// Whether its containers are stopped for it alone, since others are captured while they run.
    pub alone: bool,
}

/// What it is captured from.
pub(super) enum Source {
    Postgres {
        server: Server,
        capability: Capability,
        /// The server's version, as it says.
        version: String,
        /// Whether the globals may hold password verifiers.
        may_read_passwords: bool,
        /// `None` for the globals.
        database: Option<Database>,
    },
    Redis {
        server: redis::Server,
        capability: Capability,
        survey: Box<redis::Survey>,
    },
    Volume(Box<VolumeSource>),
    Files(Selection),
}

/// Where an artifact came from, for the manifest; a volume is of no container.
#[derive(Debug, Default)]
pub(super) struct Origin {
    pub container_id: String,
    pub image: String,
    pub image_digest: String,
}

impl Planned {
    /// The container that it comes from.
    pub(super) fn origin(&self) -> Origin {
        let service = match &self.source {
            Source::Postgres { server, .. } => server.service(),
            Source::Redis { server, .. } => server.service(),
            Source::Volume(_) | Source::Files(_) => return Origin::default(),
        };
        let digest = service.image_digest.as_ref();
        Origin {
            container_id: service.container_id.clone(),
            image: service.image.clone(),
            image_digest: digest.unwrap_or(&service.image_id).clone(),
        }
    }

    /// How consistent it is going to be.
    pub(super) fn consistency(&self) -> Consistency {
        match &self.source {
            Source::Postgres { .. } | Source::Redis { .. } => Consistency::Snapshot,
            Source::Volume(volume) => volume.consistency,
            Source::Files(_) => Consistency::Live,
        }
    }

    /// The server's version, as it says.
    pub(super) fn version(&self) -> &str {
        match &self.source {
            Source::Postgres { version, .. } => version,
            Source::Redis { survey, .. } => &survey.version,
            Source::Volume(volume) => volume.driver(),
            Source::Files(_) => "",
        }
    }

    /// Starts the capture.
    pub(super) async fn start(&self, compress: Compress, level: u8) -> Result<Capture> {
        match &self.source {
            Source::Postgres {
                server,
                capability,
                database: Some(database),
                ..
            } => {
                let transport = capability.capture_transport(compress, level);
                let capture = server.dump(database, transport).await?;
                Ok(Capture::Postgres(Box::new(capture)))
            }
            Source::Postgres {
                server,
                capability,
                may_read_passwords,
                ..
            } => {
                let transport = capability.capture_transport(compress, level);
                let capture = server.dump_globals(*may_read_passwords, transport).await?;
                Ok(Capture::Postgres(Box::new(capture)))
            }
            Source::Redis {
                server,
                capability,
                survey,
            } => {
                let capture = server.capture(survey, *capability, compress, level);
                Ok(Capture::Redis(Box::new(capture.await?)))
            }
            Source::Volume(volume) => {
                let capture = volume.start(self.name.clone(), level).await?;
                Ok(Capture::Volume(Box::new(capture)))
            }
            Source::Files(selection) => {
                let capture = source::files::Capture::start(selection.clone());
                Ok(Capture::Files(Box::new(capture)))
            }
        }
    }
}

/// What is going to be captured.
pub(super) struct Inventory {
    pub planned: Vec<Planned>,
    /// Services that could not be asked, where a partial backup is allowed; and why.
    pub missing: Vec<String>,
    /// What is stopped or paused while everything is captured.
    pub together: Vec<Quiesced>,
    /// What is stopped or paused for the data folders of databases, afterwards.
    pub alone: Vec<Quiesced>,
}

/// Asks every service what it holds. Everything that can be known to fail fails here, before a byte is written.
pub(super) async fn inventory(
    context: &Context,
    request: &BackupRequest,
    claim: &Claim<'_>,
    locked: bool,
) -> Result<Inventory> {
    let Claim {
        stack,
        services,
        options,
        run: id,
        ..
    } = *claim;
    let (mut planned, mut missing) = (Vec::new(), Vec::new());
    let excluded =
        |name: &ArtifactName| options.exclude.iter().any(|pattern| name.matches(pattern));
    let wanted = |name: &ArtifactName| {
        (request.only.is_empty() || request.only.iter().any(|pattern| name.matches(pattern)))
            && !excluded(name)
    };
    let mut seen = Vec::new();
    for SourceService { kind, service } in services {
        let folder = match kind {
            SourceKind::Postgres => format!("postgres/{}", encode(&service.name)),
            SourceKind::Redis | SourceKind::Volume | SourceKind::Files => {
                format!("redis/{}", encode(&service.name))
            }
        };
        if options.exclude.contains(&folder) {
            continue;
        }
        let concerned = request.only.is_empty()
            || request
                .only
                .iter()
                .any(|pattern| concerns(pattern, &folder));
        if !concerned {
            // A server that nobody asked for need not run.
            seen.push(folder);
            continue;
        }
        let found = match kind {
            SourceKind::Postgres => postgres(context, service, options, id, locked).await,
            SourceKind::Redis | SourceKind::Volume | SourceKind::Files => {
                let found = snapshot(context, service, options, id, locked).await;
                found.map(|found| vec![found])
            }
        };
        let found = match found {
            Err(error) if request.allow_partial && error.kind() == Kind::Failed => {
                missing.push(format!("{folder}: {}", error.chain()));
                continue;
            }
            found => found?,
        };
        for one in found {
            seen.push(one.name.to_string());
            if wanted(&one.name) {
                planned.push(one);
            }
        }
    }
    let stores = Stores::of(context.engine()?).await?;
    let mut volumes = Vec::new();
    for store in stores.of_stack(stack, services, &options.include)? {
        let name = store.artifact();
        seen.push(name.to_string());
        // A database's own files are covered by its dump, and some are to be left alone, unless somebody asks for
        // just them.
        let asked_for = request.only.contains(&name.to_string());
        let by_itself = store.covered_by.is_none() && !store.is_disabled();
        if wanted(&name) && (by_itself || asked_for) {
            volumes.push(store);
        }
    }
    for store in &volumes {
        planned.push(volume(context, store, request.quiesce, id)?);
    }
    let quiesced = |covered: bool| {
        let of_kind = volumes
            .iter()
            .filter(|store| store.covered_by.is_some() == covered);
        quiesce::containers(of_kind, &stores.stacks, request.quiesce)
    };
    let (together, alone) = (quiesced(false)?, quiesced(true)?);
    refuse_stopped_servers(&together, services, &planned)?;
    let nothing_else = planned.is_empty();
    seen.push(ArtifactName::Files.to_string());
    if wanted(&ArtifactName::Files) {
        planned.extend(own_files(request, claim, &mut missing).await?);
    }
    check_patterns(&request.only, &planned, &seen, &missing)?;
    if nothing_else {
        refuse_nothing(&planned, request, &missing)?;
    }
    Ok(Inventory {
        planned,
        missing,
        together,
        alone,
    })
}

/// A backup of no store at all is none, unless somebody asks for just the project's files.
fn refuse_nothing(planned: &[Planned], request: &BackupRequest, missing: &[String]) -> Result<()> {
    if !missing.is_empty() {
        return Err(Error::failed(format!(
            "nothing could be captured: {}",
            missing.join("; ")
        )));
    }
    match planned.is_empty() || !asks_for_files(request) {
        false => Ok(()),
        true => Err(Error::usage(
            "everything of this stack is excluded: there is nothing to back up",
        )),
    }
}

fn asks_for_files(request: &BackupRequest) -> bool {
    request.only.contains(&ArtifactName::Files.to_string())
}

/// The project's own files, where there are some.
async fn own_files(
    request: &BackupRequest,
    claim: &Claim<'_>,
    missing: &mut Vec<String>,
) -> Result<Option<Planned>> {
    match files::find(request, claim).await {
        Err(error) if request.allow_partial && error.kind() == Kind::Failed => {
            missing.push(format!("{}: {}", ArtifactName::Files, error.chain()));
            Ok(None)
        }
        Ok(None) if asks_for_files(request) => {
            Err(Error::failed("the project's files are not on this machine")
                .hint("run lifeboat where docker compose is run"))
        }
        found => found,
    }
}

/// Whoever asks for something by a name shall get it.
fn check_patterns(
    only: &[String],
    planned: &[Planned],
    seen: &[String],
    missing: &[String],
) -> Result<()> {
    for pattern in only {
        let is_planned = planned.iter().any(|planned| planned.name.matches(pattern));
        if !is_planned && missing.is_empty() {
            let near = nearest(pattern, seen.iter().map(String::as_str));
            let error = Error::usage(format!("nothing of the stack is called {pattern:?}"));
            return Err(error.hint(match near.is_empty() {
                true => format!("the stack has {}", seen.join(", ")),
                false => format!("did you mean {}?", near.join(" or ")),
            }));
        }
    }
    Ok(())
}

/// A volume that is going to be captured.
///
/// # Errors
/// Failed for the data folder of a database that would go on running.
fn volume(
    context: &Context,
    store: &Store,
    asked: Option<Quiesce>,
    id: &BackupId,
) -> Result<Planned> {
    let consistency = quiesce::consistency(store, asked)?;
    if let Some(covered) = &store.covered_by
        && consistency == Consistency::Live
    {
        return Err(Error::failed(format!(
            "{} holds the data of service {}, which runs: files that are read one after another are no backup of it",
            store.artifact(),
            covered.service
        ))
        .hint(format!(
            "its backup is {}; --quiesce stop archives the files while the service is stopped",
            covered.folder()
        )));
    }
    Ok(Planned {
        name: store.artifact(),
        alone: store.covered_by.is_some(),
        source: Source::Volume(Box::new(VolumeSource::new(
            context,
            store.clone(),
            consistency,
            id,
        )?)),
    })
}

/// A server that is captured cannot be stopped meanwhile.
fn refuse_stopped_servers(
    stopped: &[Quiesced],
    services: &[SourceService],
    planned: &[Planned],
) -> Result<()> {
    for one in stopped {
        let is_server = services
            .iter()
            .any(|source| source.service.container_id == one.container_id);
        let is_planned = planned
            .iter()
            .any(|planned| planned.name.service() == Some(&one.service));
        if is_server && is_planned {
            return Err(Error::usage(format!(
                "service {} is captured while it runs, and would be stopped for a volume that it writes to",
                one.service
            ))
            .hint("label it lifeboat.quiesce=none, exclude that volume, or back the two up one after the other with --only"));
        }
    }
    Ok(())
}

/// Whether something of a service's folder may be what `pattern` names: the folder, more or less of it, or a bare name.
fn concerns(pattern: &str, folder: &str) -> bool {
    let below = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    !pattern.contains('/') && !["postgres", "redis", "volume", "bind", "files"].contains(&pattern)
        || below(pattern, folder)
        || below(folder, pattern)
}

/// What a PostgreSQL server holds: its globals, then its databases.
async fn postgres(
    context: &Context,
    service: &Service,
    options: &SourceOptions,
    id: &BackupId,
    locked: bool,
) -> Result<Vec<Planned>> {
    let server = ready_server(context, service, options, id.as_str()).await?;
    let end_dead = async {
        if locked {
            end_dead_sessions(&server).await;
        }
        Ok(())
    };
    let probe = Capability::probe(server.engine(), service);
    let ((), survey, capability) = tokio::try_join!(end_dead, server.survey(), probe)?;
    let databases = survey.databases.into_iter().map(Some);
    Ok(std::iter::once(None)
        .chain(databases)
        .map(|database| Planned {
            name: match &database {
                None => ArtifactName::Globals {
                    service: service.name.clone(),
                },
                Some(database) => ArtifactName::Database {
                    service: service.name.clone(),
                    database: database.name.clone(),
                },
            },
            alone: false,
            source: Source::Postgres {
                server: server.clone(),
                capability,
                version: survey.version.clone(),
                may_read_passwords: survey.may_read_passwords,
                database,
            },
        })
        .collect())
}

/// What a Redis server holds: one snapshot of all its databases.
async fn snapshot(
    context: &Context,
    service: &Service,
    options: &SourceOptions,
    id: &BackupId,
    locked: bool,
) -> Result<Planned> {
    let server = ready_redis(context, service, options, id.as_str()).await?;
    let end_dead = async {
        if locked {
            // A leftover that does not end is no reason not to back up.
            let _ = server.end_processes(true).await;
        }
        Ok(())
    };
    let probe = Capability::probe(server.engine(), service);
    let ((), survey, capability) = tokio::try_join!(end_dead, server.survey(), probe)?;
    if survey.mode == "sentinel" {
        return Err(Error::failed(format!(
            "service {} is a sentinel, which holds no data",
            service.name
        ))
        .hint("label it lifeboat.enable=false"));
    }
    Ok(Planned {
        name: ArtifactName::Redis {
            service: service.name.clone(),
        },
        alone: false,
        source: Source::Redis {
            server,
            capability,
            survey: Box::new(survey),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_asked_only_where_it_may_be_meant() {
        for pattern in ["postgres", "postgres/db1", "postgres/db1/db/app", "app"] {
            assert!(concerns(pattern, "postgres/db1"), "{pattern}");
        }
        for pattern in ["redis", "postgres/db", "postgres/db10", "redis/db1"] {
            assert!(!concerns(pattern, "postgres/db1"), "{pattern}");
        }
    }
}
