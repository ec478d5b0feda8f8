//! What is removed after a schedule's run.

use super::{blame, blank, seconds_between};
use crate::error::{Kind, Result};
use crate::event::{Event, Observer, Outcome, RunSummary};
use crate::operation::Context;
use crate::operation::fan_out::again;
use crate::operation::prune::PruneRequest;
use crate::schedule::Schedule;
use chrono::{DateTime, Utc};

/// What is to be pruned after a run.
#[derive(Debug)]
pub struct Retention<'a> {
    /// The schedule that ran.
    pub schedule: &'a Schedule,
    /// Clock and state.
    pub context: Context,
    /// One for each repository; or why they cannot be had.
    pub requests: Result<Vec<PruneRequest>>,
    /// How the prune before it ended.
    pub previous: Option<Outcome>,
}

/// Removes what no schedule keeps any more, and asks nobody. The summary, also said to the observer, is of a prune that
/// failed, or of the first that succeeded after one: others are no news. One that finds a repository in use leaves it
/// to the next run.
pub async fn prune(
    retention: Retention<'_>,
    clock: fn() -> DateTime<Utc>,
    observer: &dyn Observer,
) -> Option<RunSummary> {
    let started = clock();
    let failed = prune_all(&retention, observer).await.err();
    let mut summary = blank("prune", retention.schedule, retention.previous, started);
    summary.seconds = seconds_between(started, clock());
    match &failed {
        Some(error) => blame(&mut summary, error),
        None if retention
            .previous
            .is_none_or(|last| last == Outcome::Succeeded) =>
        {
            return None;
        }
        None => {}
    }
    observer.observe(&Event::RunFinished(Box::new(summary.clone())));
    Some(summary)
}

/// Prunes each repository; one that fails does not keep the others from it.
async fn prune_all(retention: &Retention<'_>, observer: &dyn Observer) -> Result<()> {
    let requests = match &retention.requests {
        Ok(requests) => requests,
        Err(error) => return Err(again(error).while_doing("what is kept is not known")),
    };
    let mut failed = None;
    for request in requests {
        let location = request.repository.location();
        match crate::operation::prune::prune(&retention.context, request, observer).await {
            Ok(report) => observer.observe(&Event::Detail {
                message: format!(
                    "retention in {location}: {} removed, {} kept",
                    report.removed.len(),
                    report.kept
                ),
            }),
            Err(error) if error.kind() == Kind::Busy => observer.observe(&Event::Warning {
                message: format!(
                    "{location} is in use: what is kept there is decided after the next run"
                ),
            }),
            Err(error) => {
                failed = failed.or(Some(error.while_doing(format!("cannot prune {location}"))));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}
