//! `lifeboat volume rm` and `lifeboat volume prune`.

use crate::cli::args::{VolumePrune, VolumeRm};
use crate::cli::confirm::confirm;
use crate::cli::output::{Output, table};
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::operation::Context;
use crate::operation::volume::removal::{
    Candidate, ProjectReport, ProjectRequest, RemoveRequest, look, orphans, remove, remove_project,
};
use crate::repository::Repository;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

pub(super) async fn rm(
    session: &Session,
    arguments: VolumeRm,
    output: &Output,
) -> Result<ExitCode> {
    let repository = wanted_repository(session, arguments.no_backup).await?;
    let context = session.context_with_engine(output).await?;
    let wait = arguments.wait.wait.map(Duration::from_secs);
    if let Some(stack) = arguments.project {
        let request = ProjectRequest {
            stack,
            repository,
            sources: session.sources()?,
            wait,
            dry_run: false,
        };
        return project(&context, request, arguments.yes, arguments.dry_run, output).await;
    }
    let request = RemoveRequest {
        names: arguments.names,
        repository,
        wait,
    };
    let candidates = look(&context, &request, output).await?;
    if let Some(kept) = candidates.iter().find(|candidate| candidate.kept.is_some()) {
        let why = kept.kept.clone().unwrap_or_default();
        let error = Error::failed(format!("volume {} is not removed: {why}", kept.name));
        return Err(match &kept.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        });
    }
    remove_all(
        &context,
        &candidates,
        wait,
        arguments.yes,
        arguments.dry_run,
        output,
    )
    .await
}

pub(super) async fn prune(
    session: &Session,
    arguments: &VolumePrune,
    output: &Output,
) -> Result<ExitCode> {
    let repository = wanted_repository(session, arguments.no_backup).await?;
    let context = session.context_with_engine(output).await?;
    let wait = arguments.wait.wait.map(Duration::from_secs);
    let stack = arguments.stack.as_deref();
    let candidates = orphans(&context, stack, repository.as_ref(), output).await?;
    remove_all(
        &context,
        &candidates,
        wait,
        arguments.yes,
        arguments.dry_run,
        output,
    )
    .await
}

/// Shows what would go and what stays, asks, and removes.
async fn remove_all(
    context: &Context,
    candidates: &[Candidate],
    wait: Option<Duration>,
    yes: bool,
    dry_run: bool,
    output: &Output,
) -> Result<ExitCode> {
    let going: Vec<&Candidate> = candidates.iter().filter(|one| one.kept.is_none()).collect();
    let text = match candidates {
        [] => "no volume is without a container that has it mounted".to_owned(),
        _ => table(
            &["VOLUME", "STACK", "WHAT", "WHY"],
            candidates.iter().map(row),
        ),
    };
    if dry_run || going.is_empty() {
        output.result(
            "volumes",
            &json!({ "volumes": candidates, "removed": [] }),
            &text,
        );
        return Ok(ExitCode::SUCCESS);
    }
    if !yes {
        output.remark(text.trim_end());
        let question = format!(
            "This removes {} volumes with all that is in them.",
            going.len()
        );
        confirm(output, false, &question)?;
    }
    for candidate in &going {
        remove(context, candidate, wait, output).await?;
    }
    let names: Vec<&str> = going.iter().map(|one| one.name.as_str()).collect();
    output.result(
        "volumes",
        &json!({ "volumes": candidates, "removed": names }),
        &format!("removed {}", names.join(", ")),
    );
    Ok(ExitCode::SUCCESS)
}

fn row(candidate: &Candidate) -> Vec<String> {
    let (what, why) = match (&candidate.kept, &candidate.backup) {
        (Some(why), _) => ("keep", why.clone()),
        (None, Some(backup)) => ("remove", format!("{backup} holds it as it is now")),
        (None, None) => ("remove", "NO BACKUP was asked for".to_owned()),
    };
    vec![
        candidate.name.clone(),
        candidate.stack.clone(),
        what.to_owned(),
        why,
    ]
}

async fn project(
    context: &Context,
    request: ProjectRequest,
    yes: bool,
    dry_run: bool,
    output: &Output,
) -> Result<ExitCode> {
    let planned = ProjectRequest {
        stack: request.stack.clone(),
        repository: None,
        sources: request.sources.clone(),
        wait: None,
        dry_run: true,
    };
    let plan = remove_project(context, &planned, output).await?;
    let shown = would(&plan, request.repository.as_ref());
    if dry_run {
        output.result("project", &plan, &shown);
        return Ok(ExitCode::SUCCESS);
    }
    if !yes {
        output.remark(shown.trim_end());
        confirm(
            output,
            false,
            "This takes the whole project down, with its data.",
        )?;
    }
    let report = remove_project(context, &request, output).await?;
    let mut text = format!(
        "removed {}: {} containers, {} volumes, {} networks",
        report.stack,
        report.containers.len(),
        report.volumes.len(),
        report.networks.len()
    );
    if let Some(backup) = &report.backup {
        text.push_str(&format_backup(backup));
    }
    output.result("project", &report, &text);
    Ok(ExitCode::SUCCESS)
}

fn format_backup(backup: &str) -> String {
    format!("\nall of it is in the backup {backup}, which is pinned and was read again")
}

fn would(plan: &ProjectReport, repository: Option<&Repository>) -> String {
    let first = match repository {
        Some(repository) => format!(
            "would back up all of {} to {}, pin the backup and read it again\n",
            plan.stack,
            repository.location()
        ),
        None => "would make NO BACKUP\n".to_owned(),
    };
    let mut lines = vec![first];
    for (what, names) in [
        ("containers", &plan.containers),
        ("networks", &plan.networks),
        ("volumes", &plan.volumes),
    ] {
        if !names.is_empty() {
            lines.push(format!("would remove the {what} {}\n", names.join(", ")));
        }
    }
    lines.concat()
}

/// The repository, unless the person wants no backup to be looked for.
async fn wanted_repository(session: &Session, no_backup: bool) -> Result<Option<Repository>> {
    match no_backup {
        true => Ok(None),
        false => session
            .repository()
            .await
            .map(Some)
            .map_err(|error| match error.hint_text() {
                Some(hint) => {
                    let hint = format!("{hint}; --no-backup removes without looking for a backup");
                    error.hint(hint)
                }
                None => error,
            }),
    }
}
