//! `lifeboat backup`.

use crate::cli::args::Backup;
use crate::cli::output::{Output, size};
use crate::cli::session::Session;
use crate::error::{Kind, Result};
use crate::operation::backup::{BackupReport, BackupRequest, Finished, backup};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

pub(super) async fn run(session: &Session, arguments: Backup, output: &Output) -> Result<ExitCode> {
    let request = BackupRequest {
        include: arguments.include,
        stack: arguments.stack,
        repository: session.repository().await?,
        only: arguments.only,
        sources: session.sources()?,
        tags: arguments.tag.into_iter().collect(),
        pin: arguments.pin,
        allow_partial: arguments.allow_partial,
        level: arguments.level,
        wait: arguments.wait.wait.map(Duration::from_secs),
        quiesce: arguments.quiesce.map(Into::into),
        trigger: "manual".to_owned(),
        dry_run: arguments.dry_run,
    };
    let context = session.context_with_engine(output).await?;
    match backup(&context, request, output).await? {
        BackupReport::Planned(plan) => {
            output.result("plan", &plan, &plan.to_string());
            Ok(ExitCode::SUCCESS)
        }
        BackupReport::Done(finished) => Ok(report(&finished, output)),
    }
}

fn report(finished: &Finished, output: &Output) -> ExitCode {
    let commit = &finished.commit;
    let text = format!(
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
        finished.repository,
    );
    let value = json!({
        "backup": commit.backup,
        "stack": commit.stack,
        "repository": finished.repository,
        "complete": commit.complete,
        "missing": finished.missing,
        "warnings": finished.warnings,
        "artifacts": commit.artifacts,
        "raw_size": commit.raw_size,
        "stored_size": commit.stored_size,
        "seconds": finished.duration.as_secs_f64(),
    });
    output.result("backup", &value, &text);
    match commit.complete {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Kind::Partial.exit_code()),
    }
}
