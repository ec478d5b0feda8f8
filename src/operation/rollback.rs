//! Undoing the last in-place restore, or giving up what was kept for that.
//!
//! What was kept is written on the databases themselves, so this works from any machine.

use super::Context;
use super::journal::Journal;
use super::lock::{Claim, release};
use super::plan::{Executor, Plan, execute};
use super::snapshots::Snapshots;
use super::sources::{
    SourceService, SourcesByStack, find_stack, ready_redis, ready_server, source_services,
};
use super::step::Step;
use crate::docker::lock::StackLock;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::manifest::BackupId;
use crate::source::postgres::{self, Marked, Role, Server, derived_name, drop_database, marked};
use crate::source::redis::{BEFORE, Layout, UNDONE};
use crate::stack::SourceKind;
use std::collections::BTreeMap;
use std::time::Duration;

/// What to undo.
#[derive(Debug)]
pub struct RollbackRequest {
    /// The stack; without it, the one that there is.
    pub stack: Option<String>,
    /// The sources' configuration.
    pub sources: SourcesByStack,
    /// Drop what was kept instead of bringing it back.
    pub discard: bool,
    /// How long to wait for another run on the stack.
    pub wait: Option<Duration>,
    /// Make the plan and stop.
    pub dry_run: bool,
}

/// What became of it.
#[derive(Debug)]
pub struct RollbackReport {
    /// What was done, or would be.
    pub plan: Plan,
    /// Whether it was.
    pub done: bool,
}

/// Brings the databases back that served before the last in-place restore. What served since is kept aside in
/// its turn: it may hold what was written meanwhile.
///
/// # Errors
/// Not found where nothing is kept.
pub async fn rollback(
    context: &Context,
    request: RollbackRequest,
    observer: &dyn Observer,
) -> Result<RollbackReport> {
    let engine = context.engine()?;
    let stack = find_stack(engine, request.stack.as_deref()).await?;
    let services = source_services(engine, &stack).await?;
    let options = request
        .sources
        .get(&stack.name)
        .cloned()
        .unwrap_or_default();
    let run = context.new_id()?;
    let claim = Claim {
        stack: &stack,
        services: &services,
        options: &options,
        observer,
        run: &run,
        operation: "rollback",
        wait: request.wait,
        dry_run: request.dry_run,
    };
    let lock = claim.take(context).await?;
    let outcome = locked(context, &request, &claim, lock.as_ref()).await;
    release(lock, observer).await;
    outcome
}

async fn locked(
    context: &Context,
    request: &RollbackRequest,
    claim: &Claim<'_>,
    lock: Option<&StackLock>,
) -> Result<RollbackReport> {
    let Claim {
        stack,
        services,
        options,
        observer,
        run,
        ..
    } = *claim;
    let mut servers = BTreeMap::new();
    let mut found: Vec<Found> = Vec::new();
    let mut files: Vec<KeptFiles> = Vec::new();
    for SourceService { kind, service } in services.iter().filter(|one| one.service.running) {
        if *kind != SourceKind::Postgres {
            let server = ready_redis(context, service, options, run.as_str()).await?;
            let Ok(layout) = server.survey().await?.layout else {
                continue;
            };
            let kept = server.kept(&layout).await?.into_iter();
            files.extend(kept.map(|folder| KeptFiles {
                service: service.name.clone(),
                layout: layout.clone(),
                folder,
            }));
            continue;
        }
        let server = ready_server(context, service, options, run.as_str()).await?;
        let session = server.maintenance(&[]).await?;
        let of_service = marked(&session).await?.into_iter();
        found.extend(of_service.map(|database| Found {
            service: service.name.clone(),
            database,
        }));
        servers.insert(service.name.clone(), server);
    }
    let steps = match request.discard {
        true => discard(&found, &files),
        false => bring_back(&found, &files, &servers, run).await?,
    };
    if steps.is_empty() {
        return Err(Error::not_found(format!(
            "stack {} keeps nothing from an in-place restore",
            stack.name
        ))
        .hint("only lifeboat restore --in-place leaves something to roll back"));
    }
    let plan = Plan {
        operation: "rollback".to_owned(),
        run: run.to_string(),
        stack: stack.name.clone(),
        steps,
    };
    let Some(lock) = lock else {
        return Ok(RollbackReport { plan, done: false });
    };
    observer.observe(&Event::RunStarted {
        operation: "rollback",
        run: run.to_string(),
        stack: stack.name.clone(),
    });
    let mut work = Work {
        servers,
        run,
        snapshots: Snapshots {
            context,
            services,
            options,
            run,
            observer,
        },
    };
    let journal = Journal::begin(&context.state, &plan)?;
    let executed = execute(&plan, &mut work, journal, context, lock, observer).await;
    if executed.is_err() {
        let _ = context.engine()?.end_scratches(run.as_str()).await;
    }
    executed?;
    Ok(RollbackReport { plan, done: true })
}

