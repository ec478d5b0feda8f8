//! One artifact, plain: what stock tools read.

use super::plain::plain_bytes;
use crate::error::{Error, Result, nearest};
use crate::repository::{Entry, Repository};
use bytes::Bytes;

/// What to export.
#[derive(Debug)]
pub struct ExportRequest {
    /// The repository.
    pub repository: Repository,
    /// The backup in it.
    pub entry: Entry,
    /// The artifact's name; a bare database name will do where it says enough.
    pub artifact: String,
}

/// What was exported.
#[derive(Debug, Clone)]
pub struct ExportReport {
    /// The artifact.
    pub artifact: String,
    /// What its plain bytes are.
    pub media_type: String,
    /// How many they are.
    pub bytes: u64,
}

/// Writes the plain bytes of an artifact to `sink`. What was written counts only if this returns well: digests
/// are known at the end.
///
/// # Errors
/// Usage, with the nearest names, where there is no such artifact; damaged where a stored byte is wrong.
pub async fn export(
    request: ExportRequest,
    sink: impl AsyncFnMut(Bytes) -> Result<()>,
) -> Result<ExportReport> {
    let backup = request.repository.open_backup(&request.entry).await?;
    let artifacts = &backup.manifest().artifacts;
    let matching: Vec<_> = artifacts
        .iter()
        .filter(|artifact| artifact.name.matches(&request.artifact))
        .collect();
    let names = || {
        artifacts
            .iter()
            .map(|artifact| artifact.name.to_string())
            .collect::<Vec<_>>()
    };
    let artifact = match matching[..] {
        [only] => only,
        [] => {
            let names = names();
            let near = nearest(&request.artifact, names.iter().map(String::as_str)).join(" or ");
            return Err(Error::usage(format!(
                "the backup has nothing called {:?}",
                request.artifact
            ))
            .hint(match near.is_empty() {
                true => format!("it has {}", names.join(", ")),
                false => format!("did you mean {near}?"),
            }));
        }
        _ => {
            return Err(Error::usage(format!(
                "{:?} names {} artifacts",
                request.artifact,
                matching.len()
            ))
            .hint(format!("one of {}", names().join(", "))));
        }
    };
    plain_bytes(&backup, artifact, sink).await?;
    Ok(ExportReport {
        artifact: artifact.name.to_string(),
        media_type: artifact.media_type.clone(),
        bytes: artifact.raw_size,
    })
}
