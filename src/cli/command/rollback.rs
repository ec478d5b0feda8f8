//! `lifeboat rollback`.

use crate::cli::args::Rollback;
use crate::cli::confirm::confirm;
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::error::Result;
use crate::operation::rollback::{RollbackRequest, rollback};
use std::process::ExitCode;
use std::time::Duration;

pub(super) async fn run(
    session: &Session,
    arguments: &Rollback,
    output: &Output,
) -> Result<ExitCode> {
    let context = session.context_with_engine(output).await?;
    let sources = session.sources()?;
    let request = |dry_run| RollbackRequest {
        stack: arguments.stack.clone(),
        sources: sources.clone(),
        discard: arguments.discard,
        wait: arguments.wait.wait.map(Duration::from_secs),
        dry_run,
    };
    if arguments.dry_run {
        let report = rollback(&context, request(true), output).await?;
        output.result("plan", &report.plan, &report.plan.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.yes {
        let planned = rollback(&context, request(true), output).await?;
        output.remark(&planned.plan.to_string());
        let question = match arguments.discard {
            true => "This drops what was kept for good.",
            false => "This puts back what served before.",
        };
        confirm(output, false, question)?;
    }
    let report = rollback(&context, request(false), output).await?;
    let done: Vec<String> = report.plan.steps.iter().map(ToString::to_string).collect();
    let text = format!("done: {}", done.join("\ndone: "));
    output.result("rollback", &report.plan, &text);
    Ok(ExitCode::SUCCESS)
}
