//! A restore of the project's files alone; one of the whole stack leaves them as they are.

use super::write::{check_target, write_to};
use crate::error::{Error, Result};
use crate::event::{Event, Observer};
use crate::manifest::Artifact;
use crate::operation::Context;
use crate::operation::plan::Plan;
use crate::operation::restore::{RestoreReport, RestoreRequest, Target};
use crate::operation::step::Step;
use crate::repository::Backup;
use crate::stack::ArtifactName;
use std::path::Path;
use std::time::Instant;

/// What a restore is asked for, where that is the project's files alone: the folder that they go to.
///
/// # Errors
/// Usage where they are to be restored in place.
pub(in crate::operation) fn asked_alone<'a>(
    selected: &'a [Artifact],
    request: &'a RestoreRequest,
) -> Result<Option<(&'a Artifact, &'a Path)>> {
    let [artifact] = selected else {
        return match names_them(request) && request.target == Target::InPlace {
            true => Err(in_place()),
            false => Ok(None),
        };
    };
    match &request.target {
        _ if artifact.name != ArtifactName::Files => Ok(None),
        Target::As(folder) => Ok(Some((artifact, Path::new(folder)))),
        Target::InPlace | Target::Beside => Err(in_place()),
    }
}

fn names_them(request: &RestoreRequest) -> bool {
    let mut only = request.only.iter();
    only.any(|pattern| ArtifactName::Files.matches(pattern))
}

fn in_place() -> Error {
    Error::usage(
        "the project's files are not restored in place: somebody may have edited them since",
    )
    .hint("--only files --as FOLDER writes them into a new or an empty folder")
}

/// Takes the project's files out of what a restore of the whole stack puts in place.
pub(in crate::operation) fn left_alone(
    selected: &mut Vec<Artifact>,
    only: &[String],
    observer: &dyn Observer,
) {
    let before = selected.len();
    if only.is_empty() {
        selected.retain(|artifact| artifact.name != ArtifactName::Files);
    }
    if selected.len() < before {
        observer.observe(&Event::Detail {
            message: "the project's files are left alone; --only files --as FOLDER writes them into a folder".to_owned(),
        });
    }
}

/// Restores the project's files into a folder; no engine is needed.
pub(in crate::operation) async fn restore(
    context: &Context,
    request: &RestoreRequest,
    backup: &Backup,
    (artifact, folder): (&Artifact, &Path),
    observer: &dyn Observer,
) -> Result<RestoreReport> {
    let begun = Instant::now();
    let run = context.new_id()?;
    backup.check_keys(std::slice::from_ref(artifact)).await?;
    check_target(folder)?;
    let step = Step::WriteFiles {
        folder: folder.to_string_lossy().into_owned(),
    };
    if !request.dry_run {
        observer.observe(&Event::RunStarted {
            operation: "restore",
            run: run.to_string(),
            stack: request.entry.stack.clone(),
        });
        observer.observe(&Event::StepStarted {
            step: step.to_string(),
        });
        write_to(context, backup, artifact, folder, observer).await?;
    }
    Ok(RestoreReport {
        plan: Plan {
            operation: "restore".to_owned(),
            run: run.to_string(),
            stack: request.entry.stack.clone(),
            steps: vec![step],
        },
        done: !request.dry_run,
        kept: Vec::new(),
        safety: None,
        duration: begun.elapsed(),
    })
}
