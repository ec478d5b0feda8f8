//! What is removed after a schedule's run.

use super::{blame, blank, seconds_between};
use crate::error::{Kind, Result};
use crate::event::{Event, Observer, Outcome, RunSummary};
use crate::operation::Context;
use crate::operation::fan_out::again;
use crate::operation::prune::{PruneReport, PruneRequest, prune as prune_one};
use crate::schedule::Schedule;
use chrono::{DateTime, Utc};
use std::time::Duration;
use tokio::time::Instant;

/// How long a prune waits for a repository that is in use; after that nobody would notice that it never happens.
const PATIENCE: Duration = Duration::from_mins(30);
/// How often it looks again.
const POLL: Duration = Duration::from_secs(5);

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
/// failed, or of the first that succeeded after one: others are no news.
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

/// Prunes a repository as soon as nobody uses it: other stacks may write to it for a while.
async fn patiently(
    context: &Context,
    request: &PruneRequest,
    observer: &dyn Observer,
) -> Result<PruneReport> {
    let until = Instant::now() + PATIENCE;
    loop {
        match prune_one(context, request, observer).await {
            Err(error) if error.kind() == Kind::Busy && Instant::now() < until => {
                let pause = async {
                    tokio::time::sleep(POLL).await;
                    Ok(())
                };
                context.unless_cancelled(pause).await?;
            }
            result => return result,
        }
    }
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
        match patiently(&retention.context, request, observer).await {
            Ok(report) => observer.observe(&Event::Detail {
                message: format!(
                    "retention in {location}: {} removed, {} kept",
                    report.removed.len(),
                    report.kept
                ),
            }),
            Err(error) => {
                failed = failed.or(Some(error.while_doing(format!("cannot prune {location}"))));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}
