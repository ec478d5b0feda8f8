//! What was restored, held against what was counted when the backup was made.

use super::report::Counted;
use crate::archive::TreeFacts;
use crate::error::{Error, Result};
use crate::source::postgres::DatabaseFacts;
use crate::source::redis::{self, RdbFacts};
use crate::source::volume::VolumeFacts;

/// What a comparison came to, where nothing differs.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub counted: Vec<Counted>,
    /// What could not be compared.
    pub open: Vec<String>,
}

/// What the server has compared of a database. `unchecked` are the tables and sequences that it could not ask for.
pub(super) fn of_database(facts: &DatabaseFacts, unchecked: &[String]) -> Compared {
    let dump = &facts.dump;
    let (mut tables, mut rows, mut unknown) = (0, 0, 0);
    for table in dump.tables.values().flat_map(|schema| schema.values()) {
        match (table.rows, &table.loaded_through) {
            (Some(count), None) => {
                tables += 1;
                rows += count;
            }
            _ => unknown += 1,
        }
    }
    let sequences = dump.sequences.values().flat_map(|schema| schema.values());
    let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    let mut compared = Compared {
        counted: vec![
            Counted::new("tables", tables),
            Counted::new("rows", rows),
            Counted::new("sequences", count(sequences.flatten().count())),
            Counted::new("extensions", count(dump.extensions.len())),
            Counted::new("large objects", dump.large_objects.count),
        ],
        open: Vec::new(),
    };
    match &facts.properties {
        Some(properties) => {
            let grants = properties.grants.as_deref().unwrap_or_default();
            compared
                .counted
                .push(Counted::new("settings", count(properties.settings.len())));
            compared
                .counted
                .push(Counted::new("grants", count(grants.len())));
        }
        None => compared
            .open
            .push("owner, settings and grants: they were not recorded".to_owned()),
    }
    if unknown > 0 {
        compared.open.push(format!(
            "the rows of {unknown} tables: they were not counted one by one when they were dumped"
        ));
    }
    if !unchecked.is_empty() {
        compared.open.push(format!(
            "{}: their names are no text in the database's encoding",
            unchecked.join(", ")
        ));
    }
    compared
}

/// Compares what a server has loaded with what the snapshot holds, database by database.
pub(super) async fn of_snapshot(server: &redis::Server, facts: &RdbFacts) -> Result<Compared> {
    let (loaded, present) = server.loaded().await?;
    let mut compared = Compared::default();
    if !facts.walked {
        let why = facts.not_walked.as_deref().unwrap_or("it is not known why");
        compared.open.push(format!(
            "its keys: the snapshot could not be walked to its end when it was made ({why})"
        ));
        return Ok(compared);
    }
    let mut differences = Vec::new();
    let mut missing = 0;
    for (number, keys) in &facts.databases {
        let found = present.get(number).copied().unwrap_or(0);
        // A key with an expiry may be gone by now; none may be missing else, and none may be new.
        if found > keys.keys || found < keys.keys - keys.expiring {
            differences.push(format!(
                "database {number} has {found} keys instead of {}{}",
                keys.keys,
                match keys.expiring {
                    0 => String::new(),
                    expiring => format!(", {expiring} of them with an expiry"),
                }
            ));
        }
        missing += keys.keys.saturating_sub(found);
        let what = format!("keys in database {number}");
        compared.counted.push(Counted::new(what, found));
    }
    for (number, found) in &present {
        if !facts.databases.contains_key(number) {
            differences.push(format!(
                "database {number} has {found} keys instead of none"
            ));
        }
    }
    let expected: u64 = facts.databases.values().map(|keys| keys.keys).sum();
    if let Some(loaded) = loaded
        && loaded != expected
        && differences.is_empty()
    {
        differences.push(format!("{loaded} keys were loaded instead of {expected}"));
    }
    if missing > 0 {
        compared
            .open
            .push(format!("{missing} keys that have expired since"));
    }
    match differences.is_empty() {
        true => Ok(compared),
        false => Err(Error::failed(differences.join("; "))),
    }
}

/// What was compared of the project's files, whose digest is the recorded one.
pub(super) fn of_files(tree: &TreeFacts) -> Compared {
    Compared {
        counted: vec![
            Counted::new("files", tree.files),
            Counted::new("folders", tree.directories),
            Counted::new(
                "links and pipes",
                tree.symlinks + tree.hard_links + tree.fifos,
            ),
            Counted::new("bytes", tree.bytes),
            Counted::new("tree digest", 1),
        ],
        open: Vec::new(),
    }
}

/// What was compared of a tree whose digest is the recorded one.
pub(super) fn of_tree(tree: &TreeFacts, facts: &VolumeFacts) -> Compared {
    let mut compared = of_files(tree);
    if !facts.changed.is_empty() {
        compared.open.push(format!(
            "{} files changed while they were archived: what is in the archive is what was read of them",
            facts.changed.len()
        ));
    }
    if !facts.skipped.is_empty() {
        compared.open.push(format!(
            "{} devices and sockets, which no archive holds",
            facts.skipped.len()
        ));
    }
    compared
}
