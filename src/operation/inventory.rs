//! What of a stack is going to be captured.

use super::Context;
use super::backup::BackupRequest;
use super::sources::{SourceOptions, end_dead_sessions, ready_server};
use crate::error::{Error, Result, nearest};
use crate::manifest::BackupId;
use crate::source::postgres::{Capability, Database, Server};
use crate::stack::{ArtifactName, Service, encode};

/// One artifact that is going to be captured.
pub(super) struct Planned {
    pub name: ArtifactName,
    pub server: Server,
    pub capability: Capability,
    /// The server's version, as it says.
    pub version: String,
    /// Whether the globals may hold password verifiers.
    pub may_read_passwords: bool,
    /// `None` for the globals.
    pub database: Option<Database>,
}

/// Asks every service what it holds. Everything that can be known to fail fails here, before a byte is written.
pub(super) async fn inventory(
    context: &Context,
    request: &BackupRequest,
    options: &SourceOptions,
    services: &[Service],
    id: &BackupId,
    locked: bool,
) -> Result<Vec<Planned>> {
    let mut planned = Vec::new();
    let excluded =
        |name: &ArtifactName| options.exclude.iter().any(|pattern| name.matches(pattern));
    let wanted = |name: &ArtifactName| {
        (request.only.is_empty() || request.only.iter().any(|pattern| name.matches(pattern)))
            && !excluded(name)
    };
    let mut seen = Vec::new();
    for service in services {
        let service_pattern = format!("postgres/{}", encode(&service.name));
        if options.exclude.contains(&service_pattern) {
            continue;
        }
        let server = ready_server(context, service, options, id.as_str()).await?;
        let end_dead = async {
            if locked {
                end_dead_sessions(&server).await;
            }
            Ok(())
        };
        let ((), survey, capability) =
            tokio::try_join!(end_dead, server.survey(), server.capability())?;
        let globals = ArtifactName::Globals {
            service: service.name.clone(),
        };
        let databases = survey.databases.into_iter().map(Some);
        for database in std::iter::once(None).chain(databases) {
            let name = match &database {
                None => globals.clone(),
                Some(database) => ArtifactName::Database {
                    service: service.name.clone(),
                    database: database.name.clone(),
                },
            };
            seen.push(name.to_string());
            if wanted(&name) {
                planned.push(Planned {
                    name,
                    server: server.clone(),
                    capability,
                    version: survey.version.clone(),
                    may_read_passwords: survey.may_read_passwords,
                    database,
                });
            }
        }
    }
    for pattern in &request.only {
        if !planned.iter().any(|planned| planned.name.matches(pattern)) {
            let near = nearest(pattern, seen.iter().map(String::as_str));
            let error = Error::usage(format!("nothing of the stack is called {pattern:?}"));
            return Err(error.hint(match near.is_empty() {
                true => format!("the stack has {}", seen.join(", ")),
                false => format!("did you mean {}?", near.join(" or ")),
            }));
        }
    }
    if planned.is_empty() {
        return Err(Error::usage(
            "everything of this stack is excluded: there is nothing to back up",
        ));
    }
    Ok(planned)
}
