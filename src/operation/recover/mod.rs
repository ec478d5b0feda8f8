//! A recovery: a stack's volumes come back onto an engine that has never seen it, so that Compose only has to start it.
//!
//! Each volume or folder is filled beside, compared, swapped in and then stands, one after the other. A run that dies
//! or fails takes back only the one that it was at; the next run keeps those that stand and goes on with the rest.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `stores` | which volumes and folders come back, and from what |
//! | `plan` | what is going to be done; everything that can be known to fail fails there |
//! | `work` | a recovery at work |

mod plan;
mod stores;
mod work;

use super::Context;
use super::journal::Journal;
use super::lock::{Claim, release};
use super::plan::{Plan, execute};
use super::sources::SourceOptions;
use super::throwaway::Throwaways;
use crate::docker::lock::StackLock;
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::manifest::BackupId;
use crate::repository::{Backup, Entry, Repository};
use crate::stack::Stack;
use plan::{Planned, Planner};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use work::Work;

/// What to bring back, and from where.
#[derive(Debug)]
pub struct RecoverRequest {
    /// The repository.
    pub repository: Repository,
    /// The backup in it.
    pub entry: Entry,
    /// Other images than the backup's, by service.
    pub images: BTreeMap<String, String>,
    /// A file of `docker save` that is loaded first.
    pub load: Option<PathBuf>,
    /// Whether images that the engine lacks are pulled.
    pub pull: bool,
    /// Where the project's own files are written to.
    pub files_to: Option<PathBuf>,
    /// How long to wait for another run on the stack.
    pub wait: Option<Duration>,
    /// Make the plan and stop.
    pub dry_run: bool,
}

/// What became of it.
#[derive(Debug)]
pub struct RecoverReport {
    /// What was done, or would be.
    pub plan: Plan,
    /// Volumes and folders that were brought back.
    pub recovered: Vec<String>,
    /// Those that an earlier run of this recovery has brought back.
    pub kept: Vec<String>,
    /// What of the backup is not brought back, and what to do about it.
    pub left: Vec<Left>,
    /// What else to know.
    pub notes: Vec<String>,
    /// How long it took.
    pub duration: Duration,
}

/// A part of the backup that a recovery cannot bring back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// The artifacts.
    pub artifact: String,
    /// Why not.
    pub why: String,
    /// What to do instead.
    pub hint: String,
}

/// Brings a stack's volumes, folders and external networks back.
///
/// # Errors
/// Before anything is made: usage where the engine has the stack already, or something under the name of what would be
/// made; damaged and key as a restore; failed where an image is missing. Later: what a restore fails with; volumes that
/// were finished before stay, and the next run goes on after them.
pub async fn recover(
    context: &Context,
    request: RecoverRequest,
    observer: &dyn Observer,
) -> Result<RecoverReport> {
    let begun = Instant::now();
    let opened = async {
        let backup = request.repository.open_backup(&request.entry).await?;
        backup.check_keys(&backup.manifest().artifacts).await?;
        backup.check_folder()?;
        Ok(backup)
    };
    let backup = context.unless_cancelled(opened).await?;
    let stack = Stack {
        name: request.entry.stack.clone(),
        services: Vec::new(),
    };
    refuse_stack_that_is_there(context, &stack.name, &request.entry).await?;
    let run = context.new_id()?;
    let options = SourceOptions::default();
    let claim = Claim {
        stack: &stack,
        services: &[],
        options: &options,
        observer,
        run: &run,
        operation: "recover",
        wait: request.wait,
        dry_run: request.dry_run,
    };
    let lock = claim.take(context).await?;
    let recovering = Recovering {
        context,
        request: &request,
        stack: &stack,
        options: &options,
        backup: &backup,
        run: &run,
        observer,
    };
    let outcome = recovering.run(lock.as_ref()).await;
    release(lock, observer).await;
    let mut report = outcome?;
    report.duration = begun.elapsed();
    Ok(report)
}

/// What runs is not written over, and what was stopped may be wanted again.
async fn refuse_stack_that_is_there(context: &Context, stack: &str, entry: &Entry) -> Result<()> {
    let stacks = context.engine()?.containers().await?;
    let Some(found) = stacks.iter().find(|one| one.name == stack) else {
        return Ok(());
    };
    let names: Vec<&str> = found
        .services
        .iter()
        .map(|service| service.container_name.as_str())
        .collect();
    Err(Error::usage(format!(
        "stack {stack} is on this engine already: it has {}",
        names.join(", ")
    ))
    .hint(format!(
        "lifeboat restore {} --in-place replaces what it has; after docker compose down, recover makes the volumes that \
         are missing",
        entry.reference()
    )))
}

/// One recovery, its backup known.
struct Recovering<'a> {
    context: &'a Context,
    request: &'a RecoverRequest,
    stack: &'a Stack,
    options: &'a SourceOptions,
    backup: &'a Backup,
    run: &'a BackupId,
    observer: &'a dyn Observer,
}

impl Recovering<'_> {
    /// Makes the plan and, under a lock, carries it out.
    async fn run(&self, lock: Option<&StackLock>) -> Result<RecoverReport> {
        let read = async {
            let facts = self.backup.facts().await?;
            self.backup.restore_md().await?;
            Ok((facts, self.backup.stack_json().await?))
        };
        let (facts, described) = self.context.unless_cancelled(read).await?;
        let making = Planner {
            context: self.context,
            request: self.request,
            backup: self.backup,
            facts: &facts,
            described: &described,
            run: self.run,
            observer: self.observer,
        };
        let planned = self.context.unless_cancelled(making.make()).await?;
        let mut report = begin(&planned);
        let Some(lock) = lock else { return Ok(report) };
        self.observer.observe(&Event::RunStarted {
            operation: "recover",
            run: self.run.to_string(),
            stack: self.stack.name.clone(),
        });
        let throwaways = Throwaways {
            context: self.context,
            run: self.run,
            observer: self.observer,
        };
        let mut work = Work::new(self, &throwaways, planned, &facts, &described, lock);
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
        report.notes.append(&mut work.notes);
        drop(work);
        // However it ended: nothing that matters relies on dropping a future.
        if let Err(left) = throwaways.end().await {
            self.observer.observe(&Event::Warning {
                message: format!(
                    "not every container that was made for this could be removed, the next run tries again: {}",
                    left.chain()
                ),
            });
        }
        executed.map(|()| report)
    }
}

fn begin(planned: &Planned) -> RecoverReport {
    let stores = planned.stores.iter();
    RecoverReport {
        plan: planned.plan.clone(),
        recovered: stores.map(|store| store.place.to_string()).collect(),
        kept: planned.kept.iter().map(ToString::to_string).collect(),
        left: planned.left.clone(),
        notes: planned.notes.clone(),
        duration: Duration::ZERO,
    }
}
