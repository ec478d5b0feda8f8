//! `lifeboat recover`.

use crate::cli::args::Recover;
use crate::cli::output::{Output, harmless};
use crate::cli::session::Session;
use crate::error::{Kind, Result};
use crate::operation::pick::pick;
use crate::operation::recover::{RecoverReport, RecoverRequest, recover};
use crate::repository::Entry;
use crate::schedule::DrillChoice;
use serde_json::json;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub(super) async fn run(
    session: &Session,
    arguments: Recover,
    output: &Output,
) -> Result<ExitCode> {
    let repository = session.repository().await?;
    let entry = match &arguments.backup {
        Some(backup) => repository.resolve(backup, Some(&arguments.stack)).await?,
        None => pick(&repository, Some(&arguments.stack), DrillChoice::Newest).await?,
    };
    let context = session.context_with_engine(output).await?;
    let request = RecoverRequest {
        repository,
        entry: entry.clone(),
        images: arguments.image.into_iter().collect(),
        load: arguments.load,
        pull: !arguments.no_pull,
        files_to: arguments.files_to.clone(),
        wait: arguments.wait.wait.map(Duration::from_secs),
        dry_run: arguments.dry_run,
    };
    let report = recover(&context, request, output).await?;
    if arguments.dry_run {
        let text = format!("{}{}", report.plan, besides(&report));
        output.result("plan", &report.plan, &text);
        return Ok(ExitCode::SUCCESS);
    }
    let value = json!({
        "run": report.plan.run,
        "stack": report.plan.stack,
        "backup": entry.reference(),
        "recovered": report.recovered,
        "kept": report.kept,
        "left": report.left,
        "notes": report.notes,
        "seconds": report.duration.as_secs_f64(),
    });
    output.result(
        "recover",
        &value,
        &text(&report, &entry, arguments.files_to.as_deref()),
    );
    Ok(match report.left.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Kind::Partial.exit_code()),
    })
}

fn text(report: &RecoverReport, entry: &Entry, files: Option<&Path>) -> String {
    let mut text = format!(
        "recovered {} in {:.1} s: verified, restored beside, compared with the backup's facts, put in place\n",
        entry.reference(),
        report.duration.as_secs_f64()
    );
    for store in &report.recovered {
        let _ = writeln!(text, "recovered: {}", harmless(store));
    }
    for store in &report.kept {
        let _ = writeln!(
            text,
            "kept, since an earlier run has recovered it: {}",
            harmless(store)
        );
    }
    text.push_str(&besides(report));
    let stack = &report.plan.stack;
    let folder = match files {
        Some(folder) => format!("--project-directory {} ", folder.display()),
        None => String::new(),
    };
    let _ = write!(
        text,
        "next: docker compose {folder}-p {stack} up -d{}",
        if files.is_none() {
            ", in the folder of its Compose file"
        } else {
            ""
        }
    );
    text
}

/// What is not recovered, and what else to know.
fn besides(report: &RecoverReport) -> String {
    let mut text = String::new();
    for left in &report.left {
        let _ = writeln!(
            text,
            "NOT recovered: {}: {}\nhint: {}",
            harmless(&left.artifact),
            left.why,
            harmless(&left.hint)
        );
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {}", harmless(note));
    }
    text
}