/// A database that lifeboat keeps, and its service.
struct Found {
    service: String,
    database: Marked,
}

/// Data files that lifeboat keeps beside those that serve.
struct KeptFiles {
    service: String,
    layout: Layout,
    folder: String,
}

impl KeptFiles {
    /// The restore that put them aside.
    fn before(&self) -> Option<&str> {
        self.folder.strip_prefix(BEFORE)
    }
}

/// Drops everything that is kept. Side databases are a restore's own to clear.
fn discard(found: &[Found], files: &[KeptFiles]) -> Vec<Step> {
    let kept = found.iter().filter(|one| one.database.role != Role::Side);
    let databases = kept.map(|one| Step::DropDatabase {
        service: one.service.clone(),
        name: one.database.name.clone(),
    });
    let files = files.iter().map(|one| Step::RemoveFiles {
        service: one.service.clone(),
        layout: one.layout.clone(),
        folder: one.folder.clone(),
    });
    databases.chain(files).collect()
}

/// Swaps back what the last in-place restore kept.
async fn bring_back(
    found: &[Found],
    files: &[KeptFiles],
    servers: &BTreeMap<String, Server>,
    run: &BackupId,
) -> Result<Vec<Step>> {
    let kept = || found.iter().filter(|one| one.database.role == Role::Kept);
    let runs = kept().map(|one| one.database.run.as_str());
    let last = runs.chain(files.iter().filter_map(KeptFiles::before)).max();
    // Files first: a server that does not start on its old ones is the likelier failure, and a swap of databases
    // that was done stays done.
    let mut steps: Vec<Step> = files
        .iter()
        .filter(|one| one.before().is_some() && one.before() == last)
        .map(|one| Step::ReplaceFiles {
            service: one.service.clone(),
            layout: one.layout.clone(),
            incoming: one.folder.clone(),
            aside: format!("{UNDONE}{run}"),
        })
        .collect();
    for one in kept().filter(|one| Some(one.database.run.as_str()) == last) {
        let live = &one.database.of;
        let exists = match servers.get(&one.service) {
            Some(server) => server
                .databases()
                .await?
                .iter()
                .any(|known| known.name == *live),
            None => false,
        };
        steps.push(Step::Swap {
            service: one.service.clone(),
            incoming: one.database.name.clone(),
            live: live.clone(),
            aside: exists.then(|| derived_name(live, "undone", run.as_str())),
        });
    }
    Ok(steps)
}

struct Work<'a> {
    servers: BTreeMap<String, Server>,
    run: &'a BackupId,
    snapshots: Snapshots<'a>,
}

impl Work<'_> {
    fn server(&self, service: &str) -> Result<&Server> {
        self.servers
            .get(service)
            .ok_or_else(|| Error::failed(format!("service {service} is not part of this run")))
    }
}

impl Executor for Work<'_> {
    async fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Swap {
                service,
                incoming,
                live,
                aside,
            } => {
                let aside = aside.as_deref().map(|aside| (aside, Role::Undone));
                postgres::swap(
                    self.server(service)?,
                    live,
                    incoming,
                    aside,
                    self.run.as_str(),
                )
                .await
            }
            Step::DropDatabase { service, name } => {
                let session = self.server(service)?.maintenance(&[]).await?;
                drop_database(&session, name).await
            }
            Step::ReplaceFiles {
                service,
                layout,
                incoming,
                aside,
            } => {
                self.snapshots
                    .replace(service, layout, incoming, aside)
                    .await
            }
            Step::RemoveFiles {
                service,
                layout,
                folder,
            } => self.snapshots.remove(service, layout, folder).await,
            _ => Err(Error::failed("a rollback has no such step")),
        }
    }

    /// A server gets back the files that it had. Each swap of databases is whole by itself and each drop was
    /// asked for: what was done stays.
    async fn undo(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::ReplaceFiles {
                service,
                layout,
                incoming,
                aside,
            } => {
                self.snapshots
                    .put_back(service, layout, incoming, aside)
                    .await
            }
            _ => Ok(()),
        }
    }
}
