//! What the repositories hold.

use super::coverage::{counts, has_hidden_names};
use super::report::{Growth, RepositoryStatus};
use crate::error::{Error, Kind, Result};
use crate::operation::catalog;
use crate::repository::{Entry, Repository};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// How many backups a picture of growth shows.
const RECENT: usize = 16;

/// A repository that is to be looked at.
#[derive(Debug)]
pub struct RepositoryAsked {
    /// Its name in the configuration, or its address.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Whether a person or a schedule counts on it, so that not to reach it is a failure.
    pub needed: bool,
    /// It, opened; or why it cannot be.
    pub opened: Result<Repository>,
}

/// A repository that was looked at.
#[derive(Debug)]
pub(super) struct Kept {
    pub name: String,
    pub address: String,
    pub needed: bool,
    pub error: Option<Error>,
    /// Backups by stack, newest first.
    pub stacks: BTreeMap<String, Vec<Entry>>,
}

impl Kept {
    /// Whether it is known what it holds. One that is not there holds nothing.
    pub(super) fn is_known(&self) -> bool {
        self.error
            .as_ref()
            .is_none_or(|error| error.kind() == Kind::NotFound)
    }

    pub(super) fn entries(&self, stack: &str) -> &[Entry] {
        self.stacks.get(stack).map_or(&[], Vec::as_slice)
    }

    /// What is said of it, and of the stacks that are `shown`.
    pub(super) fn status(
        &self,
        shown: impl Fn(&str) -> bool,
        now: DateTime<Utc>,
    ) -> RepositoryStatus {
        let all = self.stacks.values().flatten();
        let stacks = self.stacks.iter().filter(|(stack, _)| shown(stack));
        RepositoryStatus {
            name: self.name.clone(),
            address: self.address.clone(),
            error: self.error.as_ref().map(Error::chain),
            backups: self.stacks.values().map(Vec::len).sum(),
            stored_size: stored(all),
            stacks: stacks
                .map(|(stack, entries)| Growth {
                    stack: stack.clone(),
                    backups: entries.len(),
                    stored_size: stored(entries.iter()),
                    recent: recent(entries, now),
                })
                .collect(),
        }
    }
}

fn stored<'e>(entries: impl Iterator<Item = &'e Entry>) -> u64 {
    let commits = entries.filter_map(|entry| entry.commit.as_ref());
    commits
        .map(|commit| commit.stored_size)
        .fold(0, u64::saturating_add)
}

fn recent(entries: &[Entry], now: DateTime<Utc>) -> Vec<u64> {
    let whole = entries.iter().filter(|entry| counts(entry, now));
    let commits = whole.filter_map(|entry| entry.commit.as_ref());
    let mut sizes: Vec<u64> = commits
        .filter(|commit| commit.only.is_empty())
        .map(|commit| commit.stored_size)
        .take(RECENT)
        .collect();
    sizes.reverse();
    sizes
}

/// Lists what a repository holds.
pub(super) async fn look(asked: RepositoryAsked, now: DateTime<Utc>) -> Kept {
    let mut kept = Kept {
        name: asked.name,
        address: asked.address,
        needed: asked.needed,
        error: None,
        stacks: BTreeMap::new(),
    };
    let listed = async {
        let repository = asked.opened?;
        let entries = catalog::list(&repository, None).await?;
        Ok((repository, entries))
    };
    match listed.await {
        Err(error) => kept.error = Some(error),
        Ok((repository, entries)) => {
            for entry in entries {
                kept.stacks
                    .entry(entry.stack.clone())
                    .or_default()
                    .push(entry);
            }
            for entries in kept.stacks.values_mut() {
                let mut newest = entries.iter_mut().filter(|entry| counts(entry, now));
                if let Some(entry) = newest.next().filter(|entry| has_hidden_names(entry)) {
                    reveal(&repository, entry).await;
                }
            }
        }
    }
    kept
}

/// Gives a backup's hidden artifacts their own names, where a key is at hand; of the others no more is known than how
/// many there are.
async fn reveal(repository: &Repository, entry: &mut Entry) {
    let Ok(backup) = repository.open_backup(entry).await else {
        return;
    };
    if let Some(commit) = &mut entry.commit {
        let artifacts = backup.manifest().artifacts.iter();
        commit.artifacts = artifacts.map(|artifact| artifact.name.clone()).collect();
        commit.only.clone_from(&backup.manifest().only);
    }
}
