//! What there is on the engine that holds data.

use super::report::{Problem, Severity};
use crate::docker::helper::Place;
use crate::error::Result;
use crate::operation::Context;
use crate::operation::sources::{SourceOptions, SourceService, SourcesByStack, ready_server};
use crate::operation::volume::Surroundings;
use crate::operation::volumes::{BIND, Store, bind_path};
use crate::source::postgres::Survey;
use crate::stack::{ArtifactName, Mount, Service, SourceKind, encode};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a server may take to say which databases it has.
const ANSWER: Duration = Duration::from_secs(15);

/// Folders of the engine's machine that hold no data of anybody's.
const NO_DATA: [&str; 6] = ["/dev", "/proc", "/run", "/sys", "/var/run", "/etc"];

/// A stack as the engine has it.
#[derive(Debug, Default)]
pub(super) struct Present {
    pub sources: Vec<Source>,
    pub problems: Vec<Problem>,
}

/// Something that holds data.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub name: String,
    pub kind: Option<SourceKind>,
    pub role: Role,
    /// What a backup of it holds.
    pub artifacts: Vec<ArtifactName>,
    pub notes: Vec<String>,
}

/// What is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// `lifeboat backup` takes it.
    Kept,
    /// The dump of this source is its backup: `postgres/db`.
    Covered(String),
    /// Somebody said so: where.
    LeftOut(&'static str),
    /// Nobody asked for it.
    Optional,
}

/// What the configuration says, and the folders that schedules take besides.
pub(super) struct Wanted<'a> {
    pub sources: &'a SourcesByStack,
    pub include: &'a BTreeMap<String, BTreeSet<String>>,
}

/// Volumes of no stack that nobody has mounted.
pub(super) type Loose = Vec<Source>;

/// Asks the engine what there is, and each PostgreSQL server for its databases: only it knows which are new.
pub(super) async fn look(
    context: &Context,
    wanted: &Wanted<'_>,
    only: Option<&str>,
) -> Result<(BTreeMap<String, Present>, Loose)> {
    let surroundings = Surroundings::of(context.engine()?).await?;
    let mut stacks: BTreeMap<String, Present> = BTreeMap::new();
    for stack in &surroundings.stores.stacks {
        let present = stacks.entry(stack.name.clone()).or_default();
        present.sources.extend(labelled_out(&stack.services));
    }
    let asked = surroundings
        .sources
        .iter()
        .filter(|(stack, _)| only.is_none_or(|only| only == stack))
        .map(async |(stack, source)| {
            let options = wanted.sources.get(stack).cloned().unwrap_or_default();
            (
                stack,
                database_service(context, stack, source, &options).await,
            )
        });
    for (stack, (source, problem)) in futures_util::future::join_all(asked).await {
        let present = stacks.entry(stack.clone()).or_default();
        present.sources.push(source);
        present.problems.extend(problem);
    }
    let mut loose = Vec::new();
    for volume in &surroundings.stores.volumes {
        let store = surroundings.stores.volume(volume, &surroundings.sources);
        let stack = surroundings.stack_of(&store).name;
        let options = wanted.sources.get(&stack);
        let mut source = files(&store, options);
        if store.users.is_empty() {
            source.notes.push("no container has it mounted".to_owned());
        }
        // Nobody's: a backup of no stack would take it along.
        if store.users.is_empty() && volume.project().is_none() && only != Some(&stack) {
            loose.push(source);
        } else {
            stacks.entry(stack).or_default().sources.push(source);
        }
    }
    folders(&surroundings, wanted, &mut stacks);
    for present in stacks.values_mut() {
        // Databases, then files; what needs no backup last.
        present
            .sources
            .sort_by_key(|source| (source.role != Role::Kept, source.kind, source.name.clone()));
    }
    Ok((stacks, loose))
}

/// Services whose label says that they are to be left alone, once each.
fn labelled_out(services: &[Service]) -> Vec<Source> {
    let names: BTreeSet<&str> = services
        .iter()
        .filter(|service| {
            service.labels.get("lifeboat.enable").map(String::as_str) == Some("false")
        })
        .map(|service| service.name.as_str())
        .collect();
    let sources = names.into_iter().map(|name| Source {
        name: format!("service {name}"),
        kind: None,
        role: Role::LeftOut(LABEL),
        artifacts: Vec::new(),
        notes: Vec::new(),
    });
    sources.collect()
}

const LABEL: &str = "label lifeboat.enable=false";
const EXCLUDE: &str = "exclude in lifeboat.toml";

fn excluded(options: &SourceOptions, artifact: &ArtifactName) -> bool {
    let mut patterns = options.exclude.iter();
    patterns.any(|pattern| artifact.matches(pattern))
}

