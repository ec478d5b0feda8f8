//! `lifeboat volume clone`, `rename` and `migrate`.

use crate::cli::args::{VolumeCopy, VolumeMigrate};
use crate::cli::confirm::confirm;
use crate::cli::environment::connect_options;
use crate::cli::output::{Output, size};
use crate::cli::session::Session;
use crate::docker::connect::{ConnectOptions, connect};
use crate::error::Result;
use crate::operation::volume::copy::{CopyRequest, copy};
use crate::operation::volume::{MigrateRequest, migrate as migrate_volume};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

pub(super) async fn run(
    session: &Session,
    arguments: VolumeCopy,
    rename: bool,
    output: &Output,
) -> Result<ExitCode> {
    let context = session.context_with_engine(output).await?;
    let mut request = CopyRequest {
        from: arguments.from,
        to: arguments.to,
        rename,
        quiesce: arguments.quiesce.map(Into::into),
        wait: arguments.wait.wait.map(Duration::from_secs),
        dry_run: arguments.dry_run,
    };
    if rename && !request.dry_run && !arguments.yes {
        request.dry_run = true;
        let planned = copy(&context, &request, output).await?;
        output.remark(&planned.plan.to_string());
        confirm(output, false, "This removes the old volume in the end.")?;
        request.dry_run = false;
    }
    let report = copy(&context, &request, output).await?;
    if request.dry_run {
        output.result("plan", &report.plan, &report.plan.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let done = if rename { "renamed" } else { "cloned" };
    let tree = report.copied.as_ref().map(|copied| &copied.copy);
    let what = tree.map_or(
        "the folder or device behind it is the same".to_owned(),
        |tree| {
            format!(
                "{} files with {}, the copy read again and compared",
                tree.files,
                size(tree.bytes)
            )
        },
    );
    let text = format!("{done} {} to {}: {what}", request.from, request.to);
    let value = json!({
        "from": request.from,
        "to": request.to,
        "tree": tree,
    });
    let message_type = if rename { "rename" } else { "clone" };
    output.result(message_type, &value, &text);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn migrate(
    session: &Session,
    arguments: VolumeMigrate,
    output: &Output,
) -> Result<ExitCode> {
    let context = session.context_with_engine(output).await?;
    let there = ConnectOptions {
        host: Some(arguments.to_engine.clone()),
        context: None,
        ..connect_options()
    };
    let request = MigrateRequest {
        to: arguments.name.unwrap_or_else(|| arguments.from.clone()),
        from: arguments.from,
        engine: connect(&there).await?,
        quiesce: arguments.quiesce.map(Into::into),
        wait: arguments.wait.wait.map(Duration::from_secs),
    };
    let tree = migrate_volume(&context, &request, output).await?;
    let text = format!(
        "copied {} to {} on {}: {} files with {}, read there again and compared; the original is still here",
        request.from,
        request.to,
        arguments.to_engine,
        tree.files,
        size(tree.bytes)
    );
    let value = json!({
        "from": request.from,
        "to": request.to,
        "engine": arguments.to_engine,
        "tree": tree,
    });
    output.result("migrate", &value, &text);
    Ok(ExitCode::SUCCESS)
}
