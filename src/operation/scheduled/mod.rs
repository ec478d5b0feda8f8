//! What a schedule does: the backup, then what its rules no longer keep; and the drill. However a run ends there is a
//! summary of it, for notifications, metrics and `status`.

mod drill;
mod retention;

pub use drill::{ScheduledDrill, drill};
pub use retention::{Retention, prune};

use super::Context;
use super::backup::{BackupReport, BackupRequest, Finished, backup};
use super::plan::Plan;
use super::sources::SourcesByStack;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer, Outcome, RepositoryOutcome, RunSummary};
use crate::repository::Repository;
use crate::schedule::Schedule;
use chrono::{DateTime, Utc};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What a schedule's run needs besides its schedule.
#[derive(Debug)]
pub struct ScheduledRequest<'a> {
    /// The schedule.
    pub schedule: &'a Schedule,
    /// Engine, repositories and configuration; or why they cannot be had.
    pub ready: Result<Ready>,
    /// How long to wait for another run on the stack; none to fail at once.
    pub wait: Option<Duration>,
    /// How the run before it ended.
    pub previous: Option<Outcome>,
}

/// What is there before a run begins.
#[derive(Debug)]
pub struct Ready {
    /// Clock, engine and state.
    pub context: Context,
    /// Repositories that are open; one at least.
    pub repositories: Vec<Repository>,
    /// Further ones, by address, that could not be opened, and why.
    pub unreachable: Vec<(String, Error)>,
    /// The sources' configuration.
    pub sources: SourcesByStack,
}

/// Runs a schedule once. Says `RunFinished` to the observer, and returns the same.
pub async fn run(
    request: ScheduledRequest<'_>,
    clock: fn() -> DateTime<Utc>,
    observer: &dyn Observer,
) -> RunSummary {
    let remembering = Remembering::new(observer);
    let started = clock();
    let (schedule, previous) = (request.schedule, request.previous);
    let outcome = attempt(request, &remembering).await;
    let mut summary = RunSummary {
        backup: remembering.run(),
        warnings: remembering.warnings(),
        seconds: seconds_between(started, clock()),
        ..blank("backup", schedule, previous, started)
    };
    match outcome {
        Ok(finished) => tell(&mut summary, &finished),
        Err(error) => blame(&mut summary, &error),
    }
    observer.observe(&Event::RunFinished(Box::new(summary.clone())));
    summary
}

/// The summary of a run that succeeded and has nothing to tell.
fn blank(
    operation: &str,
    schedule: &Schedule,
    previous: Option<Outcome>,
    started: DateTime<Utc>,
) -> RunSummary {
    RunSummary {
        operation: operation.to_owned(),
        stack: schedule.stack.clone(),
        schedule: Some(schedule.name.clone()),
        backup: None,
        outcome: Outcome::Succeeded,
        previous,
        started,
        seconds: 0.0,
        raw_size: 0,
        stored_size: 0,
        repositories: Vec::new(),
        warnings: Vec::new(),
        error: None,
        hint: None,
        code: 0,
    }
}

/// What a run would do.
pub async fn plan(request: ScheduledRequest<'_>, observer: &dyn Observer) -> Result<Plan> {
    match back_up(request, true, observer).await? {
        BackupReport::Planned(plan) => Ok(plan),
        BackupReport::Done(_) => Err(Error::failed("what was to be planned was done")),
    }
}

async fn attempt(request: ScheduledRequest<'_>, observer: &dyn Observer) -> Result<Box<Finished>> {
    match back_up(request, false, observer).await? {
        BackupReport::Done(finished) => Ok(finished),
        BackupReport::Planned(_) => Err(Error::failed("the backup was only planned")),
    }
}

async fn back_up(
    request: ScheduledRequest<'_>,
    dry_run: bool,
    observer: &dyn Observer,
) -> Result<BackupReport> {
    let schedule = request.schedule;
    let Ready {
        context,
        repositories,
        unreachable,
        sources,
    } = request.ready?;
    let backup_request = BackupRequest {
        stack: Some(schedule.stack.clone()),
        repositories,
        unreachable,
        only: schedule.only.clone(),
        include: schedule.include.clone(),
        sources,
        tags: schedule.tags.clone(),
        pin: schedule.pin,
        allow_partial: schedule.allow_partial,
        level: None,
        wait: request.wait,
        quiesce: schedule.quiesce,
        hooks: schedule.hooks.clone(),
        trigger: schedule.name.clone(),
        dry_run,
    };
    backup(&context, backup_request, observer).await
}

/// What the summary says of a backup that exists somewhere.
fn tell(summary: &mut RunSummary, finished: &Finished) {
    let commit = &finished.commit;
    summary.backup = Some(commit.backup.to_string());
    summary.raw_size = commit.raw_size;
    summary.stored_size = commit.stored_size;
    summary.repositories = finished
        .repositories
        .iter()
        .map(|stored| RepositoryOutcome {
            repository: stored.repository.clone(),
            failed: stored.failed.as_ref().map(Error::chain),
        })
        .collect();
    let without: Vec<String> = summary
        .repositories
        .iter()
        .filter_map(|one| Some(format!("{}: {}", one.repository, one.failed.as_ref()?)))
        .collect();
    if !commit.complete {
        summary.outcome = Outcome::Partial;
        summary.code = Kind::Partial.exit_code();
        summary.error = Some(format!("not captured: {}", finished.missing.join("; ")));
    }
    if !without.is_empty() {
        summary.outcome = Outcome::Partial;
        // As `lifeboat backup` ends where one of several repositories failed.
        summary.code = Kind::Failed.exit_code();
        summary.error = Some(format!("not stored in {}", without.join("; ")));
        summary.hint = Some(format!(
            "lifeboat copy {}/{} --to R brings it there",
            commit.stack, commit.backup
        ));
    }
}

/// What the summary says of a run that made nothing.
fn blame(summary: &mut RunSummary, error: &Error) {
    summary.outcome = Outcome::Failed;
    summary.error = Some(error.chain());
    summary.hint = error.hint_text().map(str::to_owned);
    summary.code = error.kind().exit_code();
}

/// Seconds from one time to another; 0 where the clock was set back.
fn seconds_between(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).to_std().unwrap_or_default().as_secs_f64()
}

/// Keeps what a summary tells of a run, and passes everything on.
struct Remembering<'a> {
    observer: &'a dyn Observer,
    warnings: Mutex<Vec<String>>,
    run: Mutex<Option<String>>,
}

impl<'a> Remembering<'a> {
    fn new(observer: &'a dyn Observer) -> Self {
        Self {
            observer,
            warnings: Mutex::default(),
            run: Mutex::default(),
        }
    }

    fn run(&self) -> Option<String> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.clone()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *warnings)
    }
}

impl Observer for Remembering<'_> {
    fn observe(&self, event: &Event) {
        match event {
            Event::Warning { message } => {
                let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
                warnings.push(message.clone());
            }
            Event::RunStarted { run, .. } => {
                let mut started = self.run.lock().unwrap_or_else(PoisonError::into_inner);
                *started = Some(run.clone());
            }
            _ => {}
        }
        self.observer.observe(event);
    }
}
