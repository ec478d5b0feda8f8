//! Deciding what goes. Nothing is removed here.

use super::{Planned, PrunePlan, PruneRequest, StackPlan};
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer};
use crate::manifest::Commit;
use crate::operation::{Context, catalog};
use crate::repository::{Entry, Repository};
use crate::schedule::{CLOCKS_APART, Candidate, Decision, Policy, unite};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many manifests are asked for at once.
const TOGETHER: usize = 16;

/// Tags by a backup's id; empty for one that has none or is gone.
pub(super) type Tags = BTreeMap<String, BTreeMap<String, String>>;

/// Decides what becomes of each backup.
///
/// # Errors
/// Failed, and nothing is decided, where this machine's clock and the store's, or a backup's time, disagree; not found
/// where there is no such stack.
pub async fn plan(
    context: &Context,
    request: &PruneRequest,
    observer: &dyn Observer,
) -> Result<PrunePlan> {
    let repository = &request.repository;
    let now = context.now();
    context
        .unless_cancelled(async {
            check_clock(repository, now, request.dry_run, observer).await?;
            let stacks = stacks(repository, request.stack.as_deref()).await?;
            let mut planned = Vec::new();
            for (stack, entries) in stacks {
                let policies = request.policies.of(&stack).to_vec();
                if !policies.is_empty() {
                    check_future(repository, &entries, now)?;
                }
                planned.push(plan_stack(repository, stack, policies, entries, now).await?);
            }
            Ok(PrunePlan {
                now,
                stacks: planned,
            })
        })
        .await
}

/// The backups that are asked for, by their stacks.
async fn stacks(
    repository: &Repository,
    stack: Option<&str>,
) -> Result<BTreeMap<String, Vec<Entry>>> {
    let entries = match stack {
        // One listing; only where it is empty does it have to be known what there is else.
        Some(stack) => match repository.list(stack).await? {
            entries if entries.is_empty() => catalog::list(repository, Some(stack)).await?,
            entries => entries,
        },
        None => catalog::list(repository, None).await?,
    };
    let mut stacks: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        stacks.entry(entry.stack.clone()).or_default().push(entry);
    }
    Ok(stacks)
}

/// Every rule counts from this machine's time, and ids are made of it: with a wrong clock the wrong ones would go.
async fn check_clock(
    repository: &Repository,
    now: DateTime<Utc>,
    dry_run: bool,
    observer: &dyn Observer,
) -> Result<()> {
    let ahead = match repository.clock_ahead(now).await {
        Ok(ahead) => ahead,
        // Whoever may only read may still look.
        Err(error) if dry_run => {
            observer.observe(&Event::Warning {
                message: format!("the store's clock was not looked at: {}", error.chain()),
            });
            return Ok(());
        }
        Err(error) => return Err(error.while_doing("cannot compare this machine's clock")),
    };
    if ahead.abs() <= CLOCKS_APART.num_seconds() {
        return Ok(());
    }
    let apart = humantime::format_duration(Duration::from_secs(ahead.unsigned_abs()));
    let how = if ahead > 0 { "behind" } else { "ahead of" };
    Err(Error::failed(format!(
        "this machine's clock is {apart} {how} that of {}, so nothing is removed",
        repository.location()
    ))
    .hint("set the clock (timedatectl); lifeboat doctor says when they agree"))
}

/// A backup that is newer than now says that the clock was wrong when it was made, or is now.
pub(super) fn check_future(
    repository: &Repository,
    entries: &[Entry],
    now: DateTime<Utc>,
) -> Result<()> {
    let Some(entry) = entries
        .iter()
        .find(|entry| entry.id.started() > now + CLOCKS_APART)
    else {
        return Ok(());
    };
    Err(Error::failed(format!(
        "{} in {} is newer than this machine's clock, so nothing is removed",
        entry.reference(),
        repository.location()
    ))
    .hint(
        "is the clock right (timedatectl)? If it was wrong when that backup was made, remove that backup by hand, its \
         .backup.json first",
    ))
}

async fn plan_stack(
    repository: &Repository,
    stack: String,
    policies: Vec<Policy>,
    mut entries: Vec<Entry>,
    now: DateTime<Utc>,
) -> Result<StackPlan> {
    let mut tags = Tags::new();
    let by_tags = policies.iter().any(|policy| !policy.rules.tags.is_empty());
    let decisions = loop {
        let decisions = decided(&entries, &tags, &policies, now);
        // What is kept anyway need not be read. A tag that keeps one may let go of another: until nothing is left to ask.
        let unread: Vec<usize> = (0..entries.len())
            .filter(|&at| {
                let of_it = decisions.get(entries[at].id.as_str());
                let goes = of_it.is_some_and(|decision| !decision.keep);
                let complete = |commit: &Commit| commit.complete;
                let counts = entries[at].commit.as_ref().is_some_and(complete);
                by_tags && goes && counts && !tags.contains_key(entries[at].id.as_str())
            })
            .collect();
        if unread.is_empty() {
            break decisions;
        }
        read_tags(repository, &mut entries, &unread, &mut tags).await?;
    };
    let mut decisions = decisions;
    let backups = entries.into_iter().filter_map(|entry| {
        Some(Planned {
            decision: decisions.remove(entry.id.as_str())?,
            tags: tags.remove(entry.id.as_str()),
            entry,
        })
    });
    Ok(StackPlan {
        backups: backups.collect(),
        stack,
        policies,
    })
}

/// Reads the tags of some of the entries. One whose manifest is damaged is damaged from here on.
async fn read_tags(
    repository: &Repository,
    entries: &mut [Entry],
    unread: &[usize],
    tags: &mut Tags,
) -> Result<()> {
    let asked: Vec<(usize, Entry)> = unread.iter().map(|&at| (at, entries[at].clone())).collect();
    let read: Vec<_> = stream::iter(asked)
        .map(|(at, entry)| async move {
            match repository.tags(&entry).await {
                Ok(tags) => Ok((at, Ok(tags.unwrap_or_default()))),
                Err(error) if error.kind() == Kind::Damaged => Ok((at, Err(error.chain()))),
                Err(error) => Err(error),
            }
        })
        .buffered(TOGETHER)
        .try_collect()
        .await?;
    for (at, found) in read {
        let id = entries[at].id.to_string();
        match found {
            Ok(found) => {
                tags.insert(id, found);
            }
            Err(damage) => entries[at].damaged = Some(damage),
        }
    }
    Ok(())
}

/// The decision on each of the entries, by its id.
pub(super) fn decided(
    entries: &[Entry],
    tags: &Tags,
    policies: &[Policy],
    now: DateTime<Utc>,
) -> BTreeMap<String, Decision> {
    let candidates: Vec<Candidate> = entries
        .iter()
        .map(|entry| candidate(entry, tags.get(entry.id.as_str())))
        .collect();
    let decisions = unite(&candidates, policies, now);
    decisions
        .into_iter()
        .map(|decision| (decision.id.clone(), decision))
        .collect()
}

fn candidate(entry: &Entry, tags: Option<&BTreeMap<String, String>>) -> Candidate {
    let commit = entry.commit.as_ref();
    Candidate {
        id: entry.id.to_string(),
        started: entry.id.started(),
        complete: commit.is_some_and(|commit| commit.complete),
        pinned: entry.pinned.is_some(),
        damaged: entry.damaged.is_some(),
        tags: tags.cloned().unwrap_or_default(),
        only: commit.map(|commit| commit.only.clone()).unwrap_or_default(),
    }
}
