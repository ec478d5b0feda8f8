//! Removing what a plan says, and nothing else.

use super::plan::{Tags, check_future, decided};
use super::{Left, Planned, PrunePlan, PruneReport, StackPlan};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer};
use crate::operation::Context;
use crate::repository::{Deletion, Entry, Maintenance, Repository};
use std::collections::BTreeMap;

/// Removes the backups that the plan removes, and what was left behind over a day ago.
///
/// Writers and readers are kept away meanwhile. By then the world may have changed since the plan: what is pinned now,
/// or kept now by a rule, is spared, and a backup that the plan does not know is not touched.
///
/// # Errors
/// Busy where a backup is being written or read; what the store said, with how many were removed before; interrupted
/// between two backups.
pub async fn apply(
    context: &Context,
    repository: &Repository,
    plan: &PrunePlan,
    observer: &dyn Observer,
) -> Result<PruneReport> {
    let mut report = PruneReport {
        kept: plan.kept(),
        ..PruneReport::default()
    };
    let removals = plan.removals().count();
    let maintenance = match repository.maintain().await {
        Ok(maintenance) => maintenance,
        Err(error) if error.kind() == Kind::Busy && removals == 0 => {
            observer.observe(&Event::Warning {
                message: format!("leftovers were not looked for: {}", error.chain()),
            });
            return Ok(report);
        }
        Err(error) => return Err(error.while_doing("nothing was removed")),
    };
    let work = async {
        for stack in &plan.stacks {
            remove_from(
                context,
                repository,
                &maintenance,
                (plan, stack),
                &mut report,
                observer,
            )
            .await?;
        }
        context.unless_cancelled(maintenance.sweep()).await
    };
    let swept = work.await;
    maintenance.release().await;
    match swept {
        Ok(swept) => report.swept = swept,
        Err(error) => {
            let removed = report.removed.len();
            return Err(error.while_doing(format!("{removed} of {removals} backups were removed")));
        }
    }
    Ok(report)
}

/// Removes what goes of one stack.
async fn remove_from(
    context: &Context,
    repository: &Repository,
    maintenance: &Maintenance,
    (plan, stack): (&PrunePlan, &StackPlan),
    report: &mut PruneReport,
    observer: &dyn Observer,
) -> Result<()> {
    if stack.removals().next().is_none() {
        return Ok(());
    }
    let listed = context
        .unless_cancelled(repository.list(&stack.stack))
        .await?;
    check_future(repository, &listed, context.now())?;
    let tags: Tags = stack
        .backups
        .iter()
        .filter_map(|one| Some((one.entry.id.to_string(), one.tags.clone()?)))
        .collect();
    let mut decisions = decided(&listed, &tags, &stack.policies, plan.now);
    let present: BTreeMap<&str, &Entry> = listed
        .iter()
        .map(|entry| (entry.id.as_str(), entry))
        .collect();
    for planned in stack.removals() {
        if context.cancel.is_cancelled() {
            return Err(Error::interrupted());
        }
        let id = planned.entry.id.as_str();
        let decision = decisions.remove(id);
        let (Some(entry), Some(decision)) = (present.get(id), decision) else {
            spare(report, planned, "it is gone already");
            continue;
        };
        if decision.keep {
            spare(report, planned, &decision.reasons.join(", "));
            continue;
        }
        remove(maintenance, entry, report, observer).await?;
    }
    Ok(())
}

fn spare(report: &mut PruneReport, planned: &Planned, reason: &str) {
    report.spared.push(Left {
        backup: planned.entry.reference(),
        reason: reason.to_owned(),
    });
}

async fn remove(
    maintenance: &Maintenance,
    entry: &Entry,
    report: &mut PruneReport,
    observer: &dyn Observer,
) -> Result<()> {
    let backup = entry.reference();
    observer.observe(&Event::StepStarted {
        step: format!("remove {backup}"),
    });
    let deleted = maintenance
        .delete(entry)
        .await
        .map_err(|error| error.while_doing(format!("cannot remove {backup}")))?;
    let reason = match deleted {
        Deletion::Done => {
            report.freed += entry.commit.as_ref().map_or(0, |commit| commit.stored_size);
            report.removed.push(backup);
            return Ok(());
        }
        Deletion::Retained => "the store does not let it go, it is listed as before",
        Deletion::Remains => "it is listed no more, and the store keeps a part of it",
    };
    observer.observe(&Event::Warning {
        message: format!("{backup}: {reason}"),
    });
    report.retained.push(Left {
        backup,
        reason: reason.to_owned(),
    });
    Ok(())
}
