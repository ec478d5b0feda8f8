//! Capturing a stack: every source streamed into one repository, committed as a whole or not at all.

use super::Context;
use super::capture::Run;
use super::fan_out::{Lanes, Stored, again};
use super::homes;
use super::hooks::{Around, presentable};
use super::inventory::{Inventory, Planned, inventory};
use super::journal::Journal;
use super::lock::{Claim, release};
use super::plan::{Plan, execute};
use super::sources::{SourcesByStack, find_stack, source_services};
use super::step::Step;
use crate::docker::lock::StackLock;
use crate::docker::quiesce::{Quiesced, Standstill};
use crate::error::{Error, OrFail, Result};
use crate::event::{Event, Observer};
use crate::manifest::{Commit, Facts};
use crate::repository::{Entry, Repository};
use crate::schedule::Hooks;
use crate::stack::{ArtifactName, Quiesce};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What to back up, and how.
#[derive(Debug)]
pub struct BackupRequest {
    /// The stack; without it, the one that there is.
    pub stack: Option<String>,
    /// Where to: to each of them.
    pub repositories: Vec<Repository>,
    /// Further ones, by address, that could not be opened, and why: the others are not kept from their backup.
    pub unreachable: Vec<(String, Error)>,
    /// Only these artifacts, by name or folder; empty for all.
    pub only: Vec<String>,
    /// Folders that are captured like volumes, besides the configuration's: `bind:/path`.
    pub include: Vec<String>,
    /// The sources' configuration.
    pub sources: SourcesByStack,
    /// The person's own marks.
    pub tags: BTreeMap<String, String>,
    /// Pin it at once.
    pub pin: bool,
    /// Commit what there is where an artifact fails; the backup is then partial.
    pub allow_partial: bool,
    /// zstd level of the stored bytes, 1 to 19; the configuration's, else 1, where it is not given.
    pub level: Option<u8>,
    /// How long to wait for another run on the stack; none to fail at once.
    pub wait: Option<Duration>,
    /// What is done to containers that write to volumes, where their own labels do not say.
    pub quiesce: Option<Quiesce>,
    /// What runs before and after it, besides what the containers' labels say.
    pub hooks: Hooks,
    /// Why it runs: `manual`, `guard`, a schedule's name.
    pub trigger: String,
    /// Print the plan and stop.
    pub dry_run: bool,
}

/// What became of it.
#[derive(Debug)]
pub enum BackupReport {
    /// What would be done.
    Planned(Plan),
    /// It exists.
    Done(Box<Finished>),
}

/// A backup that exists.
#[derive(Debug)]
pub struct Finished {
    /// Its commit.
    pub commit: Commit,
    /// Where it is, and where it was to be and is not, in the order of the request.
    pub repositories: Vec<Stored>,
    /// How long it took.
    pub duration: Duration,
    /// Where it is partial: what is missing, and why.
    pub missing: Vec<String>,
    /// The warnings, for the report's end.
    pub warnings: Vec<String>,
}

/// Backs up a stack.
///
/// # Errors
/// Busy where another run holds the stack; failed, with nothing listed and nothing left, where any
/// artifact (unless partial backups are allowed) or a hook before the backup failed; failed with the backup there,
/// as its message says, where a hook after it failed or not everything runs again.
pub async fn backup(
    context: &Context,
    request: BackupRequest,
    observer: &dyn Observer,
) -> Result<BackupReport> {
    let begun = Instant::now();
    let engine = context.engine()?;
    let stack = find_stack(engine, request.stack.as_deref()).await?;
    let id = context.new_id()?;
    let services = source_services(engine, &stack).await?;
    let mut options = request
        .sources
        .get(&stack.name)
        .cloned()
        .unwrap_or_default();
    options.include.extend(request.include.iter().cloned());
    let around = Around::of(&stack, &request.hooks, observer)?;
    let claim = Claim {
        stack: &stack,
        services: &services,
        options: &options,
        observer,
        run: &id,
        operation: "backup",
        wait: request.wait,
        dry_run: request.dry_run,
    };
    let lock = claim.take(context).await?;
    let outcome = under_lock(context, &request, &claim, around, lock.as_ref()).await;
    release(lock, observer).await;
    let mut report = outcome?;
    if let BackupReport::Done(finished) = &mut report {
        finished.duration = begun.elapsed();
    }
    Ok(report)
}

