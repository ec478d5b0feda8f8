//! `lifeboat backup`.

use crate::cli::args::Backup;
use crate::cli::output::{Output, size};
use crate::cli::session::Session;
use crate::error::{Error, Kind, Result};
use crate::event::{Event, Observer};
use crate::operation::backup::{BackupReport, BackupRequest, Finished, backup};
use crate::schedule::Hooks;
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

pub(super) async fn run(session: &Session, arguments: Backup, output: &Output) -> Result<ExitCode> {
    let allow_partial = arguments.allow_partial;
    let request = request(session, arguments, "manual", output).await?;
    let context = session.context_with_engine(output).await?;
    match backup(&context, request, output).await? {
        BackupReport::Planned(plan) => {
            output.result("plan", &plan, &plan.to_string());
            Ok(ExitCode::SUCCESS)
        }
        BackupReport::Done(finished) => report(&finished, allow_partial, output),
    }
}

/// What is asked for, its repositories opened.
///
/// # Errors
/// Where none of them can be opened; usage where new backups were not encrypted and are meant to be.
pub(super) async fn request(
    session: &Session,
    arguments: Backup,
    trigger: &str,
    output: &Output,
) -> Result<BackupRequest> {
    let (repositories, unreachable) = session.repositories(&arguments.recipient).await?;
    let protected = repositories
        .iter()
        .all(|one| one.protection().recipients.is_some());
    if session.loaded.config.encryption.identity.is_some() && !protected {
        // Whoever has set a key up takes new backups for encrypted.
        return Err(Error::usage(
            "[encryption] says who reads, and not who new backups are encrypted to",
        )
        .hint("add recipients: lifeboat key generate has printed the public key"));
    }
    for (address, error) in &unreachable {
        output.observe(&Event::Warning {
            message: format!("{address} is left out: {}", error.chain()),
        });
    }
    Ok(BackupRequest {
        include: arguments.include,
        stack: arguments.stack,
        repositories,
        unreachable,
        only: arguments.only,
        sources: session.sources()?,
        tags: arguments.tag.into_iter().collect(),
        pin: arguments.pin,
        allow_partial: arguments.allow_partial,
        level: arguments.level,
        wait: arguments.wait.wait.map(Duration::from_secs),
        quiesce: arguments.quiesce.map(Into::into),
        hooks: Hooks::default(),
        trigger: trigger.to_owned(),
        dry_run: arguments.dry_run,
    })
}

/// Prints who has the backup.
///
/// # Errors
/// Failed where a repository does not have it, unless partial backups are allowed.
pub(super) fn report(
    finished: &Finished,
    allow_partial: bool,
    output: &Output,
) -> Result<ExitCode> {
    let commit = &finished.commit;
    let holders: Vec<&str> = finished
        .repositories
        .iter()
        .filter(|stored| stored.failed.is_none())
        .map(|stored| stored.repository.as_str())
        .collect();
    let failures: Vec<(&str, String)> = finished
        .repositories
        .iter()
        .filter_map(|stored| Some((&*stored.repository, stored.failed.as_ref()?.chain())))
        .collect();
    let mut text = format!(
        "{} backup {} of {}: {} artifacts, {} → {} in {:.1} s, in {}",
        if commit.complete {
            "complete"
        } else {
            "PARTIAL"
        },
        commit.backup,
        commit.stack,
        commit.artifacts.len(),
        size(commit.raw_size),
        size(commit.stored_size),
        finished.duration.as_secs_f64(),
        holders.join(" and in "),
    );
    for (repository, reason) in &failures {
        let _ = write!(text, "\nNOT in {repository}: {reason}");
    }
    let value = json!({
        "backup": commit.backup,
        "stack": commit.stack,
        "repository": holders.first(),
        "repositories": holders,
        "failed_repositories": failures
            .iter()
            .map(|(repository, reason)| json!({ "repository": repository, "reason": reason }))
            .collect::<Vec<_>>(),
        "complete": commit.complete,
        "missing": finished.missing,
        "warnings": finished.warnings,
        "artifacts": commit.artifacts,
        "raw_size": commit.raw_size,
        "stored_size": commit.stored_size,
        "seconds": finished.duration.as_secs_f64(),
    });
    output.result("backup", &value, &text);
    if let (Some((repository, _)), false) = (failures.first(), allow_partial) {
        return Err(Error::failed(format!(
            "the backup {} is in {}, and not in {}",
            commit.backup,
            holders.join(" and in "),
            failures
                .iter()
                .map(|(repository, _)| *repository)
                .collect::<Vec<_>>()
                .join(" and in "),
        ))
        .hint(format!(
            "lifeboat copy {}/{} --repository {} --to {repository} brings it there",
            commit.stack,
            commit.backup,
            holders.first().unwrap_or(&"R"),
        )));
    }
    Ok(match commit.complete && failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Kind::Partial.exit_code()),
    })
}