/// A database server, and what keeps it from being looked at.
async fn database_service(
    context: &Context,
    stack: &str,
    source: &SourceService,
    options: &SourceOptions,
) -> (Source, Option<Problem>) {
    let service = &source.service;
    let is_postgres = source.kind == SourceKind::Postgres;
    let folder = match is_postgres {
        true => format!("postgres/{}", encode(&service.name)),
        false => format!("redis/{}", encode(&service.name)),
    };
    let own = match is_postgres {
        true => ArtifactName::Globals {
            service: service.name.clone(),
        },
        false => ArtifactName::Redis {
            service: service.name.clone(),
        },
    };
    let mut found = Source {
        name: folder.clone(),
        kind: Some(source.kind),
        role: Role::Kept,
        artifacts: vec![own],
        notes: Vec::new(),
    };
    let left_out = options.exclude.contains(&folder)
        || (!is_postgres && excluded(options, &found.artifacts[0]))
        || options
            .exclude
            .iter()
            .any(|pattern| pattern == "postgres" && is_postgres);
    if left_out {
        found.role = Role::LeftOut(EXCLUDE);
        return (found, None);
    }
    let mut problem = None;
    if !service.running {
        found.notes.push(format!("the server is {}", service.state));
        let message = format!(
            "service {} is {}: its backups fail until it runs",
            service.name, service.state
        );
        problem = Some(
            Problem::of(Severity::Warning, stack, message)
                .hint(format!("docker start {}", service.container_name)),
        );
    } else if is_postgres {
        match databases(context, service, options).await {
            Ok(survey) => add_databases(&mut found, survey, options),
            Err(error) => {
                found.notes.push("could not be asked".to_owned());
                let what = format!(
                    "{folder} could not be asked which databases it has, so that new ones would not be noticed"
                );
                problem = Some(Problem {
                    stack: Some(stack.to_owned()),
                    ..Problem::unknown(&what, &error)
                });
            }
        }
    }
    found
        .artifacts
        .retain(|artifact| !excluded(options, artifact));
    if found.artifacts.is_empty() {
        found.role = Role::LeftOut(EXCLUDE);
    }
    (found, problem)
}

async fn databases(
    context: &Context,
    service: &Service,
    options: &SourceOptions,
) -> Result<Survey> {
    let run = context.new_id()?;
    let asking = async {
        let server = ready_server(context, service, options, run.as_str()).await?;
        server.survey().await
    };
    tokio::time::timeout(ANSWER, context.unless_cancelled(asking))
        .await
        .unwrap_or_else(|_| {
            Err(crate::error::Error::failed(format!(
                "service {} did not answer within {} seconds",
                service.name,
                ANSWER.as_secs()
            ))
            .hint("lifeboat doctor says more"))
        })
}

fn add_databases(found: &mut Source, survey: Survey, options: &SourceOptions) {
    let service = match found.artifacts.first().and_then(ArtifactName::service) {
        Some(service) => service.to_owned(),
        None => return,
    };
    let all = survey.databases.into_iter().map(|database| {
        let name = ArtifactName::Database {
            service: service.clone(),
            database: database.name,
        };
        (name, database.size)
    });
    let (out, kept): (Vec<_>, Vec<_>) = all.partition(|(name, _)| excluded(options, name));
    found.notes.push(match kept.len() {
        1 => "1 database".to_owned(),
        count => format!("{count} databases"),
    });
    if !out.is_empty() {
        found.notes.push(format!("{} left out", out.len()));
    }
    found
        .artifacts
        .extend(kept.into_iter().map(|(name, _)| name));
}

/// A volume, or a folder that is to be backed up.
fn files(store: &Store, options: Option<&SourceOptions>) -> Source {
    let artifact = store.artifact();
    let name = match &store.place {
        Place::Volume(_) => artifact.to_string(),
        Place::Folder(path) => format!("{BIND}{path}"),
    };
    let role = if let Some(covered) = &store.covered_by {
        Role::Covered(covered.folder())
    } else if store.is_disabled() {
        Role::LeftOut(LABEL)
    } else if options.is_some_and(|options| excluded(options, &artifact)) {
        Role::LeftOut(EXCLUDE)
    } else {
        Role::Kept
    };
    Source {
        name,
        kind: Some(SourceKind::Volume),
        role,
        artifacts: vec![artifact],
        notes: Vec::new(),
    }
}

/// The folders that somebody includes, and those that containers may write to, which nobody asked to be kept.
fn folders(
    surroundings: &Surroundings,
    wanted: &Wanted<'_>,
    stacks: &mut BTreeMap<String, Present>,
) {
    let mut included: BTreeMap<String, BTreeSet<String>> = wanted.include.clone();
    for (stack, options) in wanted.sources {
        let folders = included.entry(stack.clone()).or_default();
        folders.extend(options.include.iter().cloned());
    }
    for (stack, present) in stacks {
        let own = included.remove(stack).unwrap_or_default();
        let paths: BTreeSet<&str> = own.iter().filter_map(|text| bind_path(text).ok()).collect();
        for path in &paths {
            let store = surroundings.stores.folder(path, &surroundings.sources);
            present
                .sources
                .push(files(&store, wanted.sources.get(stack)));
        }
        let stack = surroundings.stack(stack);
        let mounts = stack.services.iter().flat_map(|service| &service.mounts);
        let others: BTreeSet<&str> = mounts
            .filter_map(data_folder)
            .filter(|path| !paths.contains(path))
            .collect();
        for path in others {
            let store = surroundings.stores.folder(path, &surroundings.sources);
            let mut source = files(&store, None);
            if source.role == Role::Kept {
                source.role = Role::Optional;
                source
                    .notes
                    .push("a mounted folder that nobody includes".to_owned());
            }
            present.sources.push(source);
        }
    }
}

/// The folder of a mount that may hold data: one that the container can write to.
fn data_folder(mount: &Mount) -> Option<&str> {
    let path = mount.folder.as_deref()?;
    let below = |outer: &str| {
        path.strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let no_data = path == "/" || is_socket(path) || NO_DATA.iter().any(|outer| below(outer));
    (!mount.read_only && !no_data).then_some(path)
}

/// Whether a path is called as sockets are.
fn is_socket(path: &str) -> bool {
    let mut endings = path.rsplit('.');
    endings.next() == Some("sock") && endings.next().is_some()
}
