//! Retention: which backups go, and removing exactly those.
//!
//! [`plan`] decides and changes nothing, [`apply`] does what a plan says, [`prune`] is one after the other, for runs that
//! ask nobody.

mod apply;
mod plan;

pub use apply::apply;
pub use plan::plan;

use super::Context;
use crate::error::Result;
use crate::event::Observer;
use crate::repository::{Entry, Repository};
use crate::schedule::{Decision, Policies, Policy};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeMap;

/// What to prune.
#[derive(Debug)]
pub struct PruneRequest {
    /// The repository.
    pub repository: Repository,
    /// Only this stack.
    pub stack: Option<String>,
    /// What is kept of each stack: of one that has no policy, everything.
    pub policies: Policies,
    /// Whether it is only to be said what would go.
    pub dry_run: bool,
}

/// What becomes of each backup of a repository.
#[derive(Debug, Clone)]
pub struct PrunePlan {
    /// When it was made: ages count from here.
    pub now: DateTime<Utc>,
    /// Each stack that was looked at.
    pub stacks: Vec<StackPlan>,
}

/// What becomes of each backup of a stack.
#[derive(Debug, Clone)]
pub struct StackPlan {
    /// The stack.
    pub stack: String,
    /// What was decided by; where there is none, everything is kept.
    pub policies: Vec<Policy>,
    /// Its backups, newest first.
    pub backups: Vec<Planned>,
}

/// What becomes of one backup.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The backup.
    pub entry: Entry,
    /// Whether it stays, and why.
    pub decision: Decision,
    /// Its tags, where they had to be known.
    tags: Option<BTreeMap<String, String>>,
}

impl PrunePlan {
    /// The backups that go.
    pub fn removals(&self) -> impl Iterator<Item = &Planned> {
        self.stacks.iter().flat_map(StackPlan::removals)
    }

    /// How many stay.
    pub fn kept(&self) -> usize {
        let backups: usize = self.stacks.iter().map(|stack| stack.backups.len()).sum();
        backups - self.removals().count()
    }
}

impl StackPlan {
    /// The backups of it that go.
    pub fn removals(&self) -> impl Iterator<Item = &Planned> {
        self.backups.iter().filter(|one| !one.decision.keep)
    }
}

/// What a prune did.
#[derive(Debug, Clone, Default)]
pub struct PruneReport {
    /// The backups that are gone, as `STACK/ID`.
    pub removed: Vec<String>,
    /// Those that the store keeps, all of them or a part, and how.
    pub retained: Vec<Left>,
    /// Those that the plan removes and that were left alone all the same, and why.
    pub spared: Vec<Left>,
    /// How many stay because the plan says so.
    pub kept: usize,
    /// Stored bytes of the artifacts of those that are gone.
    pub freed: u64,
    /// The keys of what was begun over a day ago and never committed, and is gone now.
    pub swept: Vec<String>,
}

/// A backup that is not removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// The backup, as `STACK/ID`.
    pub backup: String,
    /// Why.
    pub reason: String,
}

/// Plans, and does what the plan says unless it is a dry run.
///
/// # Errors
/// As [`plan`] and [`apply`].
pub async fn prune(
    context: &Context,
    request: &PruneRequest,
    observer: &dyn Observer,
) -> Result<PruneReport> {
    let plan = plan(context, request, observer).await?;
    match request.dry_run {
        true => Ok(PruneReport {
            kept: plan.kept(),
            ..PruneReport::default()
        }),
        false => apply(context, &request.repository, &plan, observer).await,
    }
}