/// Backs a stack up whose lock is held; without one, plans it.
pub(super) async fn under_lock(
    context: &Context,
    request: &BackupRequest,
    claim: &Claim<'_>,
    around: Around,
    lock: Option<&StackLock>,
) -> Result<BackupReport> {
    let Claim {
        stack,
        run: id,
        observer,
        ..
    } = *claim;
    let Inventory {
        planned,
        missing,
        together,
        alone,
    } = context
        .unless_cancelled(inventory(context, request, claim, lock.is_some()))
        .await?;
    let (files, stores): (Vec<&Planned>, Vec<&Planned>) = planned
        .iter()
        .partition(|planned| planned.name == ArtifactName::Files);
    let (by_themselves, side_by_side): (Vec<&Planned>, Vec<&Planned>) =
        stores.into_iter().partition(|planned| planned.alone);
    let mut steps = around.before;
    steps.extend(quiesced(together, captures(&side_by_side)));
    steps.extend(quiesced(alone, captures(&by_themselves)));
    // They are of no moment that anything else would have to share.
    steps.extend(captures(&files));
    steps.extend(request.repositories.iter().map(|repository| Step::Commit {
        repository: repository.location().to_string(),
    }));
    steps.extend(around.after);
    let plan = Plan {
        operation: "backup".to_owned(),
        run: id.to_string(),
        stack: stack.name.clone(),
        steps,
    };
    let Some(lock) = lock else {
        let steps = plan.steps.into_iter().map(presentable).collect();
        return Ok(BackupReport::Planned(Plan { steps, ..plan }));
    };
    observer.observe(&Event::RunStarted {
        operation: "backup",
        run: id.to_string(),
        stack: stack.name.clone(),
    });
    let previous = previous_sizes(request.repositories.first(), &stack.name).await;
    let mut stack_json = context.engine()?.describe(stack).await?;
    homes::describe(&mut stack_json, claim.services, &planned);
    let lanes = Lanes::begin(&request.repositories, &stack.name, id).await?;
    let hidden = lanes
        .protection()
        .is_some_and(|protection| protection.hide_names && protection.recipients.is_some());
    let mut run = Run {
        context,
        request,
        options: claim.options,
        stack,
        stack_json,
        id,
        previous,
        names: match hidden {
            true => hidden_names(&planned)?,
            false => BTreeMap::new(),
        },
        sources: planned,
        lanes,
        observer,
        started: context.now(),
        sealed: Vec::new(),
        facts: Facts::default(),
        notes: Vec::new(),
        missing: Vec::new(),
        warnings: Vec::new(),
        ready: None,
        has_failed: false,
        afterwards: Vec::new(),
    };
    for reason in missing {
        run.lacks(reason);
    }
    let journal = Journal::begin(&context.state, &plan)?;
    execute(&plan, &mut run, journal, context, lock, observer).await?;
    if request.pin {
        for repository in run.lanes.holders() {
            let entry = repository.resolve(id.as_str(), Some(&stack.name)).await?;
            repository
                .pin(&entry, "backup --pin", context.now())
                .await?;
        }
    }
    run.check_afterwards()?;
    finished(run, request).map(|finished| BackupReport::Done(Box::new(finished)))
}

/// Who has the backup, and what is to be said about it.
fn finished(run: Run<'_>, request: &BackupRequest) -> Result<Finished> {
    let commit = run
        .lanes
        .committed()
        .cloned()
        .ok_or_else(|| Error::failed("the backup was not committed"))?;
    let mut repositories = run.lanes.into_report();
    repositories.extend(request.unreachable.iter().map(|(address, error)| Stored {
        repository: address.clone(),
        failed: Some(again(error)),
    }));
    Ok(Finished {
        commit,
        repositories,
        duration: Duration::ZERO,
        missing: run.missing,
        warnings: run.warnings,
    })
}

/// A name that says nothing for every database, volume and folder.
fn hidden_names(planned: &[Planned]) -> Result<BTreeMap<ArtifactName, ArtifactName>> {
    let mut names = BTreeMap::new();
    for one in planned {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).or_fail(|| "the system gives no random bytes")?;
        let hidden = one.name.hidden(&random);
        if hidden != one.name {
            names.insert(one.name.clone(), hidden);
        }
    }
    Ok(names)
}

/// Steps between stopping containers and starting them again.
fn quiesced(containers: Vec<Quiesced>, steps: Vec<Step>) -> Vec<Step> {
    if containers.is_empty() {
        return steps;
    }
    let standstill = Standstill::of(containers);
    let mut around = vec![Step::Quiesce {
        standstill: standstill.clone(),
    }];
    around.extend(steps);
    around.push(Step::Resume { standstill });
    around
}

/// What captures the sources: all at once where they are of several services, so that their moments are close
/// together.
fn captures(sources: &[&Planned]) -> Vec<Step> {
    if sources.is_empty() {
        return Vec::new();
    }
    let names = sources.iter().map(|source| source.name.clone());
    let first = sources.first().and_then(|source| source.name.service());
    if sources.iter().all(|source| source.name.service() == first) {
        return names.map(|artifact| Step::Capture { artifact }).collect();
    }
    vec![Step::CaptureTogether {
        artifacts: names.collect(),
    }]
}

/// The sizes of the newest complete backup's artifacts, plain and stored. A hint for warnings and
/// progress bars only.
async fn previous_sizes(
    repository: Option<&Repository>,
    stack: &str,
) -> BTreeMap<ArtifactName, (u64, u64)> {
    let Some(repository) = repository else {
        return BTreeMap::new();
    };
    let Ok(entries) = repository.list(stack).await else {
        return BTreeMap::new();
    };
    let complete = |entry: &&Entry| entry.commit.as_ref().is_some_and(|commit| commit.complete);
    let Some(entry) = entries.iter().find(complete) else {
        return BTreeMap::new();
    };
    let Ok(backup) = repository.open_backup(entry).await else {
        return BTreeMap::new();
    };
    let artifacts = backup.manifest().artifacts.iter();
    artifacts
        .map(|artifact| {
            let sizes = (artifact.raw_size, artifact.stored_size);
            (artifact.name.clone(), sizes)
        })
        .collect()
}
