//! Undoing the last in-place restore, or giving up what was kept for that.
//!
//! What was kept of databases and Redis is written on the servers themselves, so this works from any machine. What
//! volumes and folders held is in a backup that names the restore: that needs its repository.

use super::Context;
use super::exchange::swap_back;
use super::journal::Journal;
use super::lock::{Claim, release};
use super::plan::{Executor, Plan, execute};
use super::rollback_plan::{BringingBack, LastRestore};
use super::snapshots::Snapshots;
use super::sources::{
    SourceService, SourcesByStack, find_stack, ready_redis, ready_server, source_services,
};
use super::step::Step;
use super::tree_steps::{TreeWork, verify};
use super::trees::Trees;
use crate::docker::lock::StackLock;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::manifest::BackupId;
use crate::repository::Repository;
use crate::source::postgres::{self, Marked, Role, Server, derived_name, drop_database, marked};
use crate::source::redis::{BEFORE, Layout, UNDONE};
use crate::stack::SourceKind;
use std::collections::BTreeMap;
use std::time::Duration;

/// How much of the last restore in place is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    All,
    /// Databases and Redis; volumes and folders stay as they are.
    Servers,
    /// None: what was kept for that is dropped.
    Discard,
}

/// What to undo.
#[derive(Debug)]
pub struct RollbackRequest {
    /// The stack; without it, the one that there is.
    pub stack: Option<String>,
    /// The sources' configuration.
    pub sources: SourcesByStack,
    /// How much of it.
    pub extent: Extent,
    /// Stop only who writes to a volume or folder that is replaced.
    pub keep_running: bool,
    /// How long what was stopped may take to be well again; after that all of the rollback is undone.
    pub health: Duration,
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
    /// The backup of what volumes and folders held before, where some were replaced.
    pub safety: Option<BackupId>,
}

/// Brings back what served before the last in-place restore. What served since is kept aside in its turn, volumes and
/// folders in a backup: it may hold what was written meanwhile. Where any of it fails, all of it is undone.
///
/// `open` opens the repository that holds what volumes held, given where the restore has written it to, where that is
/// known. It is called only where it is needed.
///
/// # Errors
/// Not found where nothing is kept; before anything is changed, where what volumes held cannot be read.
pub async fn rollback(
    context: &Context,
    request: RollbackRequest,
    open: impl AsyncFn(Option<&str>) -> Result<Repository>,
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
    let outcome = locked(context, &request, &claim, &open, lock.as_ref()).await;
    release(lock, observer).await;
    outcome
}

async fn locked(
    context: &Context,
    request: &RollbackRequest,
    claim: &Claim<'_>,
    open: &impl AsyncFn(Option<&str>) -> Result<Repository>,
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
    let (servers, found, files) = survey(context, claim).await?;
    let last = last_run(&found, &files);
    let with_trees = request.extent == Extent::All;
    let restore = LastRestore::of(context, stack, last, with_trees);
    let archives = match with_trees {
        true => restore.archives(open, observer).await?,
        false => None,
    };
    let steps = if request.extent == Extent::Discard {
        discard(&found, &files)
    } else {
        let back = BringingBack {
            context,
            request,
            stack,
            services,
            observer,
            run,
        };
        let exchange = match restore.is_of_servers() {
            true => bring_back(&found, &files, last, &servers, run).await?,
            false => Vec::new(),
        };
        back.steps(&restore, archives.as_ref(), exchange).await?
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
        return Ok(RollbackReport {
            plan,
            done: false,
            safety: None,
        });
    };
    observer.observe(&Event::RunStarted {
        operation: "rollback",
        run: run.to_string(),
        stack: stack.name.clone(),
    });
    let mut work = Work {
        servers,
        run,
        trees: TreeWork {
            snapshots: Snapshots {
                context,
                services,
                options,
                run,
                observer,
            },
            trees: Trees::new(context, run, observer),
            stack,
            lock,
            archives: archives
                .as_ref()
                .map(|archives| (&archives.request.repository, &archives.backup)),
            safety: None,
        },
    };
    let journal = Journal::begin(&context.state, &plan)?;
    let executed = execute(&plan, &mut work, journal, context, lock, observer).await;
    if executed.is_err() {
        let _ = context.engine()?.end_scratches(run.as_str()).await;
    }
    executed?;
    Ok(RollbackReport {
        plan,
        done: true,
        safety: work.trees.safety,
    })
}

/// What the servers of a stack that run keep: of databases, and of data files.
async fn survey(
    context: &Context,
    claim: &Claim<'_>,
) -> Result<(BTreeMap<String, Server>, Vec<Found>, Vec<KeptFiles>)> {
    let Claim {
        services,
        options,
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
    Ok((servers, found, files))
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

/// The last in-place restore that servers keep something of.
fn last_run<'r>(found: &'r [Found], files: &'r [KeptFiles]) -> Option<&'r str> {
    let kept = found.iter().filter(|one| one.database.role == Role::Kept);
    let runs = kept.map(|one| one.database.run.as_str());
    runs.chain(files.iter().filter_map(KeptFiles::before)).max()
}

/// Swaps back what the last in-place restore kept.
async fn bring_back(
    found: &[Found],
    files: &[KeptFiles],
    last: Option<&str>,
    servers: &BTreeMap<String, Server>,
    run: &BackupId,
) -> Result<Vec<Step>> {
    let kept = || found.iter().filter(|one| one.database.role == Role::Kept);
    // Files first: a server that does not start on its old ones is the likelier failure.
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
            kept_by: Some(one.database.run.clone()),
        });
    }
    Ok(steps)
}

struct Work<'a> {
    servers: BTreeMap<String, Server>,
    run: &'a BackupId,
    trees: TreeWork<'a>,
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
        let snapshots = &self.trees.snapshots;
        match step {
            Step::Verify { artifact } => match self.trees.archives {
                Some((_, backup)) => verify(backup, artifact).await,
                None => Err(Error::failed(format!("there is no backup of {artifact}"))),
            },
            Step::Swap {
                service,
                incoming,
                live,
                aside,
                ..
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
            } => snapshots.replace(service, layout, incoming, aside).await,
            Step::RemoveFiles {
                service,
                layout,
                folder,
            } => snapshots.remove(service, layout, folder).await,
            _ => self.trees.perform(step).await,
        }
    }

    /// What served before the rollback serves again. A drop was asked for: what was dropped is gone.
    async fn undo(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::ReplaceFiles {
                service,
                layout,
                incoming,
                aside,
            } => {
                let snapshots = &self.trees.snapshots;
                snapshots.put_back(service, layout, incoming, aside).await
            }
            Step::Swap { service, .. } => {
                swap_back(self.server(service)?, step, self.run.as_str()).await
            }
            _ => self.trees.undo(step).await,
        }
    }
}
