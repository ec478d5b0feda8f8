//! Which stack is meant, and what of it can be captured.

use super::Context;
use super::helpers::helper_image;
use super::volumes::Stores;
use crate::docker::Engine;
use crate::error::{Error, Result, nearest};
use crate::source::postgres::{self, Server};
use crate::source::{Credentials, redis};
use crate::stack::{Compress, Service, SourceKind, Stack, Volume};
use std::collections::BTreeMap;
use std::time::Duration;

/// What to do where nothing was recognised.
pub const LABEL_HINT: &str =
    "start the stack, or label a container lifeboat.source=postgres or lifeboat.source=redis";

/// How long a server that is just starting may take before a capture or a restore gives up on it.
pub(super) const READY_DEADLINE: Duration = Duration::from_mins(1);

/// What the configuration says about a stack's sources.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Artifacts that are left out, by name or folder.
    pub exclude: Vec<String>,
    /// Folders that are captured like volumes: `bind:/path`.
    pub include: Vec<String>,
    /// Files of the project that are captured besides its Compose files and what those name; `!path` for those that
    /// are not.
    pub include_files: Vec<String>,
    /// Credentials by service.
    pub credentials: BTreeMap<String, Credentials>,
    /// Where bytes are compressed.
    pub compress: Compress,
    /// zstd level of stored bytes, where it is not the default.
    pub level: Option<u8>,
}

/// What the configuration says about sources, by stack.
pub type SourcesByStack = BTreeMap<String, SourceOptions>;

/// The stack called `name`; without a name, the one that there is.
///
/// # Errors
/// Usage, with the nearest names, where there is no such stack or the name is missing and needed.
pub async fn find_stack(engine: &Engine, name: Option<&str>) -> Result<Stack> {
    let Stores { stacks, volumes } = Stores::of(engine).await?;
    let stacks = with_volumes_alone(stacks, &volumes);
    let mut with_sources = Vec::new();
    for stack in &stacks {
        if has_volumes(stack, &volumes) || !source_services(engine, stack).await?.is_empty() {
            with_sources.push(stack.name.as_str());
        }
    }
    let names = || with_sources.join(", ");
    let alone = name.and_then(|name| stands_alone(name, &volumes));
    let found = match name {
        Some(name) => stacks
            .iter()
            .find(|stack| stack.name == name)
            .or(alone.as_ref()),
        None => match with_sources[..] {
            [only] => stacks.iter().find(|stack| stack.name == only),
            [] => {
                return Err(Error::usage(format!(
                    "nothing on the engine at {} looks like a database, and there is no volume",
                    engine.endpoint()
                ))
                .hint(LABEL_HINT));
            }
            _ => {
                return Err(
                    Error::usage("several stacks are on this engine: say which one")
                        .hint(format!("they are {}", names())),
                );
            }
        },
    };
    found.cloned().ok_or_else(|| {
        let name = name.unwrap_or_default();
        let error = Error::usage(format!(
            "there is no stack {name:?} on the engine at {}",
            engine.endpoint()
        ));
        let near = nearest(name, stacks.iter().map(|stack| stack.name.as_str()));
        if !near.is_empty() {
            error.hint(format!("did you mean {}?", near.join(" or ")))
        } else if with_sources.is_empty() {
            error.hint("docker compose ls shows what runs here")
        } else {
            error.hint(format!("the stacks with data are {}", names()))
        }
    })
}

/// The stacks, those that have volumes and no container any more among them.
fn with_volumes_alone(mut stacks: Vec<Stack>, volumes: &[Volume]) -> Vec<Stack> {
    for project in volumes.iter().filter_map(Volume::project) {
        if !stacks.iter().any(|stack| stack.name == project) {
            stacks.push(Stack {
                name: project.to_owned(),
                services: Vec::new(),
            });
        }
    }
    stacks
}

