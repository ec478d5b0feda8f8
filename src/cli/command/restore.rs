//! `lifeboat restore`.

use crate::cli::args::Restore;
use crate::cli::confirm::confirm;
use crate::cli::output::{Output, harmless};
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::manifest::BackupId;
use crate::operation::restore::{Kept, RestoreReport, RestoreRequest, Target, restore};
use crate::operation::step::Step;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

pub(super) async fn run(
    session: &Session,
    arguments: Restore,
    output: &Output,
) -> Result<ExitCode> {
    check_target(&arguments)?;
    let repository = session.repository().await?;
    let entry = repository.resolve(&arguments.backup, None).await?;
    // The project's files come back before there is anything on the engine, or an engine.
    let context = match arguments.only.as_slice() {
        [only] if only == "files" => session.context()?,
        _ => session.context_with_engine(output).await?,
    };
    let sources = session.sources()?;
    let request = |dry_run| RestoreRequest {
        repository: repository.clone(),
        entry: entry.clone(),
        only: arguments.only.clone(),
        target: match &arguments.name {
            Some(name) => Target::As(name.clone()),
            None if arguments.in_place => Target::InPlace,
            None => Target::Beside,
        },
        into: arguments.into.clone(),
        sources: sources.clone(),
        keep_running: arguments.standing.keep_running,
        health: Duration::from_secs(arguments.standing.health_timeout),
        wait: arguments.wait.wait.map(Duration::from_secs),
        dry_run,
    };
    if arguments.dry_run {
        let report = restore(&context, request(true), output).await?;
        output.result("plan", &report.plan, &report.plan.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.in_place && !arguments.yes {
        let planned = restore(&context, request(true), output).await?;
        output.remark(&planned.plan.to_string());
        confirm(
            output,
            false,
            "This puts a backup in the place of what serves now.",
        )?;
    }
    let report = restore(&context, request(false), output).await?;
    print(&report, &entry.reference(), &arguments, output);
    Ok(ExitCode::SUCCESS)
}

/// Tables have a place of their own where nobody names one; nothing else has.
fn check_target(arguments: &Restore) -> Result<()> {
    let has_target = arguments.name.is_some() || arguments.in_place;
    if has_target || arguments.only.iter().any(|only| only.contains(':')) {
        return Ok(());
    }
    Err(
        Error::usage("it is not said where the backup is to be restored to")
            .hint("--as NAME restores beside, --in-place replaces what serves"),
    )
}

fn print(report: &RestoreReport, reference: &str, arguments: &Restore, output: &Output) {
    let schema = report.plan.steps.iter().find_map(|step| match step {
        Step::Carry { schema, .. } => Some(schema),
        _ => None,
    });
    let target = match (&arguments.name, schema) {
        (_, Some(schema)) => format!(" into the schema {}", harmless(schema)),
        (Some(name), None) => format!(" as {name}"),
        (None, None) => " in place".to_owned(),
    };
    let has = |wanted: fn(&Step) -> bool| report.plan.steps.iter().any(wanted);
    let how = if has(|step| {
        matches!(
            step,
            Step::FillVolume { .. } | Step::FillTree { .. } | Step::WriteFiles { .. }
        )
    }) {
        "written where nothing was, and checked"
    } else if has(|step| matches!(step, Step::SwapTree { .. })) {
        "written beside, compared with the backup's facts, swapped"
    } else if report.kept.is_empty() {
        "loaded, compared with the backup's facts"
    } else {
        "loaded, compared with the backup's facts, swapped"
    };
    let mut lines = vec![format!(
        "restored {reference}{target} in {:.1} s: {how}",
        report.duration.as_secs_f64(),
    )];
    lines.extend(aside(report));
    let value = json!({
        "run": report.plan.run,
        "stack": report.plan.stack,
        "backup": reference,
        "kept": report.kept,
        "safety": report.safety,
        "schema": schema,
        "seconds": report.duration.as_secs_f64(),
    });
    output.result("restore", &value, &lines.join("\n"));
}

/// Where what served before is now, and what brings it back.
pub(super) fn aside(report: &RestoreReport) -> Vec<String> {
    let mut lines = Vec::new();
    for kept in &report.kept {
        lines.push(match kept {
            Kept::Database {
                service,
                database,
                kept_as,
            } => format!(
                "kept in {service}: {} as it was before, now called {}",
                harmless(database),
                harmless(kept_as)
            ),
            Kept::Files { service, folder } => format!(
                "kept in {service}: its data files as they were before, in {}",
                harmless(folder)
            ),
        });
    }
    if let Some(safety) = &report.safety {
        lines.push(volumes_are_in(safety));
    }
    let stack = &report.plan.stack;
    if !report.kept.is_empty() {
        lines.push(format!(
            "hint: lifeboat rollback {stack} brings it back; lifeboat rollback {stack} --discard drops it"
        ));
    } else if report.safety.is_some() {
        lines.push(format!("hint: lifeboat rollback {stack} brings it back"));
    }
    lines
}

/// Where what volumes and folders held is.
pub(super) fn volumes_are_in(safety: &BackupId) -> String {
    format!(
        "what the volumes held before is in the backup {safety}, which is pinned; lifeboat restore {safety} --in-place \
         brings it back"
    )
}
