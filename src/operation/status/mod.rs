//! Who is safe: what there is on the engine, what the repositories have of it, and what schedules promise.
//!
//! | file | what it answers |
//! | --- | --- |
//! | `present` | what holds data |
//! | `kept` | what the repositories hold |
//! | `coverage` | which backup protects an artifact: pure |
//! | `judge` | who is protected: pure |
//! | `problems` | what is wrong, and what to do: pure |
//! | `report` | what is said of it |
//!
//! Nothing is changed, and nothing that fails keeps the rest from being shown.

mod coverage;
mod judge;
mod kept;
mod present;
mod problems;
mod report;
#[cfg(test)]
mod tests;

pub use judge::PlannedSchedule;
pub use kept::RepositoryAsked;
pub use report::{
    BackupSeen, Growth, Late, NextRun, Problem, ProofSeen, RepositoryStatus, ScheduleStatus,
    Severity, SourceStatus, StackStatus, State, Status,
};

use super::Context;
use super::runs;
use super::sources::SourcesByStack;
use crate::docker::Engine;
use crate::error::{Error, Kind, Result, nearest};
use futures_util::future::join_all;
use judge::{Judge, Planned, judge};
use kept::Kept;
use present::{Loose, Present, Wanted};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What to look at.
#[derive(Debug)]
pub struct StatusRequest {
    /// Only this stack; everything without.
    pub stack: Option<String>,
    /// What connecting to the engine gave.
    pub engine: Result<Engine>,
    /// Where backups are looked for.
    pub repositories: Vec<RepositoryAsked>,
    /// Every schedule.
    pub schedules: Vec<PlannedSchedule>,
    /// What the configuration says about sources, by stack.
    pub sources: SourcesByStack,
    /// What the newest backup of everything must not be older than.
    pub max_age: Option<Duration>,
    /// Problems that the caller has found: files that cannot be read.
    pub before: Vec<Problem>,
}

/// Looks at everything.
///
/// # Errors
/// Usage where the stack that is asked for is neither on the engine nor in a repository nor in a schedule;
/// interrupted. Whatever cannot be reached is a [`Problem`].
pub async fn status(context: &Context, request: StatusRequest) -> Result<Status> {
    let now = context.now();
    let mut problems = request.before;
    let asked = request.repositories.into_iter();
    let listing = join_all(asked.map(|asked| kept::look(asked, now)));
    let include = included(&request.schedules);
    let wanted = Wanted {
        sources: &request.sources,
        include: &include,
    };
    let only = request.stack.as_deref();
    let looking = async {
        let engine = request.engine?;
        let context = Context {
            engine: Some(engine),
            ..context.clone()
        };
        present::look(&context, &wanted, only).await
    };
    let both = async { Ok(tokio::join!(listing, looking)) };
    let (kept, found) = context.unless_cancelled(both).await?;
    let (present, loose) = match found {
        Ok((present, loose)) => (Some(present), loose),
        Err(error) if error.kind() == Kind::Interrupted => return Err(error),
        Err(error) => {
            problems.push(Problem::unknown("the engine could not be asked", &error));
            (None, Loose::new())
        }
    };
    problems.extend(kept.iter().filter_map(unreachable));
    let world = World {
        context,
        present,
        kept,
        schedules: request.schedules,
        max_age: request.max_age,
    };
    if let Some(stack) = only {
        world.check_known(stack, &problems)?;
    }
    let shown = world.shown(only);
    let mut stacks = Vec::new();
    for stack in &shown {
        let (status, found) = world.judge(stack);
        stacks.push(status);
        problems.extend(found);
    }
    problems.sort_by_key(|problem| problem.severity);
    Ok(Status {
        at: now,
        problems,
        loose: match only {
            None => world.loose(loose),
            Some(_) => Vec::new(),
        },
        elsewhere: match only {
            None => world.elsewhere(&shown),
            Some(_) => Vec::new(),
        },
        repositories: world
            .kept
            .iter()
            .map(|kept| kept.status(|stack| shown.contains(stack), now))
            .collect(),
        stacks,
    })
}

/// The folders that schedules take besides the configuration's, by stack.
fn included(schedules: &[PlannedSchedule]) -> BTreeMap<String, BTreeSet<String>> {
    let mut include: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for PlannedSchedule { schedule, .. } in schedules {
        let folders = include.entry(schedule.stack.clone()).or_default();
        folders.extend(schedule.include.iter().cloned());
    }
    include
}

