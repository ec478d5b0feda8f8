//! A backup into another repository.

use super::Context;
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::repository::{Copied, Entry, Repository};
use std::time::Instant;

/// What to copy, and where to.
#[derive(Debug)]
pub struct CopyRequest {
    /// The repository that has it.
    pub from: Repository,
    /// The backup in it.
    pub entry: Entry,
    /// The repository that gets it.
    pub to: Repository,
}

/// Copies a backup as it is stored, without its keys. Run again after it was cut off it goes on where it was.
///
/// # Errors
/// Damaged where a byte of the source is not what was written; failed where the other store fails.
pub async fn copy(
    context: &Context,
    request: &CopyRequest,
    observer: &dyn Observer,
) -> Result<Copied> {
    let begun = Instant::now();
    let backup = request.from.open_backup(&request.entry).await?;
    let artifact = request.entry.reference();
    observer.observe(&Event::ArtifactStarted {
        artifact: artifact.clone(),
        expected: Some(backup.commit().stored_size),
    });
    let mut bytes = 0;
    let progress = |_: &str, more| {
        bytes += more;
        observer.observe(&Event::Progress {
            artifact: artifact.clone(),
            bytes,
        });
    };
    let copied = context
        .unless_cancelled(request.to.copy_in(&backup, progress))
        .await
        .map_err(|error| {
            error.while_doing(format!(
                "cannot copy {artifact} to {}",
                request.to.location()
            ))
        })?;
    observer.observe(&Event::ArtifactFinished {
        artifact: artifact.clone(),
        raw_size: backup.commit().raw_size,
        stored_size: backup.commit().stored_size,
        seconds: begun.elapsed().as_secs_f64(),
    });
    Ok(copied)
}
