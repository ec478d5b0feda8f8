//! What of a stack is going to be captured.

use super::Context;
use super::backup::BackupRequest;
use super::sources::{SourceOptions, SourceService, end_dead_sessions, ready_redis, ready_server};
use crate::error::{Error, Kind, Result, nearest};
use crate::manifest::BackupId;
use crate::source::postgres::{Database, Server};
use crate::source::{Capability, Capture, redis};
use crate::stack::{ArtifactName, Compress, Service, SourceKind, encode};

/// One artifact that is going to be captured.
pub(super) struct Planned {
    pub name: ArtifactName,
    pub capability: Capability,
    pub source: Source,
}

/// What it is captured from.
pub(super) enum Source {
    Postgres {
        server: Server,
        /// The server's version, as it says.
        version: String,
        /// Whether the globals may hold password verifiers.
        may_read_passwords: bool,
        /// `None` for the globals.
        database: Option<Database>,
    },
    Redis {
        server: redis::Server,
        survey: Box<redis::Survey>,
    },
}

impl Planned {
    /// The container that it comes from.
    pub(super) fn service(&self) -> &Service {
        match &self.source {
            Source::Postgres { server, .. } => server.service(),
            Source::Redis { server, .. } => server.service(),
        }
    }

    /// The server's version, as it says.
    pub(super) fn version(&self) -> &str {
        match &self.source {
            Source::Postgres { version, .. } => version,
            Source::Redis { survey, .. } => &survey.version,
        }
    }

    /// Starts the capture.
    pub(super) async fn start(&self, compress: Compress, level: u8) -> Result<Capture> {
        let transport = self.capability.capture_transport(compress, level);
        match &self.source {
            Source::Postgres {
                server,
                database: Some(database),
                ..
            } => {
                let capture = server.dump(database, transport).await?;
                Ok(Capture::Postgres(Box::new(capture)))
            }
            Source::Postgres {
                server,
                may_read_passwords,
                ..
            } => {
                let capture = server.dump_globals(*may_read_passwords, transport).await?;
                Ok(Capture::Postgres(Box::new(capture)))
            }
            Source::Redis { server, survey } => {
                let capture = server.capture(survey, self.capability, compress, level);
                Ok(Capture::Redis(Box::new(capture.await?)))
            }
        }
    }
}

/// What is going to be captured.
pub(super) struct Inventory {
    pub planned: Vec<Planned>,
    /// Services that could not be asked, where a partial backup is allowed; and why.
    pub missing: Vec<String>,
}

/// Asks every service what it holds. Everything that can be known to fail fails here, before a byte is written.
pub(super) async fn inventory(
    context: &Context,
    request: &BackupRequest,
    options: &SourceOptions,
    services: &[SourceService],
    id: &BackupId,
    locked: bool,
) -> Result<Inventory> {
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
            SourceKind::Redis | SourceKind::Volume => format!("redis/{}", encode(&service.name)),
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
            SourceKind::Redis | SourceKind::Volume => {
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
    for pattern in &request.only {
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
    if planned.is_empty() && !missing.is_empty() {
        return Err(Error::failed(format!(
            "nothing could be captured: {}",
            missing.join("; ")
        )));
    }
    if planned.is_empty() {
        return Err(Error::usage(
            "everything of this stack is excluded: there is nothing to back up",
        ));
    }
    Ok(Inventory { planned, missing })
}

/// Whether something of a service's folder may be what `pattern` names: the folder, more or less of it, or a bare name.
fn concerns(pattern: &str, folder: &str) -> bool {
    let below = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    !pattern.contains('/') && pattern != "postgres" && pattern != "redis"
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
            capability,
            source: Source::Postgres {
                server: server.clone(),
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
        capability,
        source: Source::Redis {
            server,
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