/// What is said where a repository cannot be read.
fn unreachable(kept: &Kept) -> Option<Problem> {
    let error = kept.error.as_ref()?;
    let what = match kept.is_known() {
        true => "there are no backups",
        false => "its backups are not known",
    };
    let mut problem = Problem::unknown(&format!("repository {}: {what}", kept.name), error);
    // What follows from an empty one is told by whatever it does not hold.
    if kept.is_known() || !kept.needed {
        problem.severity = Severity::Warning;
    }
    Some(problem)
}

/// Everything that was found.
struct World<'a> {
    context: &'a Context,
    /// The stacks of the engine; `None` where it could not be asked.
    present: Option<BTreeMap<String, Present>>,
    kept: Vec<Kept>,
    schedules: Vec<PlannedSchedule>,
    max_age: Option<Duration>,
}

impl World<'_> {
    fn present(&self, stack: &str) -> Option<&Present> {
        self.present.as_ref()?.get(stack)
    }

    fn is_scheduled(&self, stack: &str) -> bool {
        self.schedules
            .iter()
            .any(|planned| planned.schedule.stack == stack)
    }

    /// The stacks that have backups.
    fn backed_up(&self) -> BTreeSet<&str> {
        let stacks = self.kept.iter().flat_map(|kept| kept.stacks.keys());
        stacks.map(String::as_str).collect()
    }

    /// The stacks that are judged: those that hold something, and those that a schedule is for.
    fn shown(&self, only: Option<&str>) -> BTreeSet<String> {
        if let Some(only) = only {
            return BTreeSet::from([only.to_owned()]);
        }
        let holding = self.present.iter().flatten();
        let holding = holding
            .filter(|(_, present)| !present.sources.is_empty())
            .map(|(stack, _)| stack.clone());
        let scheduled = self
            .schedules
            .iter()
            .map(|planned| planned.schedule.stack.clone());
        let mut shown: BTreeSet<String> = holding.chain(scheduled).collect();
        if self.present.is_none() {
            // What has backups is all that is known.
            shown.extend(self.backed_up().into_iter().map(str::to_owned));
        }
        shown
    }

    fn elsewhere(&self, shown: &BTreeSet<String>) -> Vec<String> {
        let stacks = self.backed_up().into_iter();
        stacks
            .filter(|stack| !shown.contains(*stack))
            .map(str::to_owned)
            .collect()
    }

    /// Whether a stack that was asked for is anywhere.
    fn check_known(&self, stack: &str, problems: &[Problem]) -> Result<()> {
        let on_engine: Vec<&str> = self
            .present
            .iter()
            .flatten()
            .map(|(stack, _)| stack.as_str())
            .collect();
        let known = on_engine.contains(&stack)
            || self.is_scheduled(stack)
            || self.backed_up().contains(stack);
        let may_be_there = self.present.is_none() || !self.kept.iter().all(Kept::is_known);
        if known || may_be_there && !problems.is_empty() {
            return Ok(());
        }
        let names = on_engine.into_iter().chain(self.backed_up());
        let near = nearest(stack, names.collect::<BTreeSet<&str>>()).join(" or ");
        let error = Error::usage(format!(
            "there is no stack {stack:?}: not on the engine, in no repository and in no schedule"
        ));
        Err(match near.is_empty() {
            true => error.hint("lifeboat status shows all that there are"),
            false => error.hint(format!("did you mean {near}?")),
        })
    }

    fn judge(&self, stack: &str) -> (StackStatus, Vec<Problem>) {
        let own = self.schedules.iter();
        let schedules = own
            .filter(|planned| planned.schedule.stack == stack)
            .map(|planned| Planned {
                planned,
                last_run: runs::last(&self.context.state, &planned.schedule.name)
                    .filter(|run| run.stack == stack),
            });
        judge(&Judge {
            stack,
            present: self.present(stack),
            engine_known: self.present.is_some(),
            schedules: schedules.collect(),
            kept: &self.kept,
            max_age: self.max_age,
            now: self.context.now(),
        })
    }

    /// Volumes of no stack, which need no backup unless they have one.
    fn loose(&self, sources: Loose) -> Vec<SourceStatus> {
        let sources = sources.into_iter().map(|mut source| {
            source.role = match source.role {
                present::Role::Kept => present::Role::Optional,
                other => other,
            };
            source
        });
        let present = Present {
            sources: sources.collect(),
            problems: Vec::new(),
        };
        let (status, _) = judge(&Judge {
            stack: "",
            present: Some(&present),
            engine_known: true,
            schedules: Vec::new(),
            kept: &self.kept,
            max_age: None,
            now: self.context.now(),
        });
        status.sources
    }
}
