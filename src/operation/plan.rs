//! What a run is going to do, as values: printed by `--dry-run`, run by one executor, kept in a journal.

use super::Context;
use super::journal::Journal;
use super::step::Step;
use crate::docker::lock::StackLock;
use crate::error::Result;
use crate::event::{Event, Observer};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Everything that one run does, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The operation, as its command is called.
    pub operation: String,
    /// The run's id.
    pub run: String,
    /// The stack.
    pub stack: String,
    /// The steps.
    pub steps: Vec<Step>,
}

/// What would be done, a line a step.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps
            .iter()
            .try_for_each(|step| writeln!(f, "would {step}"))
    }
}

/// Performs the steps of one operation.
pub(super) trait Executor {
    /// Does a step.
    async fn perform(&mut self, step: &Step) -> Result<()>;
    /// Takes back what a step made. Called for steps that were begun, last first, when a later one failed.
    async fn undo(&mut self, step: &Step) -> Result<()>;
    /// Called once where a step failed, after those that were begun were undone and before those that are always
    /// taken.
    async fn failed(&mut self) {}
}

/// Runs `plan` step by step, journalled, for as long as `lock` is held; where a step fails, undoes
/// those that were begun, and takes those that are always taken.
pub(super) async fn execute(
    plan: &Plan,
    executor: &mut impl Executor,
    mut journal: Journal,
    context: &Context,
    lock: &StackLock,
    observer: &dyn Observer,
) -> Result<()> {
    for (index, step) in plan.steps.iter().enumerate() {
        observer.observe(&Event::StepStarted {
            step: step.to_string(),
        });
        journal.started(index)?;
        let Err(error) = perform(step, executor, context, lock).await else {
            journal.done(index)?;
            continue;
        };
        for begun in plan.steps[..=index].iter().rev() {
            if let Err(left) = executor.undo(begun).await {
                observer.observe(&Event::Warning {
                    message: format!(
                        "could not undo \"{begun}\": {}; the next run tries again",
                        left.chain()
                    ),
                });
            }
        }
        executor.failed().await;
        conclude(plan, index + 1, executor, &mut journal, observer).await?;
        journal.ended(Some(&error.chain()))?;
        return Err(error);
    }
    journal.ended(None)
}

/// Performs one step, as long as the run is to go on. A hook sees for itself to its end where the run is
/// interrupted.
async fn perform(
    step: &Step,
    executor: &mut impl Executor,
    context: &Context,
    lock: &StackLock,
) -> Result<()> {
    if matches!(step, Step::RunHook { .. }) {
        return executor.perform(step).await;
    }
    let performed = context.unless_cancelled(async {
        tokio::select! {
            biased;
            lost = lock.lost() => Err(lost),
            performed = executor.perform(step) => performed,
        }
    });
    performed.await
}

/// After a failure: takes the steps from `from` on that are taken in any case.
async fn conclude(
    plan: &Plan,
    from: usize,
    executor: &mut impl Executor,
    journal: &mut Journal,
    observer: &dyn Observer,
) -> Result<()> {
    let rest = plan.steps.iter().enumerate().skip(from);
    for (index, step) in rest.filter(|(_, step)| step.is_always_taken()) {
        observer.observe(&Event::StepStarted {
            step: step.to_string(),
        });
        journal.started(index)?;
        if let Err(left) = executor.perform(step).await {
            observer.observe(&Event::Warning {
                message: left.chain(),
            });
        }
        journal.done(index)?;
    }
    Ok(())
}
