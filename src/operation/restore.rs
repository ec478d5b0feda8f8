//! Bringing a backup back: verified first, loaded beside, compared, swapped last, the old one kept.

use super::Context;
use super::backup::{end_dead_sessions, release, take_lock};
use super::journal::Journal;
use super::load::Loading;
use super::plan::{Executor, Plan, Step, execute};
use super::sources::{SourcesByStack, find_stack, postgres_services, ready_server};
use crate::docker::lock::StackLock;
use crate::error::{Error, Result, nearest};
use crate::event::{Event, Observer};
use crate::manifest::{Artifact, BackupId, Facts};
use crate::pipeline::{Limits, RawInspector, unseal};
use crate::repository::{Backup, Entry, Repository};
use crate::source::postgres::{
    self, Capability, DatabaseFacts, Role, Server, derived_name, drop_database, marked,
};
use crate::stack::{ArtifactName, Service, Stack};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The most that a globals script may hold, in bytes: it is kept in memory.
const LONGEST_GLOBALS: u64 = 64 << 20;

/// Where restored databases go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A new database of this name; only for one database.
    As(String),
    /// Under their own names; what serves there is kept aside.
    InPlace,
}

/// What to restore, and where to.
#[derive(Debug)]
pub struct RestoreRequest {
    /// The repository.
    pub repository: Repository,
    /// The backup in it.
    pub entry: Entry,
    /// Only these artifacts; empty for all.
    pub only: Vec<String>,
    /// Where to.
    pub target: Target,
    /// The stack to restore into; by default the backup's own.
    pub into: Option<String>,
    /// The sources' configuration.
    pub sources: SourcesByStack,
    /// How long to wait for another run on the stack.
    pub wait: Option<Duration>,
    /// Make the plan and stop.
    pub dry_run: bool,
}

/// What became of it.
#[derive(Debug)]
pub struct RestoreReport {
    /// What was done, or would be.
    pub plan: Plan,
    /// Whether it was.
    pub done: bool,
    /// The databases that were kept aside: service, present name, the name it had.
    pub kept: Vec<(String, String, String)>,
    /// How long it took.
    pub duration: Duration,
}

/// Restores a backup. Call it twice for the person's consent: first with `dry_run`.
///
/// # Errors
/// Damaged, before anything is touched, where a stored byte is not what was written; failed where the target
/// can't take the dump or what was restored is not what was dumped: the old database still serves.
pub async fn restore(
    context: &Context,
    request: RestoreRequest,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let begun = Instant::now();
    let engine = context.engine()?;
    let backup = request.repository.open_backup(&request.entry).await?;
    let stack_name = request.into.as_deref().unwrap_or(&request.entry.stack);
    let stack = find_stack(engine, Some(stack_name)).await?;
    let services = postgres_services(engine, &stack).await?;
    let selected = select(&backup, &request.only)?;
    let run = context.new_id()?;
    let first = first_service(&services, &selected, &stack)?;
    let lock = match request.dry_run {
        true => None,
        false => Some(
            context
                .unless_cancelled(take_lock(
                    context,
                    &stack.name,
                    &run,
                    &first.image_id,
                    "restore",
                    request.wait,
                ))
                .await?,
        ),
    };
    let outcome = locked(
        context,
        &request,
        &stack,
        &services,
        &backup,
        selected,
        &run,
        lock.as_ref(),
        observer,
    )
    .await;
    release(lock, observer).await;
    outcome.map(|report| RestoreReport {
        duration: begun.elapsed(),
        ..report
    })
}

/// The artifacts that are asked for; all where nothing is.
fn select(backup: &Backup, only: &[String]) -> Result<Vec<Artifact>> {
    let all = &backup.manifest().artifacts;
    for pattern in only {
        if !all.iter().any(|artifact| artifact.name.matches(pattern)) {
            let names: Vec<String> = all
                .iter()
                .map(|artifact| artifact.name.to_string())
                .collect();
            let near = nearest(pattern, names.iter().map(String::as_str)).join(" or ");
            return Err(
                Error::usage(format!("the backup has nothing called {pattern:?}")).hint(
                    if near.is_empty() {
                        format!("it has {}", names.join(", "))
                    } else {
                        format!("did you mean {near}?")
                    },
                ),
            );
        }
    }
    let wanted = |artifact: &&Artifact| {
        only.is_empty() || only.iter().any(|pattern| artifact.name.matches(pattern))
    };
    Ok(all.iter().filter(wanted).cloned().collect())
}

