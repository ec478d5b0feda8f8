//! Bringing a backup back: verified first, loaded beside, compared, swapped last, the old one kept.

use super::Context;
use super::files;
use super::journal::Journal;
use super::lock::{Claim, release};
use super::partial;
use super::plan::{Plan, execute};
use super::restore_plan::{Planner, RedisServers, Servers, check_services, select};
use super::restore_steps::Work;
use super::restore_trees::TreePlanner;
use super::snapshots::Snapshots;
use super::sources::{
    SourceOptions, SourceService, SourcesByStack, end_dead_sessions, find_stack, ready_redis,
    ready_server, source_services,
};
use super::tree_steps::TreeWork;
use super::trees::Trees;
use crate::docker::lock::StackLock;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer};
use crate::manifest::{Artifact, BackupId};
use crate::repository::{Backup, Entry, Repository};
use crate::source::Capability;
use crate::source::postgres::{Role, Server, drop_database, marked};
use crate::stack::{Service, SourceKind, Stack};
use serde::Serialize;
use std::time::{Duration, Instant};

/// How long what was stopped may take to be well again, where nobody says.
pub const HEALTH_LIMIT: Duration = Duration::from_mins(5);

/// Where restored databases go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A new database of this name, a new volume for a Redis snapshot or a volume's archive, or a new folder for a
    /// folder's; only for one of them.
    As(String),
    /// Under their own names; what serves there is kept aside.
    InPlace,
    /// Tables of a database, into a schema beside the live ones that is called after the backup.
    Beside,
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
    /// Stop only who writes to a volume or folder that is replaced. Without it, a restore of all of a backup in place
    /// stops everything else of the stack that runs.
    pub keep_running: bool,
    /// How long what was stopped may take to be well again; after that all of the restore is undone.
    pub health: Duration,
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
    /// What was kept aside.
    pub kept: Vec<Kept>,
    /// The backup of what volumes and folders held before, where some were replaced.
    pub safety: Option<BackupId>,
    /// How long it took.
    pub duration: Duration,
}

/// Something that an in-place restore keeps, for a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Kept {
    /// A database, under another name.
    Database {
        /// The service.
        service: String,
        /// The name that it had.
        database: String,
        /// The name that it has.
        kept_as: String,
    },
    /// A Redis server's data files.
    Files {
        /// The service.
        service: String,
        /// The folder that holds them, a path in the service's container.
        folder: String,
    },
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
    let backup = request.repository.open_backup(&request.entry).await?;
    if partial::asked_for(&backup, &request)? {
        return partial::restore(context, &request, &backup, observer).await;
    }
    let mut selected = select(&backup, &request.only)?;
    if request.target == Target::Beside {
        return Err(
            Error::usage("it is not said where the backup is to be restored to")
                .hint("--as NAME restores beside, --in-place replaces what serves"),
        );
    }
    if let Some(alone) = files::asked_alone(&selected, &request)? {
        return files::restore(context, &request, &backup, alone, observer).await;
    }
    files::left_alone(&mut selected, &request.only, observer);
    let engine = context.engine()?;
    let stack_name = request.into.as_deref().unwrap_or(&request.entry.stack);
    let only_trees = selected
        .iter()
        .all(|artifact| artifact.name.source_kind() == SourceKind::Volume);
    let stack = match find_stack(engine, Some(stack_name)).await {
        // Volumes come back before the stack that uses them is there.
        Err(error) if only_trees && error.kind() == Kind::Usage => Stack {
            name: stack_name.to_owned(),
            services: Vec::new(),
        },
        stack => stack?,
    };
    let services = source_services(engine, &stack).await?;
    let options = request
        .sources
        .get(&stack.name)
        .cloned()
        .unwrap_or_default();
    check_services(&services, &selected, &stack)?;
    let run = context.new_id()?;
    let claim = Claim {
        stack: &stack,
        services: &services,
        options: &options,
        observer,
        run: &run,
        operation: "restore",
        wait: request.wait,
        dry_run: request.dry_run,
    };
    let lock = claim.take(context).await?;
    let restoring = Restoring {
        context,
        request: &request,
        stack: &stack,
        services: &services,
        options: &options,
        backup: &backup,
        selected: &selected,
        run: &run,
        observer,
    };
    let outcome = restoring.run(lock.as_ref()).await;
    release(lock, observer).await;
    let mut report = outcome?;
    report.duration = begun.elapsed();
    Ok(report)
}

/// One restore, its backup and its stack known.
struct Restoring<'a> {
    context: &'a Context,
    request: &'a RestoreRequest,
    stack: &'a Stack,
    services: &'a [SourceService],
    options: &'a SourceOptions,
    backup: &'a Backup,
    selected: &'a [Artifact],
    run: &'a BackupId,
    observer: &'a dyn Observer,
}

