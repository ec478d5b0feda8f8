//! `lifeboat prune`.

mod rules;

use crate::cli::args::Prune;
use crate::cli::confirm::confirm;
use crate::cli::environment::now;
use crate::cli::output::{Output, age, harmless, size, table};
use crate::cli::session::Session;
use crate::error::Result;
use crate::operation::prune::{
    Left, Planned, PrunePlan, PruneReport, PruneRequest, StackPlan, apply, plan,
};
use crate::repository::Repository;
use crate::schedule::Policy;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::ExitCode;

pub(super) async fn run(session: &Session, arguments: Prune, output: &Output) -> Result<ExitCode> {
    let location = session.location()?;
    let (policies, stack) = rules::policies(session, &arguments, &location, output)?;
    let repository = session.repository().await?;
    let context = session.context()?;
    let request = PruneRequest {
        repository,
        stack,
        policies,
        dry_run: arguments.dry_run,
    };
    let plan = plan(&context, &request, output).await?;
    let repository = &request.repository;
    if arguments.dry_run {
        let report = PruneReport {
            kept: plan.kept(),
            ..PruneReport::default()
        };
        let text = format!("{}{}", tables(&plan, repository), would(&plan));
        output.result("prune", &value(&plan, &report, repository, true), &text);
        return Ok(ExitCode::SUCCESS);
    }
    output.remark(tables(&plan, repository).trim_end());
    let going = plan.removals().count();
    if going > 0 {
        let question = format!("This removes {}, for good.", backups(going));
        confirm(output, arguments.yes, &question)?;
    }
    let report = apply(&context, repository, &plan, output).await?;
    output.result(
        "prune",
        &value(&plan, &report, repository, false),
        &summary(&report),
    );
    Ok(ExitCode::SUCCESS)
}

/// `1 backup`, `3 backups`.
fn backups(count: usize) -> String {
    match count {
        1 => "1 backup".to_owned(),
        _ => format!("{count} backups"),
    }
}

/// A table for each stack, under what it was decided by.
fn tables(plan: &PrunePlan, repository: &Repository) -> String {
    if plan.stacks.is_empty() {
        return format!("no backups in {}\n", repository.location());
    }
    let all: Vec<String> = plan.stacks.iter().map(stack_table).collect();
    all.join("\n")
}

fn stack_table(stack: &StackPlan) -> String {
    let (all, going) = (stack.backups.len(), stack.removals().count());
    let name = harmless(&stack.stack);
    if stack.policies.is_empty() {
        return format!("{name}: {}, and no rule: all are kept\n", backups(all));
    }
    let by: Vec<String> = stack.policies.iter().map(said).collect();
    let rows = table(
        &["BACKUP", "AGE", "STORED", "STATE", "WHAT", "WHY"],
        stack.backups.iter().map(row),
    );
    format!(
        "{name}: keeps {} of {all}, by {}\n{rows}",
        all - going,
        by.join(" and ")
    )
}

/// `nightly (last 3, daily 7; Europe/Berlin)`.
fn said(policy: &Policy) -> String {
    let whose = policy.schedule.as_deref().unwrap_or("your options");
    format!("{} ({}; {})", harmless(whose), policy.rules, policy.zone)
}

fn row(one: &Planned) -> Vec<String> {
    let commit = one.entry.commit.as_ref();
    vec![
        one.entry.id.to_string(),
        age(one.entry.id.started(), now()),
        commit.map_or("?".to_owned(), |commit| size(commit.stored_size)),
        super::list::state(&one.entry),
        match one.decision.keep {
            true => "keep".to_owned(),
            false => "remove".to_owned(),
        },
        one.decision.reasons.join(", "),
    ]
}

fn would(plan: &PrunePlan) -> String {
    let going = plan.removals().count();
    let bytes: u64 = plan
        .removals()
        .filter_map(|one| one.entry.commit.as_ref())
        .map(|commit| commit.stored_size)
        .sum();
    match going {
        0 => "would remove nothing\n".to_owned(),
        _ => format!("would remove {}, {}\n", backups(going), size(bytes)),
    }
}

fn summary(report: &PruneReport) -> String {
    let mut text = match report.removed.len() {
        0 => format!("removed nothing, {} kept", backups(report.kept)),
        removed => format!(
            "removed {}, {} freed, {} kept",
            backups(removed),
            size(report.freed),
            backups(report.kept)
        ),
    };
    for (what, left) in [("retained", &report.retained), ("spared", &report.spared)] {
        for Left { backup, reason } in left {
            let _ = write!(text, "\n{what} {backup}: {reason}");
        }
    }
    if !report.swept.is_empty() {
        let _ = write!(
            text,
            "\nremoved {} leftovers of runs that did not end",
            report.swept.len()
        );
    }
    text
}

fn value(plan: &PrunePlan, report: &PruneReport, repository: &Repository, dry_run: bool) -> Value {
    json!({
        "repository": repository.location().to_string(),
        "dry_run": dry_run,
        "stacks": plan.stacks.iter().map(stack_value).collect::<Vec<_>>(),
        "removed": report.removed,
        "retained": report.retained,
        "spared": report.spared,
        "kept": report.kept,
        "freed": report.freed,
        "swept": report.swept,
    })
}

fn stack_value(stack: &StackPlan) -> Value {
    let policies = stack.policies.iter().map(|policy| {
        json!({
            "schedule": policy.schedule,
            "rules": policy.rules.to_string(),
            "timezone": policy.zone.name(),
        })
    });
    let backups = stack.backups.iter().map(|one| {
        let commit = one.entry.commit.as_ref();
        json!({
            "backup": one.entry.id,
            "started": one.entry.id.started(),
            "complete": commit.map(|commit| commit.complete),
            "stored_size": commit.map(|commit| commit.stored_size),
            "pinned": one.entry.pinned.is_some(),
            "damaged": one.entry.damaged,
            "keep": one.decision.keep,
            "reasons": one.decision.reasons,
        })
    });
    json!({
        "stack": stack.stack,
        "policies": policies.collect::<Vec<_>>(),
        "backups": backups.collect::<Vec<_>>(),
    })
}