fn first_service<'a>(
    services: &'a [Service],
    selected: &[Artifact],
    stack: &Stack,
) -> Result<&'a Service> {
    for artifact in selected {
        let name = artifact.name.service().unwrap_or_default();
        if !services.iter().any(|service| service.name == name) {
            return Err(Error::usage(format!(
                "stack {} has no PostgreSQL service {name:?}, which {} came from",
                stack.name, artifact.name
            ))
            .hint("restore into a stack that has this service: --into STACK"));
        }
    }
    services
        .first()
        .ok_or_else(|| Error::usage(format!("stack {} has no database", stack.name)))
}

/// One database on its way back.
struct Incoming {
    artifact: Artifact,
    facts: DatabaseFacts,
    side: String,
}

#[expect(
    clippy::too_many_arguments,
    reason = "the pieces of one restore, each needed once"
)]
async fn locked(
    context: &Context,
    request: &RestoreRequest,
    stack: &Stack,
    services: &[Service],
    backup: &Backup,
    selected: Vec<Artifact>,
    run: &BackupId,
    lock: Option<&StackLock>,
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let facts = backup.facts().await?;
    let options = request
        .sources
        .get(&stack.name)
        .cloned()
        .unwrap_or_default();
    let mut servers = BTreeMap::new();
    for artifact in &selected {
        let name = artifact.name.service().unwrap_or_default();
        if !servers.contains_key(name)
            && let Some(service) = services.iter().find(|service| service.name == name)
        {
            let server = ready_server(context, service, &options, run.as_str()).await?;
            let capability = server.capability().await?;
            servers.insert(name.to_owned(), (server, capability));
        }
    }
    if !request.dry_run {
        for (server, _) in servers.values() {
            clear_leftovers(server, observer).await?;
        }
    }
    let (plan, incoming, kept) = context
        .unless_cancelled(plan(
            request, stack, backup, &selected, &facts, &servers, run,
        ))
        .await?;
    let Some(lock) = lock else {
        return Ok(RestoreReport {
            plan,
            done: false,
            kept,
            duration: Duration::ZERO,
        });
    };
    observer.observe(&Event::RunStarted {
        operation: "restore",
        run: run.to_string(),
        stack: stack.name.clone(),
    });
    let mut work = Work {
        backup,
        run,
        servers,
        incoming,
        observer,
    };
    let journal = Journal::begin(&context.state, &plan)?;
    execute(&plan, &mut work, journal, context, lock, observer).await?;
    Ok(RestoreReport {
        plan,
        done: true,
        kept,
        duration: Duration::ZERO,
    })
}

/// Drops the side databases of restores that died. The stack's lock is held: nobody is at work on them.
async fn clear_leftovers(server: &Server, observer: &dyn Observer) -> Result<()> {
    end_dead_sessions(server).await;
    let session = server.connect("postgres").await?;
    for leftover in marked(&session)
        .await?
        .iter()
        .filter(|one| one.role == Role::Side)
    {
        observer.observe(&Event::Warning {
            message: format!(
                "dropping {:?}, left behind by the restore {}",
                leftover.name, leftover.run
            ),
        });
        drop_database(&session, &leftover.name).await?;
    }
    Ok(())
}

type Servers = BTreeMap<String, (Server, Capability)>;
type Kept = Vec<(String, String, String)>;

