//! `lifeboat volume diff`.

use crate::cli::args::VolumeDiff;
use crate::cli::output::Output;
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::operation::volume::diff::{DiffRequest, Difference, Other, diff};
use serde_json::json;
use std::process::ExitCode;

pub(super) async fn run(
    session: &Session,
    arguments: &VolumeDiff,
    output: &Output,
) -> Result<ExitCode> {
    let context = session.context_with_engine(output).await?;
    let is_store = arguments.with.starts_with("bind:")
        || context.engine()?.volume_exists(&arguments.with).await?;
    let with = if is_store {
        Other::Store(arguments.with.clone())
    } else {
        let found = async {
            let repository = session.repository().await?;
            let entry = repository.resolve(&arguments.with, None).await?;
            Ok::<_, Error>((repository, entry))
        };
        let backup = found.await.map_err(|error| {
            error.while_doing(format!(
                "{:?} is no volume on this engine, and no backup",
                arguments.with
            ))
        })?;
        Other::Backup(Box::new(backup))
    };
    let request = DiffRequest {
        from: arguments.from.clone(),
        with,
    };
    let report = diff(&context, &request, |difference| {
        output.result("difference", difference, &line(difference));
    })
    .await?;
    let text = format!(
        "{} added, {} removed, {} changed, {} the same",
        report.added, report.removed, report.changed, report.same
    );
    let value = json!({
        "from": arguments.from,
        "with": arguments.with,
        "added": report.added,
        "removed": report.removed,
        "changed": report.changed,
        "same": report.same,
    });
    output.result("diff", &value, &text);
    Ok(ExitCode::SUCCESS)
}

fn line(difference: &Difference) -> String {
    let sign = match difference.change {
        "added" => '+',
        "removed" => '-',
        _ => '~',
    };
    match difference.what[..] {
        [] => format!("{sign} {}", difference.path),
        _ => format!(
            "{sign} {} ({})",
            difference.path,
            difference.what.join(", ")
        ),
    }
}