impl Restoring<'_> {
    /// Makes the plan and, under a lock, carries it out.
    async fn run(&self, lock: Option<&StackLock>) -> Result<RestoreReport> {
        self.backup.check_keys(self.selected).await?;
        let facts = self.backup.facts().await?;
        if self.request.only.is_empty() {
            // Whoever wants some artifacts can have them; the whole backup is only whole with everything.
            self.backup.check_folder()?;
            self.backup.stack_json().await?;
            self.backup.restore_md().await?;
        }
        let servers = self.servers().await?;
        let redis = self.redis().await?;
        if lock.is_some() {
            for (server, _) in servers.values() {
                clear_leftovers(server, self.observer).await?;
            }
        }
        let plan = Planner {
            request: self.request,
            stack: self.stack,
            backup: self.backup,
            selected: self.selected,
            facts: &facts,
            servers: &servers,
            redis: &redis,
            services: self.services,
            trees: TreePlanner {
                context: self.context,
                request: self.request,
                backup: self.backup,
                selected: self.selected,
                run: self.run,
                observer: self.observer,
            },
            run: self.run,
        };
        let planned = self.context.unless_cancelled(plan.make()).await?;
        let report = RestoreReport {
            plan: planned.plan,
            done: lock.is_some(),
            kept: planned.kept,
            safety: None,
            duration: Duration::ZERO,
        };
        let mut report = report;
        let Some(lock) = lock else { return Ok(report) };
        self.observer.observe(&Event::RunStarted {
            operation: "restore",
            run: self.run.to_string(),
            stack: self.stack.name.clone(),
        });
        let mut work = Work {
            backup: self.backup,
            run: self.run,
            facts: &facts,
            servers,
            incoming: planned.incoming,
            observer: self.observer,
            trees: TreeWork {
                snapshots: Snapshots {
                    context: self.context,
                    services: self.services,
                    options: self.options,
                    run: self.run,
                    observer: self.observer,
                },
                trees: Trees::new(self.context, self.run, self.observer),
                stack: self.stack,
                lock,
                archives: Some((&self.request.repository, self.backup)),
                safety: None,
            },
        };
        let journal = Journal::begin(&self.context.state, &report.plan)?;
        let executed = execute(
            &report.plan,
            &mut work,
            journal,
            self.context,
            lock,
            self.observer,
        )
        .await;
        if executed.is_err() {
            // Work that was interrupted could not clean up after itself; what stays is swept by the next run.
            let _ = self
                .context
                .engine()?
                .end_scratches(self.run.as_str())
                .await;
        }
        executed?;
        report.safety = work.trees.safety;
        Ok(report)
    }

    /// The servers of the selected artifacts, ready.
    async fn servers(&self) -> Result<Servers> {
        let mut servers = Servers::new();
        for service in self.taking_part(SourceKind::Postgres) {
            let server =
                ready_server(self.context, service, self.options, self.run.as_str()).await?;
            let capability = Capability::probe(server.engine(), service).await?;
            servers.insert(service.name.clone(), (server, capability));
        }
        Ok(servers)
    }

    /// As [`servers`](Self::servers), of snapshots.
    async fn redis(&self) -> Result<RedisServers> {
        let mut servers = RedisServers::new();
        for service in self.taking_part(SourceKind::Redis) {
            let server =
                ready_redis(self.context, service, self.options, self.run.as_str()).await?;
            let survey = server.survey().await?;
            servers.insert(service.name.clone(), (server, survey));
        }
        Ok(servers)
    }

    /// The services of a kind that selected artifacts go to.
    fn taking_part(&self, kind: SourceKind) -> impl Iterator<Item = &Service> {
        self.services
            .iter()
            .filter(move |one| one.kind == kind)
            .map(|one| &one.service)
            .filter(|service| {
                self.selected
                    .iter()
                    .any(|artifact| artifact.name.service() == Some(&service.name))
            })
    }
}

/// Drops the side databases of restores that died. The stack's lock is held: nobody is at work on them.
pub(super) async fn clear_leftovers(server: &Server, observer: &dyn Observer) -> Result<()> {
    end_dead_sessions(server).await;
    let session = server.maintenance(&[]).await?;
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
        // What was carried out of it and not compared yet goes first: it is found by way of the side database only.
        if server.has_database(&leftover.of).await? {
            server.drop_unfinished(&leftover.of, &leftover.run).await?;
        }
        drop_database(&session, &leftover.name).await?;
    }
    Ok(())
}