/// Everything that can be known to fail fails here; nothing is touched.
async fn plan(
    request: &RestoreRequest,
    stack: &Stack,
    backup: &Backup,
    selected: &[Artifact],
    facts: &Facts,
    servers: &Servers,
    run: &BackupId,
) -> Result<(Plan, Vec<Incoming>, Kept)> {
    let databases: Vec<&Artifact> = selected
        .iter()
        .filter(|artifact| matches!(artifact.name, ArtifactName::Database { .. }))
        .collect();
    if let Target::As(name) = &request.target {
        if databases.len() != 1 {
            return Err(Error::usage(format!(
                "--as {name} restores one database, and {} are selected",
                databases.len()
            ))
            .hint("choose it: --only postgres/SERVICE/db/DATABASE"));
        }
        if name.is_empty() || name.len() > 63 {
            return Err(Error::usage("a database's name has 1 to 63 bytes"));
        }
    }
    let mut steps: Vec<Step> = selected
        .iter()
        .map(|artifact| Step::Verify {
            artifact: artifact.name.clone(),
        })
        .collect();
    let (mut loads, mut swaps, mut incoming, mut kept) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut roles: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for artifact in databases {
        let ArtifactName::Database { service, database } = &artifact.name else {
            continue;
        };
        let Some((server, _)) = servers.get(service) else {
            continue;
        };
        let known = facts.0.get(&artifact.name.to_string()).ok_or_else(|| {
            Error::damaged(format!("the facts say nothing about {}", artifact.name))
        })?;
        let known = postgres::database_facts(known)?;
        let session = server.connect("postgres").await?;
        server.preflight(&session, &known).await?;
        let wanted = roles.entry(service).or_default();
        wanted.extend(
            known
                .properties
                .iter()
                .flat_map(|p| p.roles().map(str::to_owned)),
        );
        let live = match &request.target {
            Target::As(name) => name,
            Target::InPlace => database,
        };
        let exists = server
            .databases()
            .await?
            .iter()
            .any(|known| known.name == *live);
        let aside = match (&request.target, exists) {
            (Target::As(name), true) => {
                return Err(Error::usage(format!(
                    "service {service} has a database {name:?} already"
                ))
                .hint("choose another name, or --in-place to replace the one the backup is of"));
            }
            (Target::InPlace, true) => Some(derived_name(live, "before", run.as_str())),
            (_, false) => None,
        };
        let side = derived_name(live, "restoring", run.as_str());
        loads.push(Step::CreateDatabase {
            service: service.clone(),
            side: side.clone(),
            target: live.clone(),
        });
        loads.push(Step::Load {
            service: service.clone(),
            artifact: artifact.name.clone(),
            side: side.clone(),
        });
        loads.push(Step::Settle {
            service: service.clone(),
            side: side.clone(),
        });
        loads.push(Step::Compare {
            service: service.clone(),
            side: side.clone(),
        });
        swaps.push(Step::Swap {
            service: service.clone(),
            incoming: side.clone(),
            live: live.clone(),
            aside: aside.clone(),
        });
        kept.extend(aside.map(|aside| (service.clone(), aside, live.clone())));
        incoming.push(Incoming {
            artifact: artifact.clone(),
            facts: known,
            side,
        });
    }
    for (service, (server, _)) in servers {
        let session = server.connect("postgres").await?;
        let globals = |artifact: &&Artifact| matches!(&artifact.name, ArtifactName::Globals { service: of } if of == service);
        if selected.iter().any(|artifact| globals(&artifact)) {
            steps.push(Step::CreateRoles {
                service: service.clone(),
                roles: Vec::new(),
            });
        } else if let Some(wanted) = roles.get(service.as_str()) {
            let missing = server.missing_roles(&session, wanted).await?;
            if missing.is_empty() {
                continue;
            }
            if !backup
                .manifest()
                .artifacts
                .iter()
                .any(|artifact| globals(&artifact))
            {
                return Err(postgres::missing_roles(&missing));
            }
            steps.push(Step::CreateRoles {
                service: service.clone(),
                roles: missing,
            });
        }
    }
    steps.extend(loads);
    // Last, and together: until here nothing that serves was touched.
    steps.extend(swaps);
    let plan = Plan {
        operation: "restore".to_owned(),
        run: run.to_string(),
        stack: stack.name.clone(),
        steps,
    };
    Ok((plan, incoming, kept))
}

/// A restore at work.
struct Work<'a> {
    backup: &'a Backup,
    run: &'a BackupId,
    servers: Servers,
    incoming: Vec<Incoming>,
    observer: &'a dyn Observer,
}

impl Executor for Work<'_> {
    async fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Verify { artifact } => self.verify(artifact).await,
            Step::CreateRoles { service, roles } => self.create_roles(service, roles).await,
            Step::CreateDatabase {
                service,
                side,
                target,
            } => {
                let (server, _) = self.server(service)?;
                let session = server.connect("postgres").await?;
                let properties = self.incoming(side)?.facts.properties.as_ref();
                server
                    .create_side(&session, side, target, self.run.as_str(), properties)
                    .await
            }
            Step::Load { service, side, .. } => self.load(service, side).await,
            Step::Settle { service, side } => {
                let (server, _) = self.server(service)?;
                server
                    .settle(side, self.incoming(side)?.facts.properties.as_ref())
                    .await
            }
            Step::Compare { service, side } => {
                let (server, _) = self.server(service)?;
                let different = server.compare(side, &self.incoming(side)?.facts).await?;
                if different.0.is_empty() {
                    return Ok(());
                }
                Err(Error::failed(format!(
                    "what was restored is not what was backed up: {}",
                    different.0.join("; ")
                )))
            }
            Step::Swap {
                service,
                incoming,
                live,
                aside,
            } => {
                let (server, _) = self.server(service)?;
                let aside = aside.as_deref().map(|aside| (aside, Role::Kept));
                postgres::swap(server, live, incoming, aside, self.run.as_str()).await
            }
            _ => Err(Error::failed("a restore has no such step")),
        }
    }

    async fn undo(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::CreateDatabase { service, side, .. } => {
                let (server, _) = self.server(service)?;
                let session = server.connect("postgres").await?;
                // After its swap this name is nobody's any more.
                drop_database(&session, side).await
            }
            Step::Swap {
                service,
                incoming,
                live,
                aside,
            } => {
                let (server, _) = self.server(service)?;
                let session = server.connect("postgres").await?;
                let swapped = match aside {
                    Some(aside) => marked(&session)
                        .await?
                        .iter()
                        .any(|kept| kept.name == *aside),
                    None => !server
                        .databases()
                        .await?
                        .iter()
                        .any(|known| known.name == *incoming),
                };
                match aside {
                    _ if !swapped => Ok(()),
                    Some(aside) => {
                        postgres::swap(
                            server,
                            live,
                            aside,
                            Some((incoming, Role::Side)),
                            self.run.as_str(),
                        )
                        .await
                    }
                    None => postgres::swap(server, incoming, live, None, self.run.as_str()).await,
                }
            }
            _ => Ok(()),
        }
    }
}

