//! `lifeboat rollback`.

use super::restore::volumes_are_in;
use crate::cli::args::Rollback;
use crate::cli::confirm::confirm;
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::error::Result;
use crate::manifest::BackupId;
use crate::operation::plan::Plan;
use crate::operation::rollback::{Extent, RollbackRequest, rollback};
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// What is told of it.
#[derive(Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    safety: Option<&'a BackupId>,
}

pub(super) async fn run(
    session: &Session,
    arguments: &Rollback,
    output: &Output,
) -> Result<ExitCode> {
    let context = session.context_with_engine(output).await?;
    let sources = session.sources()?;
    let open = async |address: Option<&str>| session.repository_or(address).await;
    let extent = match (arguments.discard, arguments.without_volumes) {
        (true, _) => Extent::Discard,
        (false, true) => Extent::Servers,
        (false, false) => Extent::All,
    };
    let request = |dry_run| RollbackRequest {
        stack: arguments.stack.clone(),
        sources: sources.clone(),
        extent,
        keep_running: arguments.standing.keep_running,
        health: Duration::from_secs(arguments.standing.health_timeout),
        wait: arguments.wait.wait.map(Duration::from_secs),
        dry_run,
    };
    if arguments.dry_run {
        let report = rollback(&context, request(true), &open, output).await?;
        output.result("plan", &report.plan, &report.plan.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.yes {
        let planned = rollback(&context, request(true), &open, output).await?;
        output.remark(&planned.plan.to_string());
        let question = match arguments.discard {
            true => "This drops what was kept for good.",
            false => "This puts back what served before.",
        };
        confirm(output, false, question)?;
    }
    let report = rollback(&context, request(false), &open, output).await?;
    let done: Vec<String> = report.plan.steps.iter().map(ToString::to_string).collect();
    let mut text = format!("done: {}", done.join("\ndone: "));
    if let Some(safety) = &report.safety {
        let _ = write!(text, "\n{}", volumes_are_in(safety));
    }
    let value = Done {
        plan: &report.plan,
        safety: report.safety.as_ref(),
    };
    output.result("rollback", &value, &text);
    Ok(ExitCode::SUCCESS)
}
