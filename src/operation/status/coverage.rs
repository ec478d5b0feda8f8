//! Which backup protects an artifact: pure, the time is an argument.

use crate::repository::Entry;
use crate::stack::ArtifactName;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;

/// How far the clocks of this machine and of whoever made a backup may be apart. What is further in the future was made
/// by a clock that was wrong, and would look new for ever.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(5);

/// Whether a backup is from a time that has not come.
pub(super) fn is_from_the_future(entry: &Entry, now: DateTime<Utc>) -> bool {
    entry.id.started() > now + CLOCKS_APART
}

/// Whether a backup protects what is in it: complete, as far as its commit shows not damaged, and of a time that has
/// come.
pub(super) fn counts(entry: &Entry, now: DateTime<Utc>) -> bool {
    let complete = entry.commit.as_ref().is_some_and(|commit| commit.complete);
    complete && entry.damaged.is_none() && !is_from_the_future(entry, now)
}

/// Whether a backup is of the whole stack, as far as everybody may read: what an encrypted one was limited to is hidden.
pub(super) fn is_whole(entry: &Entry) -> bool {
    entry
        .commit
        .as_ref()
        .is_some_and(|commit| commit.only.is_empty())
}

/// What an artifact is whose name is hidden: how many of them there are says something, which is which does not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    /// A database of this service.
    Database(String),
    Volume,
    Folder,
}

fn sort(artifact: &ArtifactName) -> Option<Sort> {
    match artifact {
        ArtifactName::Database { service, .. } => Some(Sort::Database(service.clone())),
        ArtifactName::Volume { .. } => Some(Sort::Volume),
        ArtifactName::Bind { .. } => Some(Sort::Folder),
        ArtifactName::Globals { .. } | ArtifactName::Redis { .. } | ArtifactName::Files => None,
    }
}

/// Whether an artifact's name is one that says nothing ([`ArtifactName::hidden`]).
fn is_hidden(artifact: &ArtifactName) -> bool {
    let name = match artifact {
        ArtifactName::Database { database, .. } => database,
        ArtifactName::Volume { name } => name,
        ArtifactName::Bind { path } => path.trim_start_matches('/'),
        ArtifactName::Globals { .. } | ArtifactName::Redis { .. } | ArtifactName::Files => {
            return false;
        }
    };
    name.strip_prefix("hidden-").is_some_and(|digits| {
        digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Whether a backup has artifacts under hidden names.
pub(super) fn has_hidden_names(entry: &Entry) -> bool {
    let mut artifacts = entry.commit.iter().flat_map(|commit| &commit.artifacts);
    artifacts.any(is_hidden)
}

/// How many of each a stack has that a backup may have under hidden names.
#[derive(Debug, Default)]
pub(super) struct Census(BTreeMap<Sort, usize>);

impl Census {
    pub(super) fn of<'a>(artifacts: impl IntoIterator<Item = &'a ArtifactName>) -> Self {
        let mut census = BTreeMap::new();
        for sort in artifacts.into_iter().filter_map(sort) {
            *census.entry(sort).or_default() += 1;
        }
        Self(census)
    }
}

/// Whether a backup has an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    /// It has as many under hidden names as the stack has.
    AsManyHidden,
    No,
}

/// Whether `entry`, which counts, has `artifact` of a stack that has so many of each.
pub(super) fn holds(entry: &Entry, artifact: &ArtifactName, census: &Census) -> Holds {
    let artifacts = entry.commit.as_ref().map(|commit| &commit.artifacts);
    let artifacts = artifacts.map_or(&[][..], Vec::as_slice);
    if artifacts.contains(artifact) {
        return Holds::Yes;
    }
    let Some(wanted) = sort(artifact) else {
        return Holds::No;
    };
    let hidden = artifacts
        .iter()
        .filter(|name| is_hidden(name) && sort(name).as_ref() == Some(&wanted))
        .count();
    match hidden > 0 && hidden >= census.0.get(&wanted).copied().unwrap_or(1) {
        true => Holds::AsManyHidden,
        false => Holds::No,
    }
}

/// The newest backup of `entries`, newest first, that counts and has `artifact`; and whether its name is hidden.
pub(super) fn newest<'e>(
    entries: &'e [Entry],
    artifact: &ArtifactName,
    census: &Census,
    now: DateTime<Utc>,
) -> Option<(&'e Entry, bool)> {
    let mut counting = entries.iter().filter(|entry| counts(entry, now));
    counting.find_map(|entry| match holds(entry, artifact, census) {
        Holds::Yes => Some((entry, false)),
        Holds::AsManyHidden => Some((entry, true)),
        Holds::No => None,
    })
}