impl Work<'_> {
    fn server(&self, service: &str) -> Result<&(Server, Capability)> {
        self.servers
            .get(service)
            .ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
    }

    fn incoming(&self, side: &str) -> Result<&Incoming> {
        self.incoming
            .iter()
            .find(|incoming| incoming.side == side)
            .ok_or_else(|| Error::failed(format!("{side} is not part of this run")))
    }

    fn artifact(&self, name: &ArtifactName) -> Result<&Artifact> {
        self.backup
            .manifest()
            .artifacts
            .iter()
            .find(|artifact| artifact.name == *name)
            .ok_or_else(|| Error::failed(format!("{name} is not part of the backup")))
    }

    /// Reads every stored byte once, before anything is touched.
    async fn verify(&self, name: &ArtifactName) -> Result<()> {
        let mut reader = self.backup.read(self.artifact(name)?);
        while reader.next().await?.is_some() {}
        Ok(())
    }

    async fn create_roles(&self, service: &str, roles: &[String]) -> Result<()> {
        let name = ArtifactName::Globals {
            service: service.to_owned(),
        };
        let script = self.globals_script(self.artifact(&name)?).await?;
        let (server, _) = self.server(service)?;
        let session = server.connect("postgres").await?;
        let wanted: BTreeSet<String> = roles.iter().cloned().collect();
        let wanted = (!roles.is_empty()).then_some(&wanted);
        let replay = server.replay_globals(&session, &script, wanted).await?;
        if !replay.created.is_empty() {
            let message = format!(
                "created in service {service}: {}",
                replay.created.join(", ")
            );
            self.observer.observe(&Event::Detail { message });
        }
        for message in replay.skipped {
            self.observer.observe(&Event::Warning { message });
        }
        Ok(())
    }

    async fn globals_script(&self, artifact: &Artifact) -> Result<String> {
        if artifact.raw_size > LONGEST_GLOBALS {
            return Err(Error::damaged(format!(
                "{} is too long for what it is",
                artifact.name
            )));
        }
        let mut script = Vec::new();
        plain_bytes(self.backup, artifact, async |bytes| {
            script.extend_from_slice(&bytes);
            Ok(())
        })
        .await?;
        String::from_utf8(script)
            .map_err(|_| Error::damaged(format!("{} is not text", artifact.name)))
    }

    async fn load(&self, service: &str, side: &str) -> Result<()> {
        let (server, capability) = self.server(service)?;
        let incoming = self.incoming(side)?;
        let loading = Loading {
            backup: self.backup,
            artifact: &incoming.artifact,
            facts: &incoming.facts.dump,
            server,
            capability: *capability,
            side,
            observer: self.observer,
        };
        loading.run().await
    }
}

/// An artifact's plain bytes, every stored digest and the plain size checked by the end.
pub(super) async fn plain_bytes(
    backup: &Backup,
    artifact: &Artifact,
    mut sink: impl AsyncFnMut(bytes::Bytes) -> Result<()>,
) -> Result<()> {
    let limits = Limits {
        raw_size: artifact.raw_size,
    };
    let (mut input, mut output) = unseal(limits, Box::new(RawInspector::new()));
    let mut reader = backup.read(artifact);
    let read = async {
        while let Some(bytes) = reader.next().await? {
            input.push(bytes).await?;
        }
        input.finish().await
    };
    let write = async {
        while let Some(bytes) = output.next().await? {
            sink(bytes).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write)
        .map(|_| ())
        .map_err(|error| error.while_doing(format!("cannot read {}", artifact.name)))
}
