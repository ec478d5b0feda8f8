//! `lifeboat restore`.

use crate::cli::args::Restore;
use crate::cli::confirm::confirm;
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::error::Result;
use crate::operation::plan::Plan;
use crate::operation::restore::{RestoreReport, RestoreRequest, Target, restore};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

pub(super) async fn run(
    session: &Session,
    arguments: Restore,
    output: &Output,
) -> Result<ExitCode> {
    let repository = session.repository().await?;
    let entry = repository.resolve(&arguments.backup, None).await?;
    let context = session.context_with_engine().await?;
    let sources = session.sources()?;
    let request = |dry_run| RestoreRequest {
        repository: repository.clone(),
        entry: entry.clone(),
        only: arguments.only.clone(),
        target: match &arguments.name {
            Some(name) => Target::As(name.clone()),
            None => Target::InPlace,
        },
        into: arguments.into.clone(),
        sources: sources.clone(),
        wait: arguments.wait.wait.map(Duration::from_secs),
        dry_run,
    };
    if arguments.dry_run {
        let report = restore(&context, request(true), output).await?;
        output.result("plan", &report.plan, &steps(&report.plan));
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.in_place && !arguments.yes {
        let planned = restore(&context, request(true), output).await?;
        output.remark(&steps(&planned.plan));
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

/// A plan for people.
pub(super) fn steps(plan: &Plan) -> String {
    plan.steps
        .iter()
        .map(|step| format!("would {step}\n"))
        .collect()
}

fn print(report: &RestoreReport, reference: &str, arguments: &Restore, output: &Output) {
    let target = match &arguments.name {
        Some(name) => format!(" as {name}"),
        None => " in place".to_owned(),
    };
    let mut text = format!(
        "restored {reference}{target} in {:.1} s: loaded, compared with the backup's facts{}",
        report.duration.as_secs_f64(),
        if report.kept.is_empty() {
            ""
        } else {
            ", swapped"
        },
    );
    for (service, kept, of) in &report.kept {
        text.push_str(&format!(
            "\nkept in {service}: {of} as it was before, now called {kept}"
        ));
    }
    if !report.kept.is_empty() {
        text.push_str(&format!(
            "\nhint: lifeboat rollback {stack} brings it back; lifeboat rollback {stack} --discard drops it",
            stack = report.plan.stack
        ));
    }
    let kept: Vec<_> = report
        .kept
        .iter()
        .map(|(service, kept, of)| json!({ "service": service, "database": of, "kept_as": kept }))
        .collect();
    let value = json!({
        "run": report.plan.run,
        "stack": report.plan.stack,
        "backup": reference,
        "kept": kept,
        "seconds": report.duration.as_secs_f64(),
    });
    output.result("restore", &value, &text);
}
