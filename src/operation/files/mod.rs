//! The Compose project's own files: found where lifeboat runs, and written into a folder of that machine.
//!
//! A restore of the stack leaves them alone: what a person has edited since is not overwritten. They are written into a
//! new folder, beside it first, so that a run that dies leaves nothing that looks whole.
//!
//! | file | what it does |
//! | --- | --- |
//! | `find` | what is captured |
//! | `restore` | `restore --only files --as FOLDER` |
//! | `write` | the archive into a folder |

mod find;
mod restore;
mod write;

pub(super) use find::find;
pub(super) use restore::{asked_alone, left_alone, restore};
pub(super) use write::check_target;
pub use write::write_to;

use super::trees::tree_difference;
use crate::archive::TreeFacts;
use crate::error::{Error, OrFail, Result};
use crate::manifest::Artifact;
use crate::pipeline::{Limits, examine};
use crate::repository::Backup;
use crate::source::files::FilesFacts;
use crate::source::volume::TarInspector;

/// Reads the archive of a project's files to its end and compares it with what was counted: what it holds.
///
/// # Errors
/// Damaged where a stored byte is not what was written; failed where the archive is another one.
pub(super) async fn check(backup: &Backup, artifact: &Artifact) -> Result<TreeFacts> {
    let expected = recorded(backup, artifact).await?;
    let limits = Limits {
        raw_size: artifact.raw_size,
    };
    let mut input = examine(limits, Box::new(TarInspector::new()));
    let mut reader = backup.read(artifact);
    while let Some(bytes) = reader.next().await? {
        input.push(bytes).await?;
    }
    let seen = input.finish().await?.inspection.facts;
    let read: TreeFacts =
        serde_json::from_value(seen).or_fail(|| "what the archive holds cannot be read")?;
    match tree_difference(&expected, &read) {
        None => Ok(read),
        Some(difference) => Err(Error::failed(format!(
            "what was read is not what was backed up: {difference}"
        ))),
    }
}

async fn recorded(backup: &Backup, artifact: &Artifact) -> Result<TreeFacts> {
    let facts = backup.facts().await?;
    let facts = facts.0.get(&artifact.name.to_string()).cloned();
    let facts: FilesFacts = serde_json::from_value(facts.unwrap_or_default()).map_err(|error| {
        Error::damaged("the facts of the project's files cannot be read").caused_by(error)
    })?;
    Ok(facts.tree)
}