/// A volume that was made for no stack, and a folder, are a stack of their own name: their backups are kept under it.
fn stands_alone(name: &str, volumes: &[Volume]) -> Option<Stack> {
    let mut volumes = volumes.iter();
    let is_there = name.starts_with('/')
        || volumes.any(|volume| volume.name == name && volume.project().is_none());
    is_there.then(|| Stack {
        name: name.to_owned(),
        services: Vec::new(),
    })
}

fn has_volumes(stack: &Stack, volumes: &[Volume]) -> bool {
    let mut mounts = stack.services.iter().flat_map(|service| &service.mounts);
    mounts.any(|mount| mount.volume.is_some())
        || volumes
            .iter()
            .any(|volume| volume.project() == Some(&stack.name))
}

/// A service that can be captured.
#[derive(Debug, Clone)]
pub struct SourceService {
    /// What it is.
    pub kind: SourceKind,
    /// One container of it.
    pub service: Service,
}

/// The services of a stack that can be captured, one container each: replicas of one service that share
/// nothing would need a name of their own.
pub async fn source_services(engine: &Engine, stack: &Stack) -> Result<Vec<SourceService>> {
    let mut found: Vec<SourceService> = Vec::new();
    for service in &stack.services {
        if found.iter().any(|known| known.service.name == service.name) {
            continue;
        }
        let kind = if postgres::is_postgres(engine, service).await? {
            SourceKind::Postgres
        } else if redis::is_redis(engine, service).await? {
            SourceKind::Redis
        } else {
            continue;
        };
        found.push(SourceService {
            kind,
            service: service.clone(),
        });
    }
    Ok(found)
}

/// An image that is on the engine for sure: the stack's own, else lifeboat's.
pub(super) async fn some_image(context: &Context, stack: &Stack) -> Result<String> {
    match stack.services.first() {
        Some(service) => Ok(service.image_id.clone()),
        None => Ok(helper_image(context, context.engine()?).await?.id),
    }
}

/// A database is captured and restored while it runs.
async fn check_running(engine: &Engine, service: &Service) -> Result<()> {
    // What a dead run had stopped may have been started since it was looked at.
    if !service.running && engine.state(&service.container_id).await? != "running" {
        return Err(Error::failed(format!(
            "service {} is {}: a database is captured and restored while it runs",
            service.name, service.state
        ))
        .hint(format!(
            "start it (docker start {}), or leave it out with exclude in lifeboat.toml",
            service.container_name
        )));
    }
    Ok(())
}

impl SourceOptions {
    /// Who lifeboat is to a service.
    fn credentials_of(&self, service: &Service) -> Credentials {
        self.credentials
            .get(&service.name)
            .cloned()
            .unwrap_or_default()
    }
}

/// A service's PostgreSQL server, once it is known to run and to accept connections.
pub(super) async fn ready_server(
    context: &Context,
    service: &Service,
    options: &SourceOptions,
    run: &str,
) -> Result<Server> {
    check_running(context.engine()?, service).await?;
    let credentials = options.credentials_of(service);
    let server = Server::new(context.engine()?, service, &credentials, run);
    server.wait_ready(READY_DEADLINE).await?;
    Ok(server)
}

/// A service's Redis server, once it is known to run and to have loaded its data.
pub(super) async fn ready_redis(
    context: &Context,
    service: &Service,
    options: &SourceOptions,
    run: &str,
) -> Result<redis::Server> {
    check_running(context.engine()?, service).await?;
    let credentials = options.credentials_of(service);
    let server = redis::Server::new(context.engine()?, service, &credentials, run);
    server.wait_ready(READY_DEADLINE).await?;
    Ok(server)
}

/// Ends what dead runs of lifeboat still do on the server: when a client goes away, its exec keeps
/// running. Called with the stack's lock held, so whoever has such a session is dead.
pub(super) async fn end_dead_sessions(server: &Server) {
    let Ok(session) = server.maintenance(&[]).await else {
        // Without SQL there is nothing to be done about them, and a dump still works.
        return;
    };
    let _ = session
        .query(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where application_name ~ '^lifeboat-[0-9]{8}T[0-9]{6}Z-[a-z0-9]{4}$' and application_name <> $1",
            &[&server.application_name()],
        )
        .await;
}
