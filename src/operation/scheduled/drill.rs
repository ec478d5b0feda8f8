//! A schedule's drill: one of its backups restored for proof.

use super::{Ready, Remembering, blame, blank, seconds_between};
use crate::error::{Error, Result};
use crate::event::{Event, Observer, Outcome, RunSummary};
use crate::operation::drill::{DrillReport, DrillRequest};
use crate::operation::pick::pick;
use crate::schedule::{Drill, Schedule};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// What a schedule's drill needs besides its schedule.
#[derive(Debug)]
pub struct ScheduledDrill<'a> {
    /// The schedule.
    pub schedule: &'a Schedule,
    /// Engine and repositories; or why they cannot be had.
    pub ready: Result<Ready>,
    /// How the drill before it ended.
    pub previous: Option<Outcome>,
}

/// Proves one of a schedule's backups, from the first of its repositories that can be reached. Says `RunFinished` to
/// the observer, and returns the same.
pub async fn drill(
    request: ScheduledDrill<'_>,
    clock: fn() -> DateTime<Utc>,
    observer: &dyn Observer,
) -> RunSummary {
    let remembering = Remembering::new(observer);
    let started = clock();
    let (schedule, previous) = (request.schedule, request.previous);
    let outcome = attempt(request, &remembering).await;
    let mut summary = RunSummary {
        warnings: remembering.warnings(),
        seconds: seconds_between(started, clock()),
        ..blank("drill", schedule, previous, started)
    };
    let proven = outcome.and_then(|report| {
        tell(&mut summary, &report);
        report.verdict()
    });
    if let Err(error) = proven {
        blame(&mut summary, &error);
    }
    observer.observe(&Event::RunFinished(Box::new(summary.clone())));
    summary
}

async fn attempt(request: ScheduledDrill<'_>, observer: &dyn Observer) -> Result<DrillReport> {
    let schedule = request.schedule;
    let Some(Drill { backup, checks, .. }) = &schedule.drill else {
        return Err(Error::usage(format!(
            "the schedule {} has no [drill]",
            schedule.name
        )));
    };
    let ready = request.ready?;
    let mut repositories = ready.repositories.into_iter();
    let repository = repositories
        .next()
        .ok_or_else(|| Error::failed("there is no repository to drill from"))?;
    let entry = pick(&repository, Some(&schedule.stack), *backup).await?;
    let request = DrillRequest {
        repository,
        entry,
        images: BTreeMap::new(),
        checks: checks.clone(),
        dry_run: false,
    };
    crate::operation::drill::drill(&ready.context, request, observer).await
}

/// What the summary says of a drill that ran to its end.
fn tell(summary: &mut RunSummary, report: &DrillReport) {
    summary.backup = Some(report.backup.to_string());
    let artifacts = &report.artifacts;
    summary.raw_size = artifacts.iter().map(|one| one.raw_size).sum();
    summary.stored_size = artifacts.iter().map(|one| one.stored_size).sum();
}
